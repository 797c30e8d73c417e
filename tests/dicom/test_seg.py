from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import highdicom
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom.codes import LEFT, STRUCTURES, cielab
from dicom.errors import InvalidSegmentation, NotDicom
from dicom.phantom import head_mr, write_head_study
from dicom.seg import (
    Segment,
    check_seg,
    decode_seg,
)
from dicom.volume import Volume, read_grid, read_volume
from tests.examples import examples
from tests.segmentations import (
    bytes_of,
    encoded,
    problems,
    read_by_dcmqi,
    read_by_highdicom,
    segments_of,
    uids_of,
)
from tests.series import (
    AXIAL,
    LEFT_BALL_LPS,
    PLANES,
    ds_text,
    picture_on,
    real_series,
    turned,
    write_series,
)


def two_labels(volume: Volume) -> np.ndarray:
    """Return 1 in the ball on the left, 2 above some height of the ramp, 0 elsewhere."""
    labels = np.where(volume.voxels_kji > 140, 2, 0).astype(np.uint8)
    labels[volume.voxels_kji == 900] = 1
    return labels


# --- voxel for voxel, read by others ------------------------------------------------------------


@pytest.mark.parametrize("plane", PLANES.values(), ids=PLANES.keys())
def test_two_other_readers_see_every_voxel_where_it_was(tmp_path: Path, plane: tuple) -> None:
    volume = read_volume(write_series(tmp_path / "ct", plane=plane))
    labels = two_labels(volume)
    assert set(np.unique(labels)) == {0, 1, 2}
    path = tmp_path / "seg.dcm"
    encoded(labels, volume, segments_of("kidney_left", "liver")).save_as(path)
    masks = read_by_dcmqi(path, volume, tmp_path / "dcmqi")
    for number in (1, 2):
        np.testing.assert_array_equal(masks[number], labels == number)
        np.testing.assert_array_equal(
            read_by_highdicom(path, volume, number), (labels == number).astype(np.uint8)
        )
    check_seg(path, labels, volume)


@pytest.mark.parametrize("plane", PLANES.values(), ids=PLANES.keys())
def test_left_stays_left_in_the_segmentation_alone(tmp_path: Path, plane: tuple) -> None:
    volume = read_volume(write_series(tmp_path / "ct", plane=plane))
    ball = (volume.voxels_kji == 900).astype(np.uint8)
    path = tmp_path / "seg.dcm"
    encoded(ball, volume).save_as(path)
    read = highdicom.seg.segread(path).get_volume(segment_numbers=[1])
    points = np.argwhere(read.array[..., 0]) @ read.affine[:3, :3].T + read.affine[:3, 3]
    np.testing.assert_allclose(points.mean(axis=0), LEFT_BALL_LPS, atol=0.7)


def test_a_wrong_spacing_in_the_source_does_not_reach_the_result(tmp_path: Path) -> None:
    volume = read_volume(write_series(tmp_path))  # says 9.9 mm, is 3.0 mm
    ds = encoded(two_labels(volume) > 0, volume)
    measures = ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert measures.SpacingBetweenSlices == pytest.approx(3.0)
    assert list(measures.PixelSpacing) == pytest.approx([1.5, 1.25])


@examples(10)
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(3, 11), st.integers(3, 11)),
    count=st.integers(1, 4),
    seed=st.integers(0, 999),
)
def test_any_labels_of_any_size_survive(
    tmp_path_factory: pytest.TempPathFactory, shape: tuple[int, int, int], count: int, seed: int
) -> None:
    # Frames of a BINARY SEG are packed without a gap, mostly not at the border of a byte.
    folder = tmp_path_factory.mktemp("any")
    volume = read_volume(write_series(folder, shape_kji=shape))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, count + 1, shape).astype(np.uint8)
    labels[rng.random(shape[0]) < 0.3] = 0
    names = ("kidney_left", "liver", "spleen", "tumour")[:count]
    path = folder / "seg.dcm"
    encoded(labels, volume, segments_of(*names)).save_as(path)
    check_seg(path, labels, volume)
    for number in range(1, count + 1):
        np.testing.assert_array_equal(read_by_highdicom(path, volume, number), labels == number)


# --- what it says -------------------------------------------------------------------------------


