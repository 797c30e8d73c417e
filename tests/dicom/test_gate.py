"""The gate: what lies right passes in every orientation; what is wrong in any way does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from dicom.errors import WrongGeometry
from dicom.gate import check_placed, check_sides, check_voxels
from dicom.seg import Form, Masks, SegmentationType
from dicom.study import Series
from dicom.volume import Grid, Volume, read_grid, read_volume
from tests.dicom.test_volume_geometry import AXIS_PLANES, letters
from tests.enhanced import Frame, write_enhanced
from tests.segmentations import encoded, segments_of, uids_of
from tests.series import AXIAL, real_series, turned, write_series

SHAPE = (9, 14, 16)
SPACING = (4.0, 2.5, 2.25)
NAMES = ("kidney_left", "kidney_right", "liver")


def labels_of(volume: Volume | Grid) -> np.ndarray:
    """Return labels without any symmetry, the left kidney on the patient's left."""
    labels_kji = np.zeros(volume.shape_kji, np.uint8)
    index = np.indices(volume.shape_kji).reshape(3, -1)
    x = (volume.affine_lps @ np.vstack([index, np.ones(index.shape[1])]))[0]
    x = x.reshape(volume.shape_kji)
    k, j, i = volume.shape_kji
    box = np.zeros(volume.shape_kji, bool)
    box[1 : k - 1, j // 5 : j // 2, 1 : i - 3] = True
    box[k // 2 : k // 2 + 2, j // 2 : j // 2 + 3, 2:5] = True
    middle = float(np.median(x))
    labels_kji[box & (x > middle + 3)] = 1
    labels_kji[box & (x < middle - 3)] = 2
    labels_kji[-1, -2:, -4:] = 3
    return labels_kji


def written(labels: np.ndarray | Masks, source: Grid | Volume, path: Path, **changed) -> Path:
    ds = encoded(labels, source, segments_of(*NAMES), uids=uids_of(len(NAMES)), **changed)
    ds.save_as(path, enforce_file_format=True)
    return path


def grid_of(source: Grid | Volume) -> Grid:
    return source.source if isinstance(source, Volume) else source


# --- what lies right ------------------------------------------------------------------------------


@pytest.mark.parametrize("downwards", [False, True], ids=["up", "down"])
@pytest.mark.parametrize("plane", AXIS_PLANES, ids=letters)
def test_all_48_axis_orientations_pass(
    tmp_path: Path, plane: tuple[np.ndarray, np.ndarray], downwards: bool
) -> None:
    order = range(SHAPE[0])[:: -1 if downwards else 1]
    classic = write_series(tmp_path, plane=plane, shape_kji=SHAPE, spacing_kji=SPACING)
    instances = tuple(classic.instances[index] for index in order)
    enhanced = write_enhanced(
        tmp_path / "enhanced",
        plane=plane,
        shape_kji=SHAPE,
        spacing_kji=SPACING,
        frames=[Frame(k) for k in order],
    )
    for series in (Series(classic.series_uid, "CT", instances), enhanced):
        volume = read_volume(series)
        check_voxels(volume)
        labels_kji = labels_of(volume)
        masks = Masks.of([labels_kji == number for number in (1, 2, 3)])
        path = written(labels_kji, volume, tmp_path / "seg.dcm")
        check_placed(path, labels_kji, grid_of(volume))
        check_placed(path, masks, grid_of(volume))
        check_sides(masks, segments_of(*NAMES), volume.affine_lps, volume)
        mirrored = Masks.of([labels_kji == number for number in (2, 1, 3)])
        with pytest.raises(WrongGeometry):
            check_sides(mirrored, segments_of(*NAMES), volume.affine_lps)


@pytest.mark.parametrize("angles", [(20.0, 0.0, 0.0), (10.0, -35.0, 5.0), (44.0, 44.0, 44.0)])
def test_obliques_pass(tmp_path: Path, angles: tuple[float, float, float]) -> None:
    series = write_series(
        tmp_path, plane=turned(AXIAL, angles), shape_kji=SHAPE, spacing_kji=(1.3, 0.7, 2.9)
    )
    volume = read_volume(series)
    check_voxels(volume)
    labels_kji = labels_of(volume)
    check_placed(written(labels_kji, volume, tmp_path / "s.dcm"), labels_kji, grid_of(volume))


@pytest.mark.parametrize("slices", [1, 2, 600])
def test_one_slice_and_six_hundred_pass(tmp_path: Path, slices: int) -> None:
    series = write_series(tmp_path, shape_kji=(slices, 8, 9), spacing_kji=(0.5, 2, 2))
    volume = read_volume(series)
    check_voxels(volume)
    labels_kji = np.zeros(volume.shape_kji, np.uint8)
    labels_kji[: slices // 2 + 1, 2:5, 1:4] = 1
    check_placed(written(labels_kji, volume, tmp_path / "s.dcm"), labels_kji, grid_of(volume))


@pytest.mark.parametrize("kind", ["binary", "labelmap", "fractional"])
def test_every_form_passes(tmp_path: Path, kind: SegmentationType) -> None:
    volume = read_volume(write_series(tmp_path, shape_kji=SHAPE, spacing_kji=SPACING))
    labels_kji = labels_of(volume)
    path = written(labels_kji, volume, tmp_path / "s.dcm", form=Form(kind))
    check_placed(path, labels_kji, grid_of(volume))


def test_overlapping_segments_pass(tmp_path: Path) -> None:
    volume = read_volume(write_series(tmp_path, shape_kji=SHAPE, spacing_kji=SPACING))
    labels_kji = labels_of(volume)
    masks = Masks.of([labels_kji > 0, labels_kji == 2, labels_kji == 3])
    check_placed(written(masks, volume, tmp_path / "s.dcm"), masks, grid_of(volume))


def test_the_names_of_the_archive_are_followed(tmp_path: Path) -> None:
    volume = read_volume(write_series(tmp_path, shape_kji=SHAPE, spacing_kji=SPACING))
    labels_kji = labels_of(volume)
    path = written(labels_kji, volume, tmp_path / "s.dcm")
    ds = dcmread(path)
    first = dcmread(volume.instances[0].path)
    old = {str(i.sop_instance_uid) for i in volume.instances} | {
        str(first[keyword].value)
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
    }
    names = {uid: f"1.2.3.{n}" for n, uid in enumerate(sorted(old))}
    for element in ds.iterall():
        if element.VR == "UI" and element.value in names:
            element.value = names[element.value]
    ds.save_as(path)
    check_placed(path, labels_kji, grid_of(volume), names=names)
    with pytest.raises(WrongGeometry):
        check_placed(path, labels_kji, grid_of(volume))
    for uid in old:
        with pytest.raises(WrongGeometry):
            check_placed(path, labels_kji, grid_of(volume), names={**names, uid: "1.2.3.99"})


# --- what lies wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("kind", ["binary", "labelmap", "fractional"])
def test_a_flip_of_any_axis_is_held_back(tmp_path: Path, axis: int, kind: SegmentationType) -> None:
    volume = read_volume(write_series(tmp_path, shape_kji=SHAPE, spacing_kji=SPACING))
    labels_kji = labels_of(volume)
    flipped = np.ascontiguousarray(np.flip(labels_kji, axis))
    path = written(flipped, volume, tmp_path / "s.dcm", form=Form(kind))
    with pytest.raises(WrongGeometry):
        check_placed(path, labels_kji, grid_of(volume))


def test_a_shift_by_one_voxel_and_a_missing_slice_are_held_back(tmp_path: Path) -> None:
    volume = read_volume(write_series(tmp_path, shape_kji=SHAPE, spacing_kji=SPACING))
    labels_kji = labels_of(volume)
    less = labels_kji.copy()
    less[-1] = 0
    for wrong in (*(np.roll(labels_kji, 1, axis) for axis in range(3)), less):
        path = written(wrong, volume, tmp_path / "s.dcm")
        with pytest.raises(WrongGeometry):
            check_placed(path, labels_kji, grid_of(volume))
    one = labels_kji.copy()
    one[3, 5, 5] = 3 - one[3, 5, 5]
    with pytest.raises(WrongGeometry):
        check_placed(written(one, volume, tmp_path / "s.dcm"), labels_kji, grid_of(volume))


def test_slices_that_were_mixed_up_on_reading_are_seen(tmp_path: Path) -> None:
    volume = read_volume(write_series(tmp_path, shape_kji=SHAPE, spacing_kji=SPACING))
    check_voxels(volume)
    for wrong in (
        replace(volume, voxels_kji=np.ascontiguousarray(volume.voxels_kji[::-1])),
        replace(volume, voxels_kji=np.ascontiguousarray(volume.voxels_kji[:, ::-1])),
        replace(volume, voxels_kji=np.ascontiguousarray(volume.voxels_kji[:, :, ::-1])),
        replace(volume, voxels_kji=volume.voxels_kji + np.int16(1)),
        replace(
            volume,
            voxels_kji=np.ascontiguousarray(volume.voxels_kji[::-1]),
            source=replace(volume.source, sources=volume.source.sources[::-1]),
        ),
    ):
        with pytest.raises(WrongGeometry):
            check_voxels(wrong)


# --- real series ----------------------------------------------------------------------------------


def test_chaos_ct_passes_and_its_wrong_thickness_misleads_nobody(tmp_path: Path) -> None:
    """Step 2.0 mm against SliceThickness 3.2, running downwards."""
    series = real_series("ct/chaos_ct_set3/DICOM_anon.tar.xz", tmp_path)
    volume = read_volume(series)
    check_voxels(volume)
    labels_kji = np.zeros(volume.shape_kji, np.uint8)
    labels_kji[10:14, 200:260, 100:180] = 1
    check_placed(written(labels_kji, volume, tmp_path / "s.dcm"), labels_kji, grid_of(volume))
    wrong = np.roll(labels_kji, 1, axis=0)
    with pytest.raises(WrongGeometry):
        check_placed(written(wrong, volume, tmp_path / "s.dcm"), labels_kji, grid_of(volume))


def test_a_real_sagittal_head_passes(tmp_path: Path) -> None:
    series = real_series("mr/sag_anon_t1_dicom/dicom.tar.xz", tmp_path)
    grid = read_grid(series)
    check_voxels(read_volume(series))
    labels_kji = np.zeros(grid.shape_kji, np.uint8)
    labels_kji[40:44, 60:90, 100:120] = 1
    check_placed(written(labels_kji, grid, tmp_path / "s.dcm"), labels_kji, grid)


def test_the_plane_of_the_phantom_is_what_it_says() -> None:
    assert np.allclose(np.cross(*AXIAL), (0, 0, 1))
