"""A model that is given what lies about a segment of another's answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dicom.errors import InvalidBundle, RegionNotFound, UnknownBundle
from models.bundle import read_bundle
from models.grids import cropped, region_about
from models.prediction import Image
from models.predictor import Predictor, open_predictor
from models.process import PredictorProcess
from models.registry import Registry
from tests.bundles import inference, metadata, threshold_state, write_bundle, write_threshold_bundle

SPACING = (3.0, 2.0, 1.0)
AFFINE = np.diag([*SPACING, 1.0])[[2, 1, 0, 3]] @ np.eye(4)


def write_second(folder: Path, name: str = "second", *, after: dict[str, Any]) -> Path:
    """Write a bundle that spreads what it is given over 0..100, and calls all above 50 brain."""
    document = metadata()
    document["radloop"]["after"] = after
    configuration = inference()
    configuration["preprocessing"]["transforms"].append(
        {"_target_": "ScaleIntensityd", "keys": "image", "minv": 0.0, "maxv": 100.0}
    )
    return write_bundle(folder, name, document, configuration, threshold_state(50))


AFTER = {"bundle": "first@0.1.0", "segment": "brain", "margin_mm": 2.5}


def image() -> tuple[np.ndarray, tuple[slice, slice, slice]]:
    """An organ (above 500) with a dim spot beside it, and a far brighter thing elsewhere."""
    voxels = np.zeros((8, 12, 20), np.float32)
    voxels[2:5, 4:8, 6:12] = 600
    voxels[3, 5, 13] = 500  # within the margin of 2.5 mm, of 3 columns
    voxels[3, 5, 16] = 500  # beyond it
    voxels[7, 11, 19] = 450
    return voxels, (slice(1, 6), slice(2, 10), slice(3, 15))


def test_the_second_model_sees_the_region_of_the_first_and_no_more(tmp_path: Path) -> None:
    write_threshold_bundle(tmp_path, "first", threshold=500)
    second = write_second(tmp_path, after=AFTER)
    voxels, region = image()
    shares: list[float] = []
    predictor = open_predictor(read_bundle(second), lambda: Registry([tmp_path]), device="cpu")
    prediction = predictor.predict(voxels, AFFINE, progress=shares.append)
    expected = np.zeros_like(voxels, dtype=bool)
    expected[region] = voxels[region] > 300
    assert expected[3, 5, 13]
    assert not expected[3, 5, 16]
    np.testing.assert_array_equal(prediction.labels_kji, expected)
    assert prediction.bundle_sha256 == read_bundle(second).sha256
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_the_child_finds_the_first_model_by_itself(tmp_path: Path) -> None:
    write_threshold_bundle(tmp_path, "first", threshold=500)
    write_second(tmp_path, after=AFTER)
    voxels, region = image()
    with PredictorProcess([tmp_path], device="cpu", threads=1) as process:
        labels_kji = process.predict("second", voxels, AFFINE).labels_kji
        assert labels_kji[region].sum() == labels_kji.sum() > 0


def test_nothing_found_first_is_said_and_no_empty_answer(tmp_path: Path) -> None:
    write_threshold_bundle(tmp_path, "first", threshold=500)
    second = write_second(tmp_path, after=AFTER)
    predictor = open_predictor(read_bundle(second), lambda: Registry([tmp_path]), device="cpu")
    with pytest.raises(RegionNotFound) as raised:
        predictor.predict(np.zeros((4, 4, 4)), AFFINE)
    assert raised.value.code == "region_not_found"


@pytest.mark.parametrize(
    ("after", "error", "reason"),
    [
        ({**AFTER, "segment": "Liver"}, InvalidBundle, "no 'Liver'"),
        ({**AFTER, "bundle": "first@9.9.9"}, UnknownBundle, r"first@9\.9\.9"),
        ({**AFTER, "bundle": "second@0.1.0"}, InvalidBundle, "in a circle"),
    ],
)
def test_a_first_model_that_cannot_be_is_refused(
    tmp_path: Path, after: dict[str, Any], error: type[Exception], reason: str
) -> None:
    write_threshold_bundle(tmp_path, "first", threshold=500)
    second = read_bundle(write_second(tmp_path, after=after))
    with pytest.raises(error, match=reason):
        open_predictor(second, lambda: Registry([tmp_path]), device="cpu")


def test_a_bundle_that_comes_second_is_not_run_alone(tmp_path: Path) -> None:
    second = read_bundle(write_second(tmp_path, after=AFTER))
    with pytest.raises(InvalidBundle, match=r"works after first@0\.1\.0 only"):
        Predictor(second, device="cpu")


@pytest.mark.parametrize("wrong", ["first", "first@", "../first@0.1.0", "first@0.1.0/.."])
def test_the_first_model_is_named_with_its_version(tmp_path: Path, wrong: str) -> None:
    root = write_second(tmp_path, after={**AFTER, "bundle": wrong})
    with pytest.raises(InvalidBundle, match=r"radloop\.after\.bundle"):
        read_bundle(root)


def test_a_region_keeps_its_place(tmp_path: Path) -> None:
    voxels, _ = image()
    region = region_about(voxels > 500, SPACING, 0.0)
    part = cropped(Image(voxels, AFFINE), region)
    assert part.shape_kji == (3, 4, 6)
    at = np.array([1, 2, 3, 1.0])
    whole = at + np.array([*(block.start for block in region), 0])
    np.testing.assert_allclose(part.affine_lps @ at, AFFINE @ whole)
