"""Which series a model is given, and how several of them come onto one grid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from scipy import ndimage

from dicom.errors import CannotRegister, MissingInput, NotDicom, UnsuitableSeries
from dicom.sequence import read_sequence
from dicom.study import Series, Study
from models.bundle import Bundle, read_bundle
from models.choice import candidates, choose_series
from models.prediction import Image
from models.registration import on_common_grid, rigid_matrix
from tests.bundles import write_threshold_bundle
from tests.series import write_series

T1 = {"name": "T1", "description": "t1", "contrast": False, "key": "image"}
T1C = {"name": "T1c", "description": "t1", "contrast": True, "key": "image"}
FLAIR = {
    "name": "FLAIR",
    "key": "image",
    "sequence": {"InversionTime": [1500, 3000], "EchoTime": [80, 200]},
    "not_description": "phase",
}


def write_several(folder: Path, inputs: list[dict[str, Any]]) -> Bundle:
    root = write_threshold_bundle(folder, "several")
    path = root / "configs/metadata.json"
    document = json.loads(path.read_text())
    document["radloop"]["inputs"] = inputs
    document["radloop"]["suits"] = {"modalities": ["MR"], "min_slices": 3}
    document["network_data_format"]["inputs"]["image"]["num_channels"] = len(inputs)
    path.write_text(json.dumps(document))
    return read_bundle(root)


def series(folder: Path, name: str, *, slices: int = 4, **attributes: Any) -> Series:
    modality = attributes.pop("Modality", "MR")

    def edit(k: int, ds: Dataset) -> None:
        for keyword, value in attributes.items():
            setattr(ds, keyword, value)

    return write_series(
        folder / name, modality=modality, shape_kji=(slices, 6, 6), name=name, edit=edit
    )


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(
        "2.25.1",
        (
            series(tmp_path, "a", SeriesDescription="T1 tra"),
            series(tmp_path, "b", SeriesDescription="T1 tra", ContrastBolusAgent="yes"),
            series(tmp_path, "c", SeriesDescription="x", EchoTime="120", InversionTime="2500"),
            series(tmp_path, "d", SeriesDescription="phase", EchoTime="120", InversionTime="2500"),
            series(tmp_path, "e", SeriesDescription="T1", slices=2),
            series(tmp_path, "f", SeriesDescription="T1", Modality="CT", slices=9),
        ),
    )


def test_each_input_finds_its_series_by_what_the_images_say(tmp_path: Path, study: Study) -> None:
    bundle = write_several(tmp_path, [T1C, T1, FLAIR])
    a, b, c, *_ = study.series
    assert choose_series(bundle, study, b) == {"T1c": b, "T1": a, "FLAIR": c}


def test_the_best_comes_first_and_the_others_say_why_not(tmp_path: Path, study: Study) -> None:
    found = candidates(write_several(tmp_path, [T1]), study)
    assert [each.why_not is None for each in found] == [True] + [False] * 5
    reasons = " ".join(str(each.why_not) for each in found)
    for part in ("a contrast agent", "does not match t1", "2 slices are fewer", "modality CT"):
        assert part in reasons


def test_an_input_that_the_study_lacks_is_named(tmp_path: Path, study: Study) -> None:
    bundle = write_several(tmp_path, [T1C, T1, {**FLAIR, "not_description": "x|phase"}])
    with pytest.raises(MissingInput, match="FLAIR"):
        choose_series(bundle, study, study.series[1])


def test_no_series_is_given_twice(tmp_path: Path, study: Study) -> None:
    bundle = write_several(tmp_path, [{**T1, "name": "first"}, {**T1, "name": "second"}])
    with pytest.raises(MissingInput, match="second"):
        choose_series(bundle, study, study.series[0])


def test_a_first_series_that_does_not_fit_is_refused(tmp_path: Path, study: Study) -> None:
    with pytest.raises(UnsuitableSeries, match="contrast agent"):
        choose_series(write_several(tmp_path, [T1C]), study, study.series[0])


@pytest.mark.parametrize(
    "rule",
    [
        {**T1, "image_type": ["SECONDARY"]},
        {**T1, "not_image_type": ["PRIMARY"]},
        {**T1, "protocol": "head"},
        {**T1, "modalities": ["PT"]},
        {**T1, "sequence": {"FlipAngle": [0, 5]}},
    ],
)
def test_every_condition_can_rule_a_series_out(
    tmp_path: Path, study: Study, rule: dict[str, Any]
) -> None:
    with pytest.raises(UnsuitableSeries):
        choose_series(write_several(tmp_path, [rule]), study, study.series[0])


def test_a_sequence_is_read_from_classic_and_enhanced_images(tmp_path: Path) -> None:
    classic = series(tmp_path, "classic", EchoTime="3.5", RepetitionTime="2000", FlipAngle="")
    assert read_sequence(classic) == {"EchoTime": 3.5, "RepetitionTime": 2000.0}
    echo, timing, groups = Dataset(), Dataset(), Dataset()
    echo.EffectiveEchoTime, timing.RepetitionTime, timing.FlipAngle = 90.0, 4000.0, 120.0
    groups.MREchoSequence, groups.MRTimingAndRelatedParametersSequence = [echo], [timing]
    none = {"EchoTime": None, "RepetitionTime": None, "FlipAngle": None}
    enhanced = series(tmp_path, "enhanced", SharedFunctionalGroupsSequence=[groups], **none)
    assert read_sequence(enhanced) == {
        "EchoTime": 90.0,
        "RepetitionTime": 4000.0,
        "FlipAngle": 120.0,
    }
    (broken,) = series(tmp_path, "broken", slices=1).instances
    broken.path.write_bytes(b"no DICOM")
    with pytest.raises(NotDicom):
        read_sequence(Series("1", "MR", (broken,)))


# --- one grid -----------------------------------------------------------------------------------


def head(points_lps: np.ndarray) -> np.ndarray:
    """A soft, lopsided head at points of shape (..., 3), so that it fits one way only."""
    value = np.zeros(points_lps.shape[:-1])
    for centre, radius, height in (
        ((0, 0, 0), 38.0, 100.0),
        ((14, 8, 10), 12.0, 90.0),
        ((-16, -12, -8), 9.0, -70.0),
        ((4, -20, 14), 7.0, 120.0),
    ):
        distance = np.linalg.norm(points_lps - np.array(centre), axis=-1)
        value += height / (1 + np.exp((distance - radius) / 1.5))
    return value


def grid(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> np.ndarray:
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = *spacing, 1.0
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def places(affine: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    return index @ affine[:3, :3].T + affine[:3, 3]


def taken(shape: tuple[int, int, int], spacing: tuple[float, float, float], frame: str,
          motion: np.ndarray | None = None, contrast: float = 1.0) -> Image:  # fmt: skip
    """The head on a grid; `motion` maps a place in the head to its place in the image."""
    affine = grid(shape, spacing)
    points = places(affine, shape)
    if motion is not None:
        back = np.linalg.inv(motion)
        points = points @ back[:3, :3].T + back[:3, 3]
    value = head(points)
    return Image((contrast * value).astype(np.float32), affine, frame)


def motion(degrees: float, shift: tuple[float, float, float]) -> np.ndarray:
    turn = np.deg2rad(degrees)
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    matrix[:3, 3] = shift
    return matrix


SMALL = (26, 32, 32)
SPACING = (3.4, 3.0, 3.0)
COARSE = (22, 34, 30)


def test_images_of_one_frame_are_resampled_where_they_lie() -> None:
    first = taken(SMALL, SPACING, "2.25.1")
    other = taken(COARSE, (4.0, 3.0, 3.5), "2.25.1")
    placed = on_common_grid({"a": first, "b": other}, registration="auto")
    assert placed["a"] is first
    inside = places(first.affine_lps, SMALL)
    far = np.abs(inside).max(-1) < 36
    difference = np.abs(placed["b"].voxels - first.voxels)[far]
    assert difference.mean() < 2.0  # of 100
    np.testing.assert_array_equal(placed["b"].affine_lps, first.affine_lps)


def test_an_image_on_the_grid_already_is_not_touched() -> None:
    first = taken(SMALL, SPACING, "2.25.1")
    again = taken(SMALL, SPACING, "2.25.1", contrast=2.0)
    assert on_common_grid({"a": first, "b": again}, registration="auto")["b"] is again


def test_another_frame_of_reference_is_registered_and_twice_the_same() -> None:
    moved = motion(9.0, (6.0, -4.0, 3.0))
    first = taken(SMALL, SPACING, "2.25.1")
    other = taken(SMALL, SPACING, "2.25.2", motion=moved, contrast=-1.0)
    found = rigid_matrix(first, other)
    points = np.array([[20, 10, 5], [-20, 5, -10], [0, -20, 15], [0, 0, 0]], float)
    by_truth = points @ moved[:3, :3].T + moved[:3, 3]
    by_found = points @ found[:3, :3].T + found[:3, 3]
    assert np.linalg.norm(by_truth - by_found, axis=1).max() < 1.5  # half a voxel, mm
    placed = [on_common_grid({"a": first, "b": other}, registration="auto") for _ in range(2)]
    np.testing.assert_array_equal(placed[0]["b"].voxels, placed[1]["b"].voxels)
    ours = -placed[0]["b"].voxels
    middle = ndimage.binary_erosion(np.ones(SMALL, bool), iterations=5)
    before = np.abs(-other.voxels - first.voxels)[middle].mean()
    assert np.abs(ours - first.voxels)[middle].mean() < before / 3


def test_a_bundle_may_say_that_nothing_moves() -> None:
    first = taken(SMALL, SPACING, "2.25.1")
    other = taken(SMALL, SPACING, "2.25.2", motion=motion(9.0, (6.0, -4.0, 3.0)))
    placed = on_common_grid({"a": first, "b": other}, registration="never")
    assert placed["b"] is other


def test_images_that_do_not_overlap_are_refused() -> None:
    first = taken(SMALL, SPACING, "2.25.1")
    away = first.affine_lps.copy()
    away[2, 3] += 500
    other = Image(first.voxels, away, "2.25.1")
    with pytest.raises(CannotRegister, match="FLAIR"):
        on_common_grid({"T1": first, "FLAIR": other}, registration="auto")