def test_segments_are_coded_coloured_and_tracked(tmp_path: Path) -> None:
    volume = read_volume(write_series(tmp_path))
    liver = STRUCTURES["liver"].type
    tumour = STRUCTURES["tumour"]
    segments = (
        *segments_of("kidney_left"),
        Segment(2, "tumour", tumour.category, tumour.type, liver, None, tumour.rgb),
        Segment(3, "left mass", tumour.category, tumour.type, liver, LEFT, (1, 2, 3)),
    )
    uids = uids_of(3)
    ds = encoded(two_labels(volume), volume, segments, uids=uids)
    kidney, second, third = ds.SegmentSequence
    kind = kidney.SegmentedPropertyTypeCodeSequence[0]
    assert kind.CodeValue == "64033007"
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    assert tuple(kidney.RecommendedDisplayCIELabValue) == cielab(STRUCTURES["kidney_left"].rgb)
    assert "AnatomicRegionSequence" not in kidney
    assert second.AnatomicRegionSequence[0].CodeMeaning == "Liver"
    side = third.AnatomicRegionSequence[0].AnatomicRegionModifierSequence[0]
    assert side.CodeMeaning == "Left"
    assert [item.TrackingUID for item in ds.SegmentSequence] == list(uids.tracking)
    algorithm = kidney.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("mr_brain", "0.1.0")
    assert algorithm.AlgorithmSource == "radloop"
    assert algorithm.AlgorithmFamilyCodeSequence[0].CodeMeaning == "Artificial Intelligence"
    assert {item.SegmentAlgorithmType for item in ds.SegmentSequence} == {"AUTOMATIC"}
    assert decode_seg(ds, volume).segments == segments


def test_the_object_names_itself_and_its_source(tmp_path: Path) -> None:
    volume = read_volume(write_series(tmp_path))
    ds = encoded(two_labels(volume) > 0, volume)
    assert (ds.SegmentationType, ds.Modality, ds.Manufacturer) == ("BINARY", "SEG", "radloop")
    assert (ds.SeriesNumber, ds.SeriesDescription) == (901, "brain (radloop)")
    assert ds.ContentLabel == "BRAIN"
    assert ds.ManufacturerModelName == "mr_brain"
    assert ds.FrameOfReferenceUID == volume.frame_of_reference_uid
    assert (str(ds.ContentDate), str(ds.ContentTime)) == ("20260304", "120005.123000")
    (series,) = ds.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == volume.series_uid
    assert [item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence] == [
        instance.sop_instance_uid for instance in volume.instances
    ]
    assert ds.PatientName == "Test^Person"


def test_labels_in_other_alphabets_are_written(tmp_path: Path) -> None:
    volume = read_volume(write_series(tmp_path))
    brain = STRUCTURES["brain"]
    segment = Segment(1, "Gehirn (Größe) 脳", brain.category, brain.type, None, None, brain.rgb)
    ds = encoded(two_labels(volume) > 0, volume, (segment,), series_description="Hirn für 脳")
    read = dcmread(io.BytesIO(bytes_of(ds)))
    assert read.SegmentSequence[0].SegmentLabel == "Gehirn (Größe) 脳"
    assert read.SeriesDescription == "Hirn für 脳"


