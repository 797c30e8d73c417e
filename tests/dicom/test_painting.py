"""Painting: what is masked is black, all else is what it was, in every transfer syntax."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG4HP41,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from dicom.errors import InputError, UnreadablePixels, UnsupportedTransferSyntax
from dicom.frames import FrameSource, format_of, read_frames
from dicom.frames.painting import Canvas
from dicom.header import read_header
from dicom.part10 import quiet_pydicom
from tests.corpus import CORPUS, INDEX, needs_corpus
from tests.images import compressed, ramp, written


def stored(path: Path) -> np.ndarray:
    header = read_header(path)
    count = format_of(header).frames
    return read_frames([FrameSource(path, k, header) for k in range(count)], workers=1)


def saved(ds: Dataset, path: Path) -> Path:
    buffer = io.BytesIO()
    with quiet_pydicom():
        dcmwrite(buffer, ds, enforce_file_format=True)
    path.write_bytes(buffer.getvalue())
    return path


def corner(rows: int, columns: int) -> np.ndarray:
    """Return a mask of odd edges in the upper left quarter."""
    mask = np.zeros((rows, columns), bool)
    mask[: (rows + 1) // 2, 1 : max(2, columns // 2)] = True
    return mask


def native(frames: np.ndarray, tmp_path: Path, **attributes) -> Path:
    return written(
        tmp_path / "before.dcm", frames.tobytes(), NumberOfFrames=len(frames), **attributes
    )


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
    ],
)
def test_uncompressed_pixels_are_changed_where_they_lie(tmp_path: Path, syntax: str) -> None:
    frames = ramp(frames=3, start=5)
    order = frames.astype(">u2") if syntax == ExplicitVRBigEndian else frames
    path = written(tmp_path / "a.dcm", order.tobytes(), syntax, NumberOfFrames=3)
    ds = dcmread(path)
    mask = corner(4, 6)
    painted = Canvas(ds).painted(lambda k: mask if k == 1 else None)
    after = stored(saved(painted, tmp_path / "b.dcm"))
    wanted = frames.copy()
    wanted[1][mask] = frames[1].min()
    np.testing.assert_array_equal(after, wanted)
    assert painted.file_meta.TransferSyntaxUID == syntax
    assert bytes(ds.PixelData) == order.tobytes()  # what was given is left alone


@pytest.mark.parametrize(
    "syntax", [JPEGLSLossless, JPEG2000Lossless, JPEGLosslessSV1, HTJ2KLossless, RLELossless]
)
@pytest.mark.parametrize("dtype", ["<u2", "<u1"])
def test_compressed_frames_lose_nothing_outside(tmp_path: Path, syntax: str, dtype: str) -> None:
    frames = ramp(dtype, frames=2, step=5 if dtype == "<u1" else 37)
    bits = 8 * frames.itemsize
    depth = {"BitsAllocated": bits, "BitsStored": bits, "HighBit": bits - 1}
    if syntax == RLELossless:
        plain = dcmread(native(frames, tmp_path, **depth))
        plain.compress(RLELossless)
        path = saved(plain, tmp_path / "a.dcm")
    else:
        coded = encapsulate([compressed(frame, syntax) for frame in frames])
        path = written(tmp_path / "a.dcm", coded, syntax, NumberOfFrames=2, **depth)
    mask = corner(4, 6)
    ds = dcmread(path)
    before = (ds.file_meta.TransferSyntaxUID, bytes(ds.PixelData))
    painted = Canvas(ds).painted(lambda k: mask if k == 1 else None)
    assert (ds.file_meta.TransferSyntaxUID, bytes(ds.PixelData)) == before
    after_path = saved(painted, tmp_path / "b.dcm")
    after = stored(after_path)
    np.testing.assert_array_equal(after[0], frames[0])
    np.testing.assert_array_equal(after[1][~mask], frames[1][~mask])
    assert (after[1][mask] == frames[1].min()).all()
    np.testing.assert_array_equal(dcmread(after_path).pixel_array, after)  # another reader agrees
    assert UIDS[syntax] == painted.file_meta.TransferSyntaxUID


UIDS = {
    JPEGLSLossless: JPEGLSLossless,
    JPEG2000Lossless: JPEG2000Lossless,
    HTJ2KLossless: JPEG2000Lossless,
    JPEGLosslessSV1: JPEGLSLossless,
    RLELossless: RLELossless,
}


def test_signed_values_of_twelve_bits_stay_signed(tmp_path: Path) -> None:
    frames = (ramp("<i2", frames=1, step=90) - 1500).astype("<i2")
    attributes = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 1}
    stream = encapsulate([compressed(frames[0], JPEG2000Lossless)])
    path = written(tmp_path / "a.dcm", stream, JPEG2000Lossless, **attributes)
    mask = corner(4, 6)
    painted = Canvas(dcmread(path)).painted(lambda _: mask)
    after_path = saved(painted, tmp_path / "b.dcm")
    np.testing.assert_array_equal(stored(after_path)[0][~mask], frames[0][~mask])
    np.testing.assert_array_equal(dcmread(after_path).pixel_array, stored(after_path)[0])


def test_what_is_dark_is_large_in_monochrome1(tmp_path: Path) -> None:
    path = native(ramp(), tmp_path, PhotometricInterpretation="MONOCHROME1")
    mask = corner(4, 6)
    after = stored(saved(Canvas(dcmread(path)).painted(lambda _: mask), tmp_path / "b.dcm"))
    assert (after[0][mask] == ramp().max()).all()


def test_unused_bits_outside_stay(tmp_path: Path) -> None:
    frames = (ramp(step=3) | 0xA000).astype("<u2")
    path = native(frames, tmp_path, BitsStored=12, HighBit=11)
    mask = corner(4, 6)
    painted = Canvas(dcmread(path)).painted(lambda _: mask)
    words = np.frombuffer(painted.PixelData, "<u2").reshape(4, 6)
    np.testing.assert_array_equal(words[~mask], frames[0][~mask])


@pytest.mark.parametrize("planar", [0, 1])
def test_colour_is_painted_by_plane_too(tmp_path: Path, planar: int) -> None:
    rgb = np.arange(1, 73, dtype=np.uint8).reshape(4, 6, 3)
    laid = np.moveaxis(rgb, -1, 0) if planar else rgb
    path = colour(tmp_path, laid.tobytes(), "RGB", PlanarConfiguration=planar)
    mask = corner(4, 6)
    after = stored(saved(Canvas(dcmread(path)).painted(lambda _: mask), tmp_path / "b.dcm"))[0]
    np.testing.assert_array_equal(after[~mask], rgb[~mask])
    assert not after[mask].any()


@pytest.mark.parametrize("photometric", ["YBR_FULL", "YBR_FULL_422"])
def test_black_has_no_colour_in_ybr(tmp_path: Path, photometric: str) -> None:
    count = 4 * 6 * (3 if photometric == "YBR_FULL" else 2)
    content = np.arange(40, 40 + count, dtype=np.uint8).tobytes()
    path = colour(tmp_path, content, photometric)
    mask = np.zeros((4, 6), bool)
    mask[1:3, 2:4] = True
    before = stored(path)[0]
    after = stored(saved(Canvas(dcmread(path)).painted(lambda _: mask), tmp_path / "b.dcm"))[0]
    np.testing.assert_array_equal(after[~mask], before[~mask])
    assert not after[mask].any()


def colour(tmp_path: Path, content: bytes, photometric: str, **attributes) -> Path:
    depth = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "SamplesPerPixel": 3}
    return written(
        tmp_path / "a.dcm",
        content,
        PhotometricInterpretation=photometric,
        **{"PlanarConfiguration": 0, **depth, **attributes},
    )


def test_one_bit_pixels_are_painted(tmp_path: Path) -> None:
    bits = (np.arange(48) % 3 > 0).astype(np.uint8).reshape(2, 4, 6)
    path = written(
        tmp_path / "a.dcm",
        np.packbits(bits, bitorder="little").tobytes(),
        NumberOfFrames=2,
        BitsAllocated=1,
        BitsStored=1,
        HighBit=0,
    )
    mask = corner(4, 6)
    after = stored(
        saved(Canvas(dcmread(path)).painted(lambda k: mask if k else None), tmp_path / "b.dcm")
    )
    wanted = bits.copy()
    wanted[1][mask] = 0
    np.testing.assert_array_equal(after, wanted)


def test_nothing_masked_is_the_same_object(tmp_path: Path) -> None:
    ds = dcmread(native(ramp(), tmp_path))
    assert Canvas(ds).painted(lambda _: np.zeros((4, 6), bool)) is ds
    assert Canvas(ds).painted(lambda _: None) is ds


def test_what_cannot_be_decoded_is_refused(tmp_path: Path) -> None:
    short = dcmread(native(ramp(), tmp_path))
    short.PixelData = short.PixelData[:-4]
    with pytest.raises(UnreadablePixels):
        Canvas(short)
    broken = dcmread(
        written(tmp_path / "b.dcm", encapsulate([b"\xff\xd8\xff\xd9"]), JPEGBaseline8Bit)
    )
    with pytest.raises(UnreadablePixels):
        Canvas(broken).samples(0)
    video = dcmread(written(tmp_path / "c.dcm", encapsulate([b"\0\0"]), MPEG4HP41))
    with pytest.raises(UnsupportedTransferSyntax):
        Canvas(video)


@needs_corpus
@pytest.mark.parametrize(
    "row",
    [row for row in INDEX if row["decode"].startswith("ok") and int(row["bytes"]) < 2_000_000],
    ids=lambda row: row["path"],
)
def test_of_real_files_only_the_mask_changes(row: dict[str, str], tmp_path: Path) -> None:
    path = CORPUS / row["path"]
    try:
        before = stored(path)
    except InputError as error:
        pytest.skip(f"not read: {error.code}")
    if before.shape[0] > 64:
        pytest.skip("many frames")
    with quiet_pydicom():
        ds = dcmread(path)
        mask = corner(*before.shape[1:3])
        painted = Canvas(ds).painted(lambda _: mask)
    after = stored(saved(painted, tmp_path / "after.dcm"))
    np.testing.assert_array_equal(after[:, ~mask], before[:, ~mask])
    if "422" not in row["photo"]:  # there, pixels at an odd edge keep their neighbour's colour
        assert all(len(np.unique(frame[mask], axis=0)) == 1 for frame in after)
    assert after.dtype == before.dtype
