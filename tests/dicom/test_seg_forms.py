"""Segmentations in each of their forms, read by other programs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import gdcm
import highdicom
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.uid import ComputedRadiographyImageStorage, RLELossless

from dicom.errors import InvalidSegmentation, OverlappingSegments
from dicom.folder import read_folder
from dicom.seg import Crop, Form, Masks, check_seg, decode_seg, write_seg
from dicom.seg.rle import encode_frame
from dicom.volume import Volume, read_grid, read_pictures, read_volume
from tests.enhanced import write_enhanced
from tests.examples import examples
from tests.segmentations import (
    ALGORITHM,
    NOON,
    bytes_of,
    encoded,
    problems,
    read_by_dcmqi,
    read_by_highdicom,
    segments_of,
    uids_of,
)
from tests.series import PLANES, write_series

THREE = segments_of("kidney_left", "liver", "spleen")
FORMS = {
    "binary": Form("binary"),
    "label map": Form("labelmap", rle=False),
    "label map, RLE": Form("labelmap"),
    "fractional": Form("fractional", rle=False),
    "fractional, RLE": Form("fractional", fractional_type="OCCUPANCY"),
}
KNOWN_OF_LABEL_MAPS = ("SegmentNumber not monotonically increasing", "Information Object Not found")
"""What dciodvfy of 2022 says of every label map, highdicom's too: it knows none."""


def some_labels(shape: tuple[int, int, int], count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, count + 1, shape).astype(np.uint8)
    labels[rng.random(shape[0]) < 0.3] = 0
    return labels


def unknown_problems(path: Path) -> list[str]:
    found = problems("dciodvfy", "-new", path)
    return [line for line in found if not any(known in line for known in KNOWN_OF_LABEL_MAPS)]


# --- other readers ------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("plane", ["axial", "doubly oblique sagittal"])
def test_every_form_is_read_by_highdicom_and_dcmqi_voxel_for_voxel(
    tmp_path: Path, form: Form, plane: str
) -> None:
    volume = read_volume(write_series(tmp_path / "ct", plane=PLANES[plane], shape_kji=(4, 10, 12)))
    labels = some_labels(volume.shape_kji, 3)
    path = tmp_path / "seg.dcm"
    encoded(labels, volume, THREE, form=form).save_as(path)
    check_seg(path, labels, volume)
    for number in (1, 2, 3):
        np.testing.assert_array_equal(read_by_highdicom(path, volume, number) > 0, labels == number)
    if form.segmentation_type != "fractional":  # dcmqi reads none
        masks = read_by_dcmqi(path, volume, tmp_path / "dcmqi")
        for number in (1, 2, 3):
            np.testing.assert_array_equal(masks[number], labels == number)
    assert unknown_problems(path) == []
    files = [instance.path for instance in volume.instances]
    assert problems("dcentvfy", path, *files) == []