def test_no_name_is_quoted_in_a_warning(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    def one_word(k: int, ds: Dataset) -> None:
        ds.PatientName = "Onlyoneword"

    volume = read_volume(write_series(tmp_path, edit=one_word))
    assert encoded(two_labels(volume) > 0, volume).PatientName == "Onlyoneword"
    assert not any("Onlyoneword" in str(warning.message) for warning in recwarn)


def test_the_same_labels_make_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = read_volume(write_series(tmp_path))
    labels, segments = two_labels(volume), segments_of("kidney_left", "liver")
    first = bytes_of(encoded(labels, volume, segments))
    assert bytes_of(encoded(labels, volume, segments)) == first
    assert bytes_of(encoded(labels, volume, segments, uids=uids_of(2, "other job"))) != first


def test_headers_alone_are_enough_of_a_source(tmp_path: Path) -> None:
    series = write_series(tmp_path)
    volume = read_volume(series)
    labels = two_labels(volume)
    segments = segments_of("kidney_left", "liver")
    assert bytes_of(encoded(labels, read_grid(series), segments)) == bytes_of(
        encoded(labels, volume, segments)
    )


# --- nothing found ------------------------------------------------------------------------------


def test_nothing_found_is_a_valid_result(tmp_path: Path) -> None:
    volume = read_volume(write_series(tmp_path / "ct"))
    nothing = np.zeros(volume.shape_kji, np.uint8)
    path = tmp_path / "seg.dcm"
    ds = encoded(nothing, volume, segments_of("brain", "tumour"))
    ds.save_as(path)
    assert ds.NumberOfFrames == 2
    assert len(ds.SegmentSequence) == 2
    check_seg(path, nothing, volume)
    assert not read_by_highdicom(path, volume, 2).any()
    assert not any(mask.any() for mask in read_by_dcmqi(path, volume, tmp_path / "q").values())
    assert problems("dciodvfy", "-new", path) == []


def test_a_segment_without_a_voxel_stays_described(tmp_path: Path) -> None:
    volume = read_volume(write_series(tmp_path / "ct"))
    labels = np.where(two_labels(volume) == 2, 2, 0).astype(np.uint8)
    path = tmp_path / "seg.dcm"
    encoded(labels, volume, segments_of("tumour", "liver")).save_as(path)
    decoded = decode_seg(path, volume)
    assert [segment.label for segment in decoded.segments] == ["tumour", "liver"]
    assert not decoded.mask(1).any()
    np.testing.assert_array_equal(decoded.mask(2), labels == 2)
    np.testing.assert_array_equal(read_by_highdicom(path, volume, 2), labels == 2)
    assert problems("dciodvfy", "-new", path) == []


# --- the standard's checkers --------------------------------------------------------------------


def test_dciodvfy_and_dcentvfy_accept_it_with_its_study(tmp_path: Path) -> None:
    written = write_head_study(tmp_path / "mr", head=head_mr(3, slices=24, size=48))
    volume = read_volume(written.series)
    path = tmp_path / "seg.dcm"
    encoded(written.head.brain_kji, volume).save_as(path)
    assert problems("dciodvfy", "-new", path) == []
    files = [instance.path for instance in written.series.instances]
    assert problems("dcentvfy", path, *files) == []
    check_seg(path, written.head.brain_kji, volume)
    np.testing.assert_array_equal(read_by_highdicom(path, volume, 1), written.head.brain_kji)


def test_dcentvfy_would_notice_another_patient(tmp_path: Path) -> None:
    volume = read_volume(write_series(tmp_path / "ct"))
    ds = encoded(two_labels(volume) > 0, volume)
    ds.PatientBirthDate = "19991231"
    path = tmp_path / "seg.dcm"
    ds.save_as(path)
    assert problems("dcentvfy", path, *[instance.path for instance in volume.instances])


# --- refusals -----------------------------------------------------------------------------------


def test_labels_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    volume = read_volume(write_series(tmp_path))
    labels = two_labels(volume)
    brain, liver = segments_of("brain", "liver")
    cases: Sequence[tuple[np.ndarray, tuple[Segment, ...], dict[str, object]]] = [
        (labels[1:], (brain, liver), {}),
        (labels, (brain,), {}),
        (labels, (), {}),
        (labels, (liver, brain), {}),
        (labels.astype(np.float32), (brain, liver), {}),
        (labels.astype(np.int16) - 1, (brain, liver), {}),
        (labels, (brain, liver), {"uids": uids_of(1)}),
        (labels, (brain, liver), {"content_label": "no code string"}),
        (labels, (brain, liver), {"series_description": "x" * 65}),
    ]
    for case_labels, segments, changed in cases:
        with pytest.raises(InvalidSegmentation):
            encoded(case_labels, volume, segments, **changed)


def test_a_changed_voxel_is_noticed(tmp_path: Path) -> None:
    volume = read_volume(write_series(tmp_path))
    labels = two_labels(volume)
    ds = encoded(labels, volume, segments_of("kidney_left", "liver"))
    check_seg(ds, labels, volume)
    labels[7, 3, 3] = 1 if labels[7, 3, 3] != 1 else 0
    with pytest.raises(InvalidSegmentation, match=r"^1 voxels"):
        check_seg(ds, labels, volume)


def test_a_segmentation_of_another_series_is_refused(tmp_path: Path) -> None:
    volume = read_volume(write_series(tmp_path / "a"))
    other = read_volume(write_series(tmp_path / "b", name="b"))
    ds = encoded(two_labels(volume) > 0, volume)
    with pytest.raises(InvalidSegmentation, match="lacks"):
        decode_seg(ds, other)


@pytest.mark.parametrize(
    "defect", ["flipped", "shifted", "frames", "size", "fractional", "undescribed", "no position"]
)
def test_a_damaged_segmentation_is_refused(tmp_path: Path, defect: str) -> None:
    volume = read_volume(write_series(tmp_path))
    ds = encoded(two_labels(volume) > 0, volume)
    shared = ds.SharedFunctionalGroupsSequence[0]
    groups = ds.PerFrameFunctionalGroupsSequence
    if defect == "flipped":
        shared.PlaneOrientationSequence[0].ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]
    elif defect == "shifted":
        x, y, z = groups[0].PlanePositionSequence[0].ImagePositionPatient
        groups[0].PlanePositionSequence[0].ImagePositionPatient = [x, y + 1.5, z]
    elif defect == "frames":
        ds.PerFrameFunctionalGroupsSequence = groups[1:]
    elif defect == "size":
        ds.Rows, ds.Columns = ds.Columns, ds.Rows
    elif defect == "fractional":
        ds.SegmentationType = "FRACTIONAL"
    elif defect == "undescribed":
        ds.SegmentSequence[0].SegmentNumber = 9
    else:
        del groups[0].PlanePositionSequence
        del groups[0].DerivationImageSequence
    with pytest.raises(InvalidSegmentation):
        decode_seg(ds, volume)


