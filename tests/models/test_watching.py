"""What a training leaves for those who watch it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.learning.events import EventFile
from models.learning.pictures import PALETTE, as_png, colours_of, painted, sheet, slice_to_show
from models.learning.planning import UNetPlan
from models.learning.trainer import train
from models.learning.watching import looks_of
from tests.learning import blobs, small_plan

pytestmark = pytest.mark.usefixtures("one_thread")

event_files = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator", reason="reads what is written"
)


def read_events(folder: Path):
    found = event_files.EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    found.Reload()
    return found


def test_tensorboard_reads_values_and_pictures(tmp_path: Path) -> None:
    picture = as_png(np.full((7, 300, 3), 80, np.uint8))
    for name in ("first", "second"):  # one that was killed, one that goes on
        events = EventFile(tmp_path)
        for step in (1, 300):
            values = {"loss": 0.5 / step, name: -2.5}
            events.add(step, scalars=values, pictures={"unseen/c1": (7, 300, picture)})
    found = read_events(tmp_path)
    assert [(one.step, one.value) for one in found.Scalars("first")] == [(1, -2.5), (300, -2.5)]
    assert [one.step for one in found.Scalars("loss")][:2] == [1, 300]
    image = found.Images("unseen/c1")[0]
    assert (image.height, image.width) == (7, 300)
    assert image.encoded_image_string == picture


@pytest.mark.parametrize("task", ["segmentation", "multilabel", "classification"])
def test_each_epoch_leaves_pictures_of_unseen_cases(tmp_path: Path, task: str) -> None:
    folder = blobs(tmp_path / "data", task=task, patients=("train",) * 3 + ("validation",) * 3)
    if task == "classification":
        network = {"kind": "densenet", "layers": (2, 2), "first_channels": 8, "growth": 8}
        plan = small_plan(
            task=task, loss="cross_entropy", steps=20, patch=(32, 32), network=network
        )
    else:
        loss = {"segmentation": "dice_ce", "multilabel": "dice_bce"}[task]
        plan = small_plan(task=task, loss=loss, steps=20)
    done = train(folder, plan, tmp_path / "run", cache=tmp_path / "cache")
    looks = looks_of(done.run)
    assert set(looks) == {epoch.number for epoch in done.epochs}
    assert {len(paths) for paths in looks.values()} == {2}  # of three cases that are not learnt
    size = Image.open(looks[1][0]).size
    assert size == ((256, 277) if task == "classification" else (516, 256))  # words below
    events = read_events(done.run)
    assert [one.step for one in events.Scalars("loss")] == [epoch.step for epoch in done.epochs]
    names = folder.dataset.classes.values()
    assert {f"score/{name}" for name in names} <= set(events.Tags()["scalars"])


def test_what_is_true_is_seen_where_it_is(tmp_path: Path) -> None:
    folder = blobs(tmp_path / "data", slices=8, side=32)
    network = UNetPlan(channels=(8, 16), strides=(2,), residual_units=1)
    plan = small_plan(
        dimensions=3, patch=(16, 16, 8), network=network, steps=4, spacing_mm=(1.0, 1.0, 2.0)
    )
    done = train(folder, plan, tmp_path / "run", cache=tmp_path / "cache")
    case = folder.dataset.of("validation")[0]
    label = np.asarray(folder.label(case))
    at = slice_to_show(label, 8)
    expected = painted(
        np.asarray(folder.image(case))[:, at], label[at], colours_of(folder.dataset), side=256
    )
    picture = np.asarray(Image.open(looks_of(done.run)[1][0]))[:, :256]
    edge = (picture == colours_of(folder.dataset)[1]).all(axis=2)
    assert edge.any()
    assert (edge == (expected == colours_of(folder.dataset)[1]).all(axis=2)).mean() > 0.99


def test_labels_are_tinted_and_edged_and_sheets_hold_all() -> None:
    image = np.zeros((1, 10, 20), np.float32)
    label = np.zeros((10, 20), np.uint8)
    label[2:8, 4:12] = 1
    drawn = painted(image, label, {1: (200, 100, 0)})
    assert drawn[2, 4].tolist() == [200, 100, 0]  # the edge
    assert drawn[4, 6].tolist() == [70, 35, 0]  # the inside
    assert drawn[0, 0].tolist() == [0, 0, 0]
    several = painted(image, np.stack([label * 0, label]), {})
    assert several[2, 4].tolist() == list(PALETTE[2])
    assert painted(image, label, {}, side=40).shape == (20, 40, 3)
    assert sheet([drawn, drawn, drawn], columns=2).shape == (24, 44, 3)
    volume = np.zeros((5, 10, 20), np.uint8)
    volume[3] = label
    assert slice_to_show(volume, 5) == 3
    assert slice_to_show(None, 5) == 2