@examples(8)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 11), st.integers(1, 17)),
    form=st.sampled_from(list(FORMS.values())),
    seed=st.integers(0, 999),
)
def test_any_overlap_of_any_size_survives_in_any_form(
    tmp_path_factory: pytest.TempPathFactory, shape: tuple[int, int, int], form: Form, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("any")
    volume = read_volume(write_series(folder, shape_kji=shape))
    rng = np.random.default_rng(seed)
    whole = rng.random((3, *shape)) < rng.choice([0.0, 0.05, 0.5])
    masks = Masks.of(whole)
    np.testing.assert_array_equal(np.stack([masks.whole(n) for n in (1, 2, 3)]), whole)
    overlapping = bool((whole.sum(axis=0) > 1).any())
    assert masks.overlap() == overlapping
    path = folder / "seg.dcm"
    if form.segmentation_type == "labelmap" and overlapping:
        with pytest.raises(OverlappingSegments):
            encoded(masks, volume, THREE, form=form)
        return
    ds = encoded(masks, volume, THREE, form=form)
    ds.save_as(path)
    check_seg(path, masks, volume)
    decoded = decode_seg(path, volume)
    for number in (1, 2, 3):
        np.testing.assert_array_equal(decoded.mask(number), whole[number - 1])
        if whole[number - 1].any():
            np.testing.assert_array_equal(
                read_by_highdicom(path, volume, number) > 0, whole[number - 1]
            )
    assert ds.SegmentsOverlap == ("YES" if overlapping else "NO")


def test_shares_of_voxels_are_kept_to_their_step(tmp_path: Path) -> None:
    volume = read_volume(write_series(tmp_path / "ct", shape_kji=(3, 9, 13)))
    shares = np.random.default_rng(0).random((2, *volume.shape_kji), np.float32)
    shares[0, 1] = 0
    masks = Masks.of(shares)
    path = tmp_path / "seg.dcm"
    for rle in (False, True):
        form = Form(rle=rle, fractional_type="OCCUPANCY")
        ds = encoded(masks, volume, segments_of("liver", "tumour"), form=form)
        assert (ds.SegmentationType, ds.SegmentationFractionalType) == ("FRACTIONAL", "OCCUPANCY")
        ds.save_as(path)
        check_seg(path, masks, volume)
        seg = highdicom.seg.segread(path)
        read = seg.get_pixels_by_source_instance(
            [instance.sop_instance_uid for instance in volume.instances],
            assert_missing_frames_are_empty=True,
        )
        np.testing.assert_allclose(np.moveaxis(read, -1, 0), shares, atol=0.5 / 255 + 1e-6)
        assert problems("dciodvfy", "-new", path) == []
    changed = shares.copy()
    changed[1, 0, 0, 0] = 1 - changed[1, 0, 0, 0]
    with pytest.raises(InvalidSegmentation, match="1 voxels"):
        check_seg(path, Masks.of(changed), volume)


def test_more_segments_than_a_byte_holds(tmp_path: Path) -> None:
    volume = read_volume(write_series(tmp_path / "ct", shape_kji=(2, 16, 24)))
    labels = np.arange(2 * 16 * 24).reshape(volume.shape_kji) % 301
    segments = tuple(
        type(THREE[0])(
            n, f"part {n}", THREE[1].category, THREE[1].type, None, None, (n % 256, 1, 2)
        )
        for n in range(1, 301)
    )
    path = tmp_path / "seg.dcm"
    for rle in (False, True):
        encoded(labels, volume, segments, form=Form(rle=rle)).save_as(path)
        ds = dcmread(path)
        assert ds.BitsAllocated == 16
        np.testing.assert_array_equal(ds.pixel_array, labels)
        check_seg(path, labels, volume)


# --- what is written ----------------------------------------------------------------------------


def test_frames_are_described_as_highdicom_describes_them(tmp_path: Path) -> None:
    volume = read_volume(write_series(tmp_path / "ct", shape_kji=(3, 8, 8)))
    labels = some_labels(volume.shape_kji, 2, seed=3)
    labels[:, 0, 0], labels[:, 0, 1] = 1, 2
    ours = encoded(labels, volume, THREE[:2])
    theirs = highdicom.seg.Segmentation(
        [dcmread(instance.path) for instance in volume.instances],
        labels,
        "BINARY",
        [highdicom.seg.SegmentDescription.from_dataset(item) for item in ours.SegmentSequence],
        series_instance_uid="1.2.3",
        series_number=1,
        sop_instance_uid="1.2.4",
        instance_number=1,
        manufacturer="m",
        manufacturer_model_name="m",
        software_versions="1",
        device_serial_number="1",
    )

    def frames(seg: Dataset) -> dict[tuple[int, str], tuple[Dataset, np.ndarray]]:
        return {
            (
                group.SegmentIdentificationSequence[0].ReferencedSegmentNumber,
                group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID,
            ): (group, frame)
            for group, frame in zip(
                seg.PerFrameFunctionalGroupsSequence, seg.pixel_array, strict=True
            )
        }

    our_frames, their_frames = frames(ours), frames(theirs)
    assert set(our_frames) == set(their_frames)
    for key, (mine, pixels) in our_frames.items():
        other, their_pixels = their_frames[key]
        np.testing.assert_array_equal(pixels, their_pixels)
        assert [element.tag for element in mine] == [element.tag for element in other]
        assert mine.DerivationImageSequence == other.DerivationImageSequence
        np.testing.assert_allclose(
            mine.PlanePositionSequence[0].ImagePositionPatient,
            other.PlanePositionSequence[0].ImagePositionPatient,
            atol=1e-6,
        )


def test_the_file_holds_the_bytes_of_the_dataset(tmp_path: Path) -> None:
    volume = read_volume(write_series(tmp_path / "ct", shape_kji=(3, 9, 13)))
    labels = some_labels(volume.shape_kji, 3)
    for form in FORMS.values():
        write_seg(
            tmp_path / "seg.dcm",
            labels,
            volume,
            THREE,
            algorithm=ALGORITHM,
            uids=uids_of(3),
            series_number=901,
            series_description="brain (radloop)",
            content_label="BRAIN",
            created=NOON,
            form=form,
        )
        raw = (tmp_path / "seg.dcm").read_bytes()
        assert raw == bytes_of(encoded(labels, volume, THREE, form=form))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ct", "seg.dcm"]


def test_few_segments_are_binary_and_many_a_label_map(tmp_path: Path) -> None:
    volume = read_volume(write_series(tmp_path / "ct", shape_kji=(2, 8, 8)))
    labels = some_labels(volume.shape_kji, 3)
    assert encoded(labels, volume, THREE).SegmentationType == "BINARY"
    many = encoded(labels, volume, THREE, form=Form(binary_up_to=2))
    assert many.SegmentationType == "LABELMAP"
    assert many.file_meta.TransferSyntaxUID == RLELossless
    overlapping = Masks.of([labels == 1, labels > 0, labels == 3])
    kept = encoded(overlapping, volume, THREE, form=Form(binary_up_to=2))
    assert kept.SegmentationType == "BINARY"


def test_a_multi_frame_source_is_referred_to_frame_by_frame(tmp_path: Path) -> None:
    volume = read_volume(write_enhanced(tmp_path / "ct", shape_kji=(4, 10, 12)))
    labels = some_labels(volume.shape_kji, 3, seed=1)
    path = tmp_path / "seg.dcm"
    ds = encoded(labels, volume, THREE)
    ds.save_as(path)
    (series,) = ds.ReferencedSeriesSequence
    assert len(series.ReferencedInstanceSequence) == 1
    numbers = {
        group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber
        for group in ds.PerFrameFunctionalGroupsSequence
    }
    named = {volume.sources[k].frame_number for k in range(4) if labels[k].any()}
    assert numbers == named
    check_seg(path, labels, volume)
    for group in ds.PerFrameFunctionalGroupsSequence:
        del group.PlanePositionSequence
    check_seg(ds, labels, volume)  # by frame number alone
    masks = read_by_dcmqi(path, volume, tmp_path / "dcmqi")
    np.testing.assert_array_equal(masks[2], labels == 2)
    assert problems("dciodvfy", "-new", path) == []


def test_masks_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    volume: Volume = read_volume(write_series(tmp_path / "ct", shape_kji=(2, 8, 8)))
    inside = np.ones(volume.shape_kji, bool)
    for masks in (
        lambda: Masks.of([]),
        lambda: Masks.of([inside, inside[:1]]),
        lambda: Masks.of([inside * 1.5]),
        lambda: Masks.of([np.full(volume.shape_kji, np.nan)]),
        lambda: Masks(volume.shape_kji, {1: Crop((1, 0, 0), inside)}),
        lambda: encoded(Masks.of([inside]), volume, THREE),
        lambda: encoded(Masks.of([inside[:, :4]]), volume),
        lambda: encoded(Masks.of([inside * 0.5]), volume, form=Form("binary")),
    ):
        with pytest.raises(InvalidSegmentation):
            masks()


# --- RLE ----------------------------------------------------------------------------------------


@examples(30)
@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 300)),
    highest=st.sampled_from([1, 3, 200, 60_000]),
    spread=st.sampled_from([1, 7, 150]),
    seed=st.integers(0, 999),
)
def test_any_frame_survives_rle_and_reads_the_same_elsewhere(
    shape: tuple[int, int], highest: int, spread: int, seed: int
) -> None:
    from rle.rle import decode_frame

    rng = np.random.default_rng(seed)
    values = rng.integers(0, highest + 1, (shape[0], -(-shape[1] // spread)))
    frame = np.repeat(values, spread, axis=1)[:, : shape[1]]
    frame = np.ascontiguousarray(frame, np.uint8 if highest < 256 else np.uint16)
    data = encode_frame(frame)
    assert len(data) % 2 == 0
    assert bytes(decode_frame(data, frame.size, 8 * frame.itemsize, "<")) == frame.tobytes()


def test_gdcm_and_dcmtk_decode_our_rle(tmp_path: Path) -> None:
    volume = read_volume(write_series(tmp_path / "ct", shape_kji=(3, 20, 300)))
    labels = some_labels(volume.shape_kji, 3)
    labels[:, 5:9] = 2
    path = tmp_path / "seg.dcm"
    ds = encoded(labels, volume, THREE, form=Form("labelmap"))
    ds.save_as(path)
    expected = labels[[labels[k].any() for k in range(3)]].tobytes()
    assert ds.pixel_array.tobytes() == expected
    subprocess.run(["dcmdrle", path, tmp_path / "plain.dcm"], check=True)
    assert dcmread(tmp_path / "plain.dcm").PixelData[: len(expected)] == expected
    fractional = encoded(labels, volume, THREE, form=Form("fractional"))
    fractional.save_as(path)  # GDCM does not know the SOP class of label maps
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    # Its binding hands bytes out as text, one surrogate for each byte that is no UTF-8.
    read = reader.GetImage().GetBuffer().encode("utf-8", "surrogateescape")
    assert read == fractional.pixel_array.tobytes()


def test_grids_alone_are_enough_of_an_enhanced_source(tmp_path: Path) -> None:
    series = write_enhanced(tmp_path / "ct", shape_kji=(3, 8, 8))
    labels = some_labels((3, 8, 8), 3)
    assert bytes_of(encoded(labels, read_grid(series), THREE)) == bytes_of(
        encoded(labels, read_volume(series), THREE)
    )


def test_a_picture_without_a_place_in_a_patient(tmp_path: Path) -> None:
    def unplaced(_: int, ds: Dataset) -> None:
        for keyword in ("FrameOfReferenceUID", "ImageOrientationPatient", "ImagePositionPatient"):
            del ds[keyword]
        ds.SOPClassUID, ds.Modality = ComputedRadiographyImageStorage, "CR"

    write_series(tmp_path / "cr", shape_kji=(1, 20, 30), edit=unplaced)
    (study,) = read_folder(tmp_path / "cr").studies
    (picture,) = read_pictures(study.series[0])
    labels = some_labels((1, 20, 30), 3, seed=4)
    path = tmp_path / "seg.dcm"
    for form in FORMS.values():
        ds = encoded(labels, picture, THREE, form=form)
        ds.save_as(path)
        assert "FrameOfReferenceUID" not in ds
        check_seg(path, labels, picture)
        assert decode_seg(path).affine_lps is None
        assert unknown_problems(path) == []
        if form.segmentation_type == "binary":
            for number, frame in enumerate(dcmread(path).pixel_array, 1):
                np.testing.assert_array_equal(frame, labels[0] == number)


@pytest.mark.parametrize("columns", [7, 8])
def test_nothing_found_is_written_in_any_form(tmp_path: Path, columns: int) -> None:
    volume = read_volume(write_series(tmp_path / "ct", shape_kji=(2, 6, columns)))
    nothing = np.zeros(volume.shape_kji, np.uint8)
    for labels in (nothing, Masks.of([nothing, nothing, nothing])):
        for form in FORMS.values():
            ds = encoded(labels, volume, THREE, form=form)
            assert ds.NumberOfFrames == (1 if form.segmentation_type == "labelmap" else 3)
            check_seg(ds, nothing, volume)
