"""Segmentations as other programs write them, and what is refused."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import DataElement, Dataset, dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from dicom.errors import (
    ForeignSegmentation,
    ImpossibleSize,
    InvalidSegmentation,
    OtherGrid,
    OverlappingSegments,
    RadloopError,
    UnreadablePixels,
)
from dicom.seg import Form, decode_seg
from dicom.volume import Volume, read_volume
from tests.examples import examples
from tests.segmentations import bytes_of, encoded, segments_of
from tests.series import DATA, write_series

CORPUS = DATA / "dicom-corpus"
TWO = segments_of("kidney_left", "liver")


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Volume:
    return read_volume(write_series(tmp_path_factory.mktemp("ct"), shape_kji=(4, 8, 16)))


@pytest.fixture(scope="module")
def labels(volume: Volume) -> np.ndarray:
    labels = np.random.default_rng(2).integers(0, 3, volume.shape_kji).astype(np.uint8)
    labels[2] = 0  # a gap
    return labels


# --- frames in any order and form ---------------------------------------------------------------


def reordered(ds: Dataset, order: list[int]) -> Dataset:
    frames, groups = ds.pixel_array, list(ds.PerFrameFunctionalGroupsSequence)
    changed = deepcopy(ds)
    changed.PerFrameFunctionalGroupsSequence = [groups[n] for n in order]
    changed.PixelData = np.packbits(frames[order], bitorder="little").tobytes()
    return changed


def test_frames_come_in_any_order(volume: Volume, labels: np.ndarray) -> None:
    ds = encoded(labels, volume, TWO)
    order = [5, 0, 3, 1, 4, 2]
    np.testing.assert_array_equal(decode_seg(reordered(ds, order), volume).labels(), labels)


def test_frames_that_are_turned_over_lie_where_they_say(volume: Volume, labels: np.ndarray) -> None:
    """Rows upwards and columns leftwards: ITK writes images in whatever direction they have."""
    ds = encoded(labels, volume, TWO)
    frames = ds.pixel_array
    _, rows, columns = volume.shape_kji
    corner = volume.affine_lps[:3, :3] @ (0, rows - 1, columns - 1)
    shared = ds.SharedFunctionalGroupsSequence[0]
    orientation = shared.PlaneOrientationSequence[0]
    orientation.ImageOrientationPatient = [-v for v in orientation.ImageOrientationPatient]
    for group in ds.PerFrameFunctionalGroupsSequence:
        position = group.PlanePositionSequence[0]
        position.ImagePositionPatient = list(np.array(position.ImagePositionPatient) + corner)
    ds.PixelData = np.packbits(frames[:, ::-1, ::-1], bitorder="little").tobytes()
    decoded = decode_seg(ds, volume)
    np.testing.assert_array_equal(decoded.labels(), labels)
    np.testing.assert_array_equal(decoded.mask(2), labels == 2)


def test_planes_across_the_slices_lie_where_they_say(volume: Volume, labels: np.ndarray) -> None:
    """A label map that was resliced, its frames sagittal planes of an axial series."""
    slices, rows, columns = volume.shape_kji
    ds = encoded(labels, volume, TWO, form=Form("labelmap", rle=False))
    group = deepcopy(ds.PerFrameFunctionalGroupsSequence[0])
    del group.DerivationImageSequence
    along_k, along_j, along_i = (
        vector / np.linalg.norm(vector) for vector in volume.affine_lps[:3, :3].T
    )
    shared = ds.SharedFunctionalGroupsSequence[0]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [*along_k, *along_j]
    shared.PixelMeasuresSequence[0].PixelSpacing = [
        volume.spacing_kji[1],
        volume.spacing_kji[0],
    ]
    groups = []
    for i in range(columns):
        groups.append(deepcopy(group))
        at = volume.affine_lps @ (0, 0, i, 1)
        groups[-1].PlanePositionSequence[0].ImagePositionPatient = list(at[:3])
    ds.PerFrameFunctionalGroupsSequence = groups
    ds.NumberOfFrames, ds.Rows, ds.Columns = columns, rows, slices
    ds.PixelData = np.ascontiguousarray(labels.transpose(2, 1, 0)).tobytes()
    assert along_i @ volume.affine_lps[:3, 2] > 0
    np.testing.assert_array_equal(decode_seg(ds, volume).labels(), labels)


def test_frames_that_show_a_part_of_a_slice(volume: Volume, labels: np.ndarray) -> None:
    part = np.zeros_like(labels)
    part[:, 2:6, 8:16] = labels[:, 2:6, 8:16]
    ds = encoded(labels, volume, TWO)
    frames = ds.pixel_array[:, 2:6, 8:16]
    shift = volume.affine_lps[:3, :3] @ (0, 2, 8)
    for group in ds.PerFrameFunctionalGroupsSequence:
        position = group.PlanePositionSequence[0]
        position.ImagePositionPatient = list(np.array(position.ImagePositionPatient) + shift)
    ds.Rows, ds.Columns = 4, 8
    ds.PixelData = np.packbits(frames, bitorder="little").tobytes()
    np.testing.assert_array_equal(decode_seg(ds, volume).labels(), part)


def test_references_alone_place_a_frame(volume: Volume, labels: np.ndarray) -> None:
    ds = encoded(labels, volume, TWO)
    for group in ds.PerFrameFunctionalGroupsSequence:
        del group.PlanePositionSequence
    np.testing.assert_array_equal(decode_seg(ds, volume).labels(), labels)


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_sequences_of_either_length_in_either_representation(
    volume: Volume, labels: np.ndarray, tmp_path: Path, syntax: str, undefined: bool
) -> None:
    """As dcmjs in OHIF writes them, and as old archives send."""

    def mark(_: Dataset, element: DataElement) -> None:
        if element.VR == "SQ":
            element.is_undefined_length = undefined
            for item in element.value:
                item.is_undefined_length_sequence_item = undefined

    ds = encoded(labels, volume, TWO)
    ds.walk(mark)
    ds.file_meta.TransferSyntaxUID = syntax
    path = tmp_path / "seg.dcm"
    ds.save_as(path, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
    decoded = decode_seg(path, volume)
    np.testing.assert_array_equal(decoded.labels(), labels)
    assert decoded.segments == TWO


def test_compressed_and_deflated_label_maps(tmp_path: Path) -> None:
    volume = read_volume(write_series(tmp_path / "ct", shape_kji=(3, 64, 48)))
    labels = np.random.default_rng(5).integers(0, 3, volume.shape_kji).astype(np.uint8)
    path = tmp_path / "seg.dcm"
    for syntax in (RLELossless, JPEG2000Lossless, JPEGLSLossless):
        ds = encoded(labels, volume, TWO, form=Form("labelmap", rle=False))
        ds.compress(syntax, generate_instance_uid=False)
        ds.save_as(path)
        np.testing.assert_array_equal(decode_seg(path, volume).labels(), labels)
    for form in (Form("binary"), Form("labelmap", rle=False)):
        ds = encoded(labels, volume, TWO, form=form)
        ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        ds.save_as(path)
        np.testing.assert_array_equal(decode_seg(path, volume).labels(), labels)


def test_a_full_slide_of_tiles_without_descriptions(volume: Volume, labels: np.ndarray) -> None:
    ds = encoded(labels, volume, TWO)
    whole = np.random.default_rng(0).random((2, 20, 30)) < 0.4
    whole[1] &= ~whole[0]
    padded = np.zeros((2, 24, 32), bool)
    padded[:, :20, :30] = whole
    tiles = padded.reshape(2, 3, 8, 2, 16).swapaxes(2, 3).reshape(12, 8, 16)
    ds.DimensionOrganizationType = "TILED_FULL"
    ds.TotalPixelMatrixRows, ds.TotalPixelMatrixColumns = 20, 30
    ds.NumberOfFrames, ds.Rows, ds.Columns = 12, 8, 16
    del ds.PerFrameFunctionalGroupsSequence
    ds.PixelData = np.packbits(tiles, bitorder="little").tobytes()
    decoded = decode_seg(ds)
    assert decoded.shape_kji == (1, 20, 30)
    for number in (1, 2):
        np.testing.assert_array_equal(decoded.mask(number)[0], whole[number - 1])


def test_without_its_source_a_segmentation_has_a_grid_of_its_own(
    volume: Volume, labels: np.ndarray
) -> None:
    decoded = decode_seg(encoded(labels, volume, TWO))
    assert decoded.affine_lps is not None
    np.testing.assert_allclose(decoded.affine_lps, volume.affine_lps, atol=1e-5)
    np.testing.assert_array_equal(decoded.labels(), labels)
    assert decoded.origins[0].algorithm_type == "AUTOMATIC"
    assert decoded.origins[0].tracking_id == "kidney left"
    assert decoded.origins[0].algorithm is not None
    assert decoded.origins[0].algorithm.name == "mr_brain"


# --- refusals -----------------------------------------------------------------------------------


def _other_images(ds: Dataset) -> None:
    for group in ds.PerFrameFunctionalGroupsSequence:
        group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"


def _nothing_at_all(ds: Dataset) -> None:
    for group in ds.PerFrameFunctionalGroupsSequence:
        del group.DerivationImageSequence
    ds.FrameOfReferenceUID = "1.2.3"
    ds.ReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.3"


def _wider(ds: Dataset) -> None:
    ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [3, 3]


def _neighbour(ds: Dataset) -> None:
    first, second = (
        ds.PerFrameFunctionalGroupsSequence[n].PlanePositionSequence[0] for n in (0, 1)
    )
    first.ImagePositionPatient, second.ImagePositionPatient = (
        second.ImagePositionPatient,
        first.ImagePositionPatient,
    )


def _far_away(ds: Dataset) -> None:
    _nothing_but_the_frame_of_reference(ds)
    position = ds.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
    position.ImagePositionPatient = [0, 0, 99_999]


def _nothing_but_the_frame_of_reference(ds: Dataset) -> None:
    for group in ds.PerFrameFunctionalGroupsSequence:
        del group.DerivationImageSequence


def _more_frames(ds: Dataset) -> None:
    ds.NumberOfFrames = 2_000_000_000


def _more_rows(ds: Dataset) -> None:
    ds.Rows = ds.Columns = 65_535


def _no_codes(ds: Dataset) -> None:
    del ds.SegmentSequence[0].SegmentedPropertyTypeCodeSequence


def _one_number_twice(ds: Dataset) -> None:
    ds.SegmentSequence[1].SegmentNumber = 1


@pytest.mark.parametrize(
    ("defect", "error"),
    [
        (_other_images, ForeignSegmentation),
        (_nothing_at_all, ForeignSegmentation),
        (_wider, OtherGrid),
        (_neighbour, OtherGrid),
        (_far_away, OtherGrid),
        (_more_frames, ImpossibleSize),
        (_more_rows, ImpossibleSize),
        (_no_codes, InvalidSegmentation),
        (_one_number_twice, InvalidSegmentation),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_each_defect_has_its_code(
    volume: Volume,
    labels: np.ndarray,
    defect: Callable[[Dataset], None],
    error: type[InvalidSegmentation],
) -> None:
    ds = encoded(labels, volume, TWO)
    defect(ds)
    with pytest.raises(InvalidSegmentation) as caught:
        decode_seg(ds, volume)
    assert type(caught.value) is error


def test_a_value_that_is_not_described_is_refused(volume: Volume, labels: np.ndarray) -> None:
    ds = encoded(labels, volume, TWO, form=Form("labelmap", rle=False))
    ds.PixelData = ds.PixelData.replace(b"\2", b"\7", 1)
    with pytest.raises(InvalidSegmentation, match="describe"):
        decode_seg(ds, volume).labels()


def test_planes_far_apart_make_no_huge_grid(volume: Volume, labels: np.ndarray) -> None:
    ds = encoded(labels, volume, TWO)
    ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = "0.001"
    position = ds.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
    position.ImagePositionPatient = [*position.ImagePositionPatient[:2], "99999999"]
    with pytest.raises(ImpossibleSize):
        decode_seg(ds)


def test_a_file_that_inflates_without_end_is_refused(
    volume: Volume, labels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom.seg.parse.MOST_INFLATED", 1 << 20)
    ds = encoded(labels, volume, TWO)
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    raw = bytes_of(ds)
    (meta_length,) = struct.unpack_from("<L", raw, 140)
    deflate = zlib.compressobj(wbits=-15)
    path = tmp_path / "bomb.dcm"
    bomb = deflate.compress(b"\0" * 50_000_000) + deflate.flush()
    path.write_bytes(raw[: 144 + meta_length] + bomb)
    with pytest.raises(ImpossibleSize):
        decode_seg(path)


def test_a_frame_that_decompresses_to_another_size_is_refused(tmp_path: Path) -> None:
    volume = read_volume(write_series(tmp_path / "ct", shape_kji=(1, 64, 64)))
    labels = np.ones(volume.shape_kji, np.uint8)
    ds = encoded(labels, volume, form=Form("labelmap", rle=False))
    ds.compress(JPEG2000Lossless, generate_instance_uid=False)
    np.testing.assert_array_equal(decode_seg(ds, volume).labels(), labels)
    frame = bytearray(_first_fragment(ds.PixelData))
    size = frame.index(b"\xff\x51")  # SIZ: ISO 15444-1 A.5.1
    frame[size + 6 : size + 14] = struct.pack(">LL", 60_000, 60_000)
    ds.PixelData = encapsulate([bytes(frame)])
    with pytest.raises(UnreadablePixels):
        decode_seg(ds, volume).labels()


def _first_fragment(data: bytes) -> bytes:
    (table,) = struct.unpack_from("<L", data, 4)
    (length,) = struct.unpack_from("<L", data, 12 + table)
    return data[16 + table : 16 + table + length]


# --- any header ---------------------------------------------------------------------------------


@examples(50)
@given(data=st.data())
def test_a_mutated_file_ends_in_values_or_in_a_code(
    volume: Volume,
    labels: np.ndarray,
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
) -> None:
    forms = [Form("binary"), Form("labelmap"), Form("labelmap", rle=False), Form("fractional")]
    raw = bytearray(bytes_of(encoded(labels, volume, TWO, form=data.draw(st.sampled_from(forms)))))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(132, len(raw) - 1))
        match data.draw(st.sampled_from(["byte", "word", "cut", "drop", "double"])):
            case "byte":
                raw[at] = data.draw(st.integers(0, 255))
            case "word":
                value = data.draw(st.sampled_from([0, 1, 0xFFFF, 0xFFFFFFFF, 0x7FFFFFFF, 0xFFFE]))
                raw[at : at + 4] = struct.pack("<L", value)
            case "cut":
                del raw[at:]
            case "drop":
                del raw[at : at + data.draw(st.integers(1, 40))]
            case "double":
                raw[at:at] = raw[at : at + data.draw(st.integers(1, 400))]
        if len(raw) < 140:
            break
    path = tmp_path_factory.getbasetemp() / "mutated.dcm"
    path.write_bytes(raw)
    for source in (volume, None):
        try:
            decoded = decode_seg(path, source)
            decoded.labels()
            decoded.masks()
        except RadloopError as error:
            assert error.code


@examples(30)
@given(data=st.data())
def test_any_value_of_any_attribute_ends_in_values_or_in_a_code(
    volume: Volume, labels: np.ndarray, data: st.DataObject
) -> None:
    ds = encoded(labels, volume, TWO, form=data.draw(st.sampled_from([Form(), Form("labelmap")])))
    within = [element for element in ds.iterall() if element.tag.group >= 0x0008]
    element = data.draw(st.sampled_from(within))
    wrong: dict[str, list[object]] = {
        "US": [0, 1, 7, 65535],
        "UL": [0, 2**32 - 1],
        "IS": ["0", "-1", "2147483647", ""],
        "DS": ["0", "-1", "1e300", "nan", "", ["1", "2"]],
        "UI": ["", "1.2.3"],
        "SQ": [[], [Dataset()], [Dataset(), Dataset()]],
        "OB": [b"", b"\0\0", b"\xfe\xff\x00\xe0" * 9],
        "OW": [b"", b"\0\0"],
    }
    values = wrong.get(element.VR, ["", "X", "A\\B"])
    try:
        element.value = data.draw(st.sampled_from(values))
        raw = io.BytesIO()
        ds.save_as(raw)
    except (ValueError, TypeError, AttributeError, OverflowError, struct.error):
        return  # pydicom itself writes no such value
    for source in (volume, None):
        try:
            decoded = decode_seg(ds, source)
            decoded.labels()
            decoded.shares(1)
        except RadloopError as error:
            assert error.code


# --- the corpus ---------------------------------------------------------------------------------


def corpus(name: str) -> Path:
    path = CORPUS / name
    if not path.exists():
        pytest.skip("real data (shared/data) is absent")
    return path


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("dcmqi_BSD3/segmentations/liver.dcm", [107098]),
        ("dcmqi_BSD3/segmentations/partial_overlaps.dcm", [9602, 11888, 10743, 6693, 4713]),
        ("dcmqi_BSD3/sr-example/seg.dcm", [795]),
        ("highdicom_MIT/seg_image_cr_binary.dcm", [151]),
        ("highdicom_MIT/seg_image_ct_binary_overlap.dcm", [64, 16]),
        ("pydicom-data_MIT/liver_expb.dcm", [107098]),
        ("pydicom-data_MIT/liver_nonbyte_aligned.dcm", [107098]),
        ("pydicom-data_MIT/liver_nonbyte_aligned_deflate.dcm", [107098]),
    ],
)
def test_samples_of_other_programs_hold_what_pydicom_sees(name: str, counts: list[int]) -> None:
    path = corpus(name)
    decoded = decode_seg(path)
    found = [int(decoded.mask(segment.number).sum()) for segment in decoded.segments]
    assert found == counts
    if decoded.kind == "BINARY" and "liver" not in name:
        assert sum(found) == int(dcmread(path).pixel_array.sum())
    if "overlap" in name:
        assert decoded.masks().overlap()
        with pytest.raises(OverlappingSegments):
            decoded.labels()


@pytest.mark.parametrize("folder", ["23x38x3", "24x38x3"])
def test_dcmqi_s_samples_lie_on_their_source(folder: str) -> None:
    from dicom.folder import read_folder

    home = corpus(f"dcmqi_BSD3/segmentations/{folder}")
    (study,) = read_folder(home / "image").studies
    volume = read_volume(study.series[0])
    decoded = decode_seg(home / "seg" / "label.seg", volume)
    expected = _nrrd(home / "nrrd" / "label.nrrd")
    assert decoded.mask(1).sum() == np.count_nonzero(expected)
    assert [np.count_nonzero(plane) for plane in decoded.labels()] in (
        [np.count_nonzero(plane) for plane in expected],
        [np.count_nonzero(plane) for plane in expected[::-1]],
    )


def _nrrd(path: Path) -> np.ndarray:
    """Return the voxels of an NRRD file, shape (slices, rows, columns)."""
    import gzip

    head, _, content = path.read_bytes().partition(b"\n\n")
    fields = dict(
        line.split(b": ", 1) for line in head.split(b"\n") if b": " in line and line[:1] != b"#"
    )
    sizes = [int(size) for size in fields[b"sizes"].split()]
    raw = gzip.decompress(content) if fields[b"encoding"].startswith(b"gz") else content
    kinds = {b"unsigned char": "u1", b"short": "<i2", b"unsigned short": "<u2", b"int": "<i4"}
    return np.frombuffer(raw, kinds[fields[b"type"]]).reshape(sizes[::-1])


def test_a_slide_s_label_map_is_its_binary_twin() -> None:
    binary = decode_seg(corpus("highdicom_MIT/seg_image_sm_control.dcm"))
    label_map = decode_seg(corpus("highdicom_MIT/seg_image_sm_control_labelmap.dcm"))
    assert binary.shape_kji == label_map.shape_kji == (1, 50, 50)
    np.testing.assert_array_equal(binary.labels(), label_map.labels())


def test_fractions_are_shares() -> None:
    decoded = decode_seg(corpus("highdicom_MIT/seg_image_ct_true_fractional.dcm"))
    ds = dcmread(corpus("highdicom_MIT/seg_image_ct_true_fractional.dcm"))
    shares = decoded.shares(1)
    np.testing.assert_allclose(
        np.sort(shares[shares > 0]),
        np.sort(ds.pixel_array[ds.pixel_array > 0] / ds.MaximumFractionalValue),
        atol=1e-6,
    )
