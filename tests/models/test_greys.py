"""Grey values in short: what was taught is told from what is shown."""

from pathlib import Path

import numpy as np

from models.greys import greys_of, read_taught, taught_by, write_taught

DRAW = np.random.default_rng(7)


def image(middle: float = 40.0, spread: float = 100.0):
    return DRAW.normal(middle, spread, (1, 8, 40, 40)).astype(np.float32)


def test_another_unit_or_window_is_unlike_what_was_taught(tmp_path: Path):
    write_taught(tmp_path, taught_by(image(40 + n) for n in range(12)))
    taught = read_taught(tmp_path)
    assert taught is not None
    assert taught.unlikeness(greys_of(image(45))) <= taught.usual
    for strange in (image(45 + 1024), image(45, 30), np.clip(image(45), 0, 80)):
        assert taught.unlikeness(greys_of(strange)) > 2 * taught.usual


def test_constant_images_and_what_cannot_be_read_are_no_trouble(tmp_path: Path):
    taught = taught_by([np.zeros((1, 2, 4, 4))])
    assert taught.unlikeness(greys_of(np.zeros(9))) == 0
    assert taught.unlikeness(greys_of(np.ones(9))) == 1
    assert read_taught(tmp_path) is None
    (tmp_path / "greys.json").write_text('{"percentiles": [1], "usual": 2}')
    assert read_taught(tmp_path) is None
