"""The gate: what lies right passes in every orientation; what is wrong in any way does not."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from dicom.errors import WrongGeometry
from dicom.gate import check_placed, check_sides, check_voxels
from dicom.seg import Form, Masks, SegmentationType
from dicom.study import Series
from dicom.volume import Grid, Mending, Volume, read_grid, read_volume
from tests.dicom.test_volume_geometry import AXIS_PLANES, letters
from tests.enhanced import Frame, write_enhanced
from tests.segmentations import encoded, segments_of, uids_of
from tests.series import AXIAL, ds_text, real_series, turned, write_series

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


# --- what scanners do, and what was mended --------------------------------------------------------


def test_positions_that_a_scanner_rounded_are_no_fault(tmp_path: Path) -> None:
    """To a tenth of a millimetre, and cosines to three digits."""

    def rounded(_: int, ds: Dataset) -> None:
        ds.ImagePositionPatient = [f"{float(v):.1f}" for v in ds.ImagePositionPatient]
        ds.ImageOrientationPatient = [f"{float(v):.3f}" for v in ds.ImageOrientationPatient]

    series = write_series(
        tmp_path,
        plane=turned(AXIAL, (3.0, 2.0, 1.0)),
        shape_kji=SHAPE,
        spacing_kji=(1.25, 0.7, 0.7),
        edit=rounded,
    )
    volume = read_volume(series)
    check_voxels(volume)
    labels_kji = labels_of(volume)
    path = written(labels_kji, volume, tmp_path / "s.dcm")
    check_placed(path, labels_kji, grid_of(volume))
    with pytest.raises(WrongGeometry):
        wrong = np.roll(labels_kji, 1, axis=0)
        check_placed(written(wrong, volume, path), labels_kji, grid_of(volume))


@pytest.mark.parametrize("signed", [0, 1])
def test_values_that_are_stored_dark_for_large_pass(tmp_path: Path, signed: int) -> None:
    def dark(_: int, ds: Dataset) -> None:
        ds.PhotometricInterpretation = "MONOCHROME1"
        ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 12, 11, signed

    series = write_series(tmp_path, modality="MR", shape_kji=SHAPE, spacing_kji=SPACING, edit=dark)
    volume = read_volume(series)
    check_voxels(volume)
    with pytest.raises(WrongGeometry):
        check_voxels(replace(volume, voxels_kji=4095 - volume.voxels_kji))


@pytest.mark.parametrize("step", [(0.9, 0.0), (-1.3, 0.0), (0.4, -0.7)], ids=str)
@pytest.mark.parametrize("degrees", [(0, 0, 0), (25, -14, 40)], ids=str)
def test_a_tilt_that_was_mended_knowingly_passes(
    tmp_path: Path, degrees: tuple[int, int, int], step: tuple[float, float]
) -> None:
    """What the model saw is held against the files; its answer lies on their slices."""
    plane = turned(AXIAL, degrees)
    row, column = (np.array(vector, float) for vector in plane)

    def tilted(k: int, ds: Dataset) -> None:
        position = np.array([float(v) for v in ds.ImagePositionPatient])
        moved = position + k * (step[0] * column + step[1] * row)
        ds.ImagePositionPatient = [ds_text(v) for v in moved]
        ds.stored = ds.stored + np.random.default_rng(k).integers(0, 300, ds.stored.shape)

    series = write_series(tmp_path, plane=plane, shape_kji=SHAPE, spacing_kji=SPACING, edit=tilted)
    volume = read_volume(series, mend={Mending.TILT})
    assert volume.shear is not None
    check_voxels(volume)
    voxels_kji = volume.voxels_kji
    for wrong in (
        *(np.roll(voxels_kji, 1, axis) for axis in range(3)),
        *(np.ascontiguousarray(np.flip(voxels_kji, axis)) for axis in range(3)),
        voxels_kji + np.int16(2),
    ):
        with pytest.raises(WrongGeometry):
            check_voxels(replace(volume, voxels_kji=wrong))
    moved = volume.affine_lps.copy()
    moved[:3, 3] += moved[:3, 2]
    with pytest.raises(WrongGeometry):
        check_voxels(replace(volume, affine_lps=moved))

    labels_kji = np.zeros(volume.source.shape_kji, np.uint8)
    labels_kji[2:7, 4:9, 3:8], labels_kji[3:5, 9:12, 10:14] = 1, 2
    path = written(labels_kji, volume, tmp_path / "s.dcm")
    placed = check_placed(path, labels_kji, volume.source)
    assert (placed.aslant, placed.step_mm) == (True, pytest.approx(SPACING[0]))
    assert placed.voxels == {1: 125, 2: 24}
    with pytest.raises(WrongGeometry):
        check_placed(path, np.roll(labels_kji, 1, axis=1), volume.source)


def test_a_slice_that_lies_elsewhere_than_the_volume_says_is_seen(tmp_path: Path) -> None:
    volume = read_volume(write_series(tmp_path, shape_kji=SHAPE, spacing_kji=SPACING))
    for column, by in ((3, 0), (0, 3), (1, 3), (2, 1)):
        affine_lps = volume.source.affine_lps.copy()
        affine_lps[by % 3, column] += 0.3
        source = replace(volume.source, affine_lps=affine_lps)
        with pytest.raises(WrongGeometry):
            check_voxels(replace(volume, affine_lps=affine_lps, source=source))


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless],
    ids=lambda syntax: syntax.name,
)
def test_sources_of_every_transfer_syntax_are_read(tmp_path: Path, syntax: UID) -> None:
    def nested(_: int, ds: Dataset) -> None:
        """What the gate's reader has to step over: sequences without a length, and unknown ones."""
        item = Dataset()
        item.ReferencedSOPInstanceUID = "1.2.3"
        inner = Dataset()
        inner.ReferencedImageSequence = [item]
        ds.ReferencedStudySequence = [inner]
        ds["ReferencedStudySequence"].is_undefined_length = True
        inner["ReferencedImageSequence"].is_undefined_length = True
        inner.is_undefined_length_sequence_item = True

    small = SHAPE[0], 14, 16
    series = write_series(
        tmp_path, shape_kji=small, spacing_kji=SPACING, transfer_syntax=syntax, edit=nested
    )
    volume = read_volume(series)
    check_voxels(volume)
    labels_kji = labels_of(volume)
    check_placed(written(labels_kji, volume, tmp_path / "s.seg"), labels_kji, grid_of(volume))


def test_a_file_that_was_damaged_meanwhile_ends_in_a_code(tmp_path: Path) -> None:
    series = write_series(tmp_path, shape_kji=SHAPE, spacing_kji=SPACING)
    volume = read_volume(series)
    labels_kji = labels_of(volume)
    path = written(labels_kji, volume, tmp_path / "s.dcm")
    whole = path.read_bytes()
    rng = np.random.default_rng(5)
    for _ in range(120):
        content = bytearray(whole[: int(rng.integers(140, len(whole)))])
        for at in rng.integers(132, len(content), 3):
            content[at] = int(rng.integers(256))
        path.write_bytes(content)
        with contextlib.suppress(WrongGeometry):  # a byte that nobody judges does no harm
            check_placed(path, labels_kji, grid_of(volume))
    for content in (b"", b"DICM", whole[:140], b"\0" * 128 + b"DICM" + b"\xff" * 64):
        path.write_bytes(content)
        with pytest.raises(WrongGeometry):
            check_placed(path, labels_kji, grid_of(volume))


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