def test_what_is_no_segmentation_is_refused(tmp_path: Path) -> None:
    volume = read_volume(write_series(tmp_path))
    with pytest.raises(InvalidSegmentation):
        decode_seg(volume.instances[0].path, volume)
    letter = tmp_path / "letter"
    letter.write_text("Dear colleague")
    with pytest.raises(NotDicom):
        decode_seg(letter, volume)


# --- segmentations of other programs ------------------------------------------------------------


def test_frames_without_references_are_placed_by_position(tmp_path: Path) -> None:
    volume = read_volume(write_series(tmp_path))
    labels = two_labels(volume)
    ds = encoded(labels, volume, segments_of("kidney_left", "liver"))
    for group in ds.PerFrameFunctionalGroupsSequence:
        del group.DerivationImageSequence
    np.testing.assert_array_equal(decode_seg(ds, volume).labels(), labels)


def test_a_label_map_is_read(tmp_path: Path) -> None:
    volume = read_volume(write_series(tmp_path))
    labels = two_labels(volume)
    sources = [dcmread(instance.path) for instance in volume.instances]
    kidney, liver = encoded(labels, volume, segments_of("kidney_left", "liver")).SegmentSequence
    seg = highdicom.seg.Segmentation(
        sources,
        labels,
        "LABELMAP",
        [highdicom.seg.SegmentDescription.from_dataset(item) for item in (kidney, liver)],
        series_instance_uid="1.2.3",
        series_number=1,
        sop_instance_uid="1.2.4",
        instance_number=1,
        manufacturer="m",
        manufacturer_model_name="m",
        software_versions="1",
        device_serial_number="1",
    )
    decoded = decode_seg(seg, volume)
    assert decoded.segments == segments_of("kidney_left", "liver")
    np.testing.assert_array_equal(decoded.labels(), labels)
    np.testing.assert_array_equal(decoded.mask(2), labels == 2)


def test_overlapping_segments_are_kept_apart(tmp_path: Path) -> None:
    volume = read_volume(write_series(tmp_path))
    sources = [dcmread(instance.path) for instance in volume.instances]
    ball = volume.voxels_kji == 900
    half = picture_on(volume.affine_lps, volume.shape_kji) > 120
    assert (ball & half).any()
    descriptions = encoded(
        ball, volume, segments_of("tumour", "liver"), uids=uids_of(2)
    ).SegmentSequence
    seg = highdicom.seg.Segmentation(
        sources,
        np.stack([ball, half], axis=-1).astype(np.uint8),
        "BINARY",
        [highdicom.seg.SegmentDescription.from_dataset(item) for item in descriptions],
        series_instance_uid="1.2.3",
        series_number=1,
        sop_instance_uid="1.2.4",
        instance_number=1,
        manufacturer="m",
        manufacturer_model_name="m",
        software_versions="1",
        device_serial_number="1",
    )
    decoded = decode_seg(seg, volume)
    np.testing.assert_array_equal(decoded.mask(1), ball)
    np.testing.assert_array_equal(decoded.mask(2), half)
    with pytest.raises(InvalidSegmentation, match="overlap"):
        decoded.labels()


def test_jittered_orientations_of_one_volume_are_written(tmp_path: Path) -> None:
    def jitter(k: int, ds: Dataset) -> None:
        ds.ImageOrientationPatient = [
            ds_text(v + 1e-5 * ((k + n) % 3))
            for n, v in enumerate(v for vector in turned(AXIAL, (5, 6, 7)) for v in vector)
        ]

    plane = turned(AXIAL, (5, 6, 7))
    volume = read_volume(write_series(tmp_path, plane=plane, edit=jitter))
    labels = two_labels(volume) > 0
    check_seg(encoded(labels, volume), labels, volume)


# --- real data ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "archive",
    [
        "mr/sag_anon_t1_dicom/dicom.tar.xz",
        "mr/fruit_ge_t1_dicom/dicom.tar.gz",
        "ct/chaos_ct_set3/DICOM_anon.tar.xz",
    ],
)
def test_real_series_carry_their_segmentation(tmp_path: Path, archive: str) -> None:
    volume = read_volume(real_series(archive, tmp_path / "source"))
    labels = volume.voxels_kji > np.percentile(volume.voxels_kji, 90)
    path = tmp_path / "seg.dcm"
    encoded(labels, volume).save_as(path)
    check_seg(path, labels, volume)
    np.testing.assert_array_equal(read_by_highdicom(path, volume, 1), labels)
    np.testing.assert_array_equal(read_by_dcmqi(path, volume, tmp_path / "q")[1], labels)
    # What patient and study bring along from the source is the source's own fault.
    brought = problems("dciodvfy", "-new", volume.instances[0].path)
    assert set(problems("dciodvfy", "-new", path)) <= set(brought)
