"""Stored values of every transfer syntax beside pydicom's and GDCM's own decoding."""

from __future__ import annotations

from pathlib import Path

import gdcm
import imagecodecs
import jpeg_ls
import numpy as np
import pytest
from openjpeg import decode as decode_by_openjpeg
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_color_lut
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
)

from dicom import errors
from dicom.frames import FrameSource, PixelFormat, format_of, mirrored, read_frames
from dicom.header import read_header
from tests.corpus import CORPUS, INDEX, needs_corpus
from tests.images import COMPRESSED, compressed, ramp, written

# Entries that pydicom cannot decode, or only when it is forced to take them for DICOM.
OTHERWISE: dict[str, type[errors.InputError] | str] = {
    "JPEG2000-embedded-sequence-delimiter.dcm": errors.UnreadablePixels,
    "MR_truncated.dcm": errors.UnreadablePixels,
    "meta_missing_tsyntax.dcm": errors.NotDicom,
    "liver_nonbyte_aligned_deflate.dcm": "liver_nonbyte_aligned.dcm",
    "emri_small_jpeg_2k_lossless_too_short.dcm": "emri_small_jpeg_2k_lossless.dcm",
    "JPGExtended.dcm": "gdcm",
    "NM1_JPLY": "gdcm",
    "MR4_JPLY": "gdcm",
}


def all_frames(path: Path, workers: int | None = 1) -> np.ndarray:
    header = read_header(path)
    count = format_of(header).frames
    return read_frames([FrameSource(path, k, header) for k in range(count)], workers=workers)


def by_pydicom(path: Path) -> np.ndarray:
    ds = dcmread(path)
    frames = ds.pixel_array
    if ds.PhotometricInterpretation == "PALETTE COLOR":
        frames = apply_color_lut(frames, ds)
    return frames if int(ds.get("NumberOfFrames") or 1) > 1 else frames[None]


def by_gdcm(path: Path) -> np.ndarray:
    """Decode lossy JPEG of 12 bits, which pydicom lets nobody do."""
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    image = reader.GetImage()
    content = image.GetBuffer().encode("utf-8", "surrogateescape")
    return np.frombuffer(content, np.uint16).reshape(1, image.GetDimension(1), -1)


# --- real files ---------------------------------------------------------------------------------


@needs_corpus
@pytest.mark.parametrize("entry", INDEX, ids=lambda entry: entry["path"])
def test_a_real_file_gives_the_pixels_that_others_decode(entry):
    path = CORPUS / entry["path"]
    otherwise = OTHERWISE.get(path.name)
    if otherwise == "gdcm":
        # Two decoders of lossy JPEG may round the cosine transform differently, by one.
        assert np.abs(all_frames(path).astype(int) - by_gdcm(path)).max() <= 1
    elif isinstance(otherwise, str):
        np.testing.assert_array_equal(all_frames(path), by_pydicom(path.with_name(otherwise)))
    elif otherwise is not None or entry["read"] != "ok":
        with pytest.raises(otherwise or errors.NotDicom):
            all_frames(path)
    elif entry["decode"] == "no PixelData":
        with pytest.raises(errors.UnreadablePixels):
            all_frames(path)
    else:
        assert entry["decode"].startswith("ok")
        ours, theirs = all_frames(path), by_pydicom(path)
        assert ours.dtype == theirs.dtype.newbyteorder("<")
        assert ours.shape == theirs.shape
        tolerance = 1 if entry["ts"] == JPEGBaseline8Bit else 0
        assert np.abs(ours.astype(np.float64) - theirs).max() <= tolerance


@needs_corpus
@pytest.mark.parametrize("image", ["CT1", "MR4", "NM1"])
def test_one_image_has_one_content_in_every_lossless_syntax(image):
    folder = CORPUS / "nema_wg04"
    kinds = ["RLE", "JPLL", "JLSL", "J2KR"]
    first, *others = [all_frames(folder / kind / f"{image}_{kind}") for kind in kinds]
    assert first.max() > first.min()
    for other in others:
        np.testing.assert_array_equal(other, first)


@needs_corpus
@pytest.mark.parametrize(
    ("file", "lossy"),
    [
        ("nema_wg04/JPLY/MR4_JPLY", True),
        ("nema_wg04/J2KI/CT1_J2KI", True),
        ("nema_wg04/J2KR/CT1_J2KR", False),
        ("deid/deid-data_MIT/cookie1.dcm", True),
        ("pydicom-data_MIT/693_UNCR.dcm", False),
    ],
)
def test_lossy_images_are_flagged(file, lossy):
    assert format_of(read_header(CORPUS / file)).lossy is lossy


# --- made files ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "syntax",
    [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian,
     DeflatedExplicitVRLittleEndian],
    ids=lambda syntax: syntax.name,
)  # fmt: skip
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4"])
def test_uncompressed_frames_come_as_stored(tmp_path, syntax, dtype):
    bits = 8 * np.dtype(dtype).itemsize
    frames = ramp(dtype, frames=3, start=-100, step=3)
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    path = written(
        tmp_path / "a.dcm",
        frames.astype(order + dtype).tobytes(),
        syntax,
        NumberOfFrames=3,
        BitsAllocated=bits,
        BitsStored=bits,
        HighBit=bits - 1,
        PixelRepresentation=int(dtype[0] == "i"),
    )
    found = read_frames([FrameSource(path, k) for k in (2, 0, 1, 0)])
    assert found.dtype == np.dtype("<" + dtype)
    np.testing.assert_array_equal(found, frames[[2, 0, 1, 0]])


@pytest.mark.parametrize(
    ("keyword", "kind"), [("FloatPixelData", "f4"), ("DoubleFloatPixelData", "f8")]
)
def test_float_pixel_data_is_read(tmp_path, keyword, kind):
    path = written(tmp_path / "a.dcm", b"")
    frames = np.linspace(-1, 1, 24, dtype=kind).reshape(1, 4, 6)
    ds = dcmread(path)
    del ds.PixelData
    ds.BitsAllocated = 8 * frames.itemsize
    setattr(ds, keyword, frames.tobytes())
    ds.save_as(path)
    np.testing.assert_array_equal(read_frames([FrameSource(path)]), frames)


def test_overlays_above_the_high_bit_are_cleared_and_the_sign_is_spread(tmp_path):
    values = np.array([-2048, -1, 0, 1, 2047, -7] * 4, np.int16).reshape(1, 4, 6)
    overlay = (values.astype(np.uint16) & 0x0FFF) | 0x5000
    bits = {"BitsStored": 12, "HighBit": 11}
    signed = written(tmp_path / "s.dcm", overlay.tobytes(), PixelRepresentation=1, **bits)
    unsigned = written(tmp_path / "u.dcm", overlay.tobytes(), **bits)
    np.testing.assert_array_equal(read_frames([FrameSource(signed)]), values)
    np.testing.assert_array_equal(
        read_frames([FrameSource(unsigned)]), values.astype(np.uint16) & 0x0FFF
    )


@pytest.mark.parametrize("signed", [0, 1])
def test_a_high_bit_above_the_stored_bits_is_shifted_down(tmp_path, signed):
    values = ramp("i2" if signed else "u2", start=-500 * signed)
    path = written(
        tmp_path / "a.dcm",
        (values << 4).astype(np.uint16).tobytes(),
        BitsStored=12,
        HighBit=15,
        PixelRepresentation=signed,
    )
    np.testing.assert_array_equal(read_frames([FrameSource(path)]), values)


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("syntax", list(COMPRESSED)[:3], ids=lambda syntax: syntax.name)
def test_signed_values_keep_their_sign_through_a_codec_without_signs(tmp_path, syntax, bits):
    values = ramp("i2", start=-400)
    stored = values.astype(np.uint16) & 0x0FFF  # the codestream itself is unsigned, of 12 bits
    frame = {
        JPEGLosslessSV1: lambda: imagecodecs.ljpeg_encode(stored[0], bitspersample=12),
        JPEG2000Lossless: lambda: imagecodecs.jpeg2k_encode(
            stored[0], level=0, reversible=True, bitspersample=12
        ),
        JPEGLSLossless: lambda: jpeg_ls.encode_pixel_data(
            stored.tobytes(), rows=4, columns=6, samples_per_pixel=1, bits_stored=12
        ),
    }[syntax]()
    path = written(
        tmp_path / "a.dcm",
        encapsulate([bytes(frame)]),
        syntax,
        BitsStored=bits,
        HighBit=bits - 1,
        PixelRepresentation=1,
    )
    np.testing.assert_array_equal(read_frames([FrameSource(path)]), values)


def test_high_throughput_jpeg2000_is_what_openjpeg_decodes(tmp_path):
    frame = compressed(ramp()[0], HTJ2KLossless)
    path = written(tmp_path / "a.dcm", encapsulate([frame]), HTJ2KLossless)
    found = read_frames([FrameSource(path)])[0]
    np.testing.assert_array_equal(found, decode_by_openjpeg(frame))
    np.testing.assert_array_equal(found, ramp()[0])


@pytest.mark.parametrize("planar", [0, 1])
def test_colour_by_plane_and_by_pixel_is_the_same(tmp_path, planar):
    rgb = np.random.default_rng(1).integers(0, 256, (2, 4, 6, 3), np.uint8)
    pixels = np.moveaxis(rgb, -1, 1) if planar else rgb
    path = written(
        tmp_path / "a.dcm",
        np.ascontiguousarray(pixels).tobytes(),
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
        PlanarConfiguration=planar,
        NumberOfFrames=2,
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
    )
    np.testing.assert_array_equal(all_frames(path), rgb)


def test_a_segmented_palette_is_what_pydicom_expands(tmp_path):
    # discrete 3 entries, linear 5, discrete 2, then the first two segments once more
    words = [0, 3, 10, 500, 9000, 1, 5, 60000, 0, 2, 7, 8]
    path = written(
        tmp_path / "a.dcm",
        (np.arange(24) % 12).astype(np.uint8).tobytes(),
        PhotometricInterpretation="PALETTE COLOR",
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
    )
    ds = dcmread(path)
    for number, name in enumerate(("Red", "Green", "Blue")):
        ds.add_new(f"{name}PaletteColorLookupTableDescriptor", "US", [10, 1, 16])
        lut = np.array(words, "<u2")
        lut[4] += number
        setattr(ds, f"Segmented{name}PaletteColorLookupTableData", lut.tobytes())
    ds.save_as(path)
    expected = apply_color_lut(ds.pixel_array, ds)
    np.testing.assert_array_equal(all_frames(path)[0], expected)
    assert len(np.unique(expected.reshape(-1, 3), axis=0)) == 10


def test_bits_of_frames_that_end_within_a_byte_are_told_apart(tmp_path):
    bits = np.random.default_rng(1).integers(0, 2, (3, 3, 7), np.uint8)
    path = written(
        tmp_path / "a.dcm",
        np.packbits(bits.reshape(-1), bitorder="little").tobytes(),
        NumberOfFrames=3,
        Rows=3,
        Columns=7,
        BitsAllocated=1,
        BitsStored=1,
        HighBit=0,
    )
    np.testing.assert_array_equal(all_frames(path), bits)


def test_monochrome1_is_told_and_turned_round_only_when_asked(tmp_path):
    values = ramp()
    path = written(
        tmp_path / "a.dcm", values.tobytes(), PhotometricInterpretation="MONOCHROME1",
        BitsStored=12, HighBit=11,
    )  # fmt: skip
    form = format_of(read_header(path))
    assert form.photometric == "MONOCHROME1"
    found = all_frames(path)
    np.testing.assert_array_equal(found, values)
    np.testing.assert_array_equal(mirrored(found, form), 4095 - values)


# --- fragments ----------------------------------------------------------------------------------


def item(content: bytes) -> bytes:
    return b"\xfe\xff\x00\xe0" + len(content).to_bytes(4, "little") + content


def in_fragments(frames: list[bytes], *, table: bool, size: int = 40) -> bytes:
    """Return frames cut into fragments, with or without a basic offset table."""
    offsets, items = [], b""
    for frame in frames:
        offsets.append(len(items))
        padded = frame + b"\0" * (len(frame) % 2)
        items += b"".join(item(padded[at : at + size]) for at in range(0, len(padded), size))
    first = np.array(offsets if table else [], "<u4").tobytes()
    return item(first) + items  # pydicom writes the delimiter


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless], ids=lambda s: s.name)
@pytest.mark.parametrize("table", [True, False], ids=["offset table", "no table"])
@pytest.mark.parametrize("count", [1, 3])
def test_frames_in_several_fragments_are_put_together(tmp_path, syntax, table, count):
    values = ramp(frames=count)
    frames = [compressed(frame, syntax) for frame in values]
    path = written(
        tmp_path / "a.dcm", in_fragments(frames, table=table), syntax, NumberOfFrames=count
    )
    np.testing.assert_array_equal(all_frames(path), values)
    np.testing.assert_array_equal(read_frames([FrameSource(path, count - 1)])[0], values[-1])


@pytest.mark.parametrize("offsets", [[0, 4, 90], [90, 0, 40], [0, 2**31, 2**31 + 8], [0, 0, 0]])
def test_an_offset_table_that_points_nowhere_is_refused(tmp_path, offsets):
    frames = [compressed(frame, JPEGLSLossless) for frame in ramp(frames=3)]
    content = in_fragments(frames, table=True)
    content = content[:8] + np.array(offsets, "<u4").tobytes() + content[20:]
    path = written(tmp_path / "a.dcm", content, JPEGLSLossless, NumberOfFrames=3)
    with pytest.raises(errors.UnreadablePixels, match="offset table"):
        all_frames(path)


def test_an_offset_table_that_leaves_the_first_fragment_out_is_refused(tmp_path):
    frames = [compressed(frame, JPEGLSLossless) for frame in ramp(frames=3)]
    content = in_fragments(frames, table=True)
    second_fragment = (40 + 8).to_bytes(4, "little")
    path = written(
        tmp_path / "a.dcm",
        content[:8] + second_fragment + content[12:],
        JPEGLSLossless,
        NumberOfFrames=3,
    )
    with pytest.raises(errors.UnreadablePixels, match="out of order"):
        all_frames(path)


def test_an_extended_offset_table_is_used(tmp_path):
    values = ramp(frames=2)
    frames = [compressed(frame, JPEG2000Lossless) for frame in values]
    path = written(
        tmp_path / "a.dcm", in_fragments(frames, table=False), JPEG2000Lossless, NumberOfFrames=2
    )
    ds = dcmread(path)
    pieces = -(-len(frames[0]) // 40)
    second = len(frames[0]) + len(frames[0]) % 2 + 8 * pieces
    ds.ExtendedOffsetTable = np.array([0, second], "<u8").tobytes()
    ds.ExtendedOffsetTableLengths = np.array([len(f) for f in frames], "<u8").tobytes()
    ds.save_as(path)
    np.testing.assert_array_equal(all_frames(path), values)


# --- many files, many threads -------------------------------------------------------------------


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, *COMPRESSED], ids=lambda s: s.name)
def test_any_number_of_threads_gives_the_same_frames_in_order(tmp_path, syntax):
    values = ramp(frames=20)
    sources = []
    for k, frame in enumerate(values):
        native = syntax == ExplicitVRLittleEndian
        content = frame.tobytes() if native else encapsulate([compressed(frame, syntax)])
        sources.append(FrameSource(written(tmp_path / f"{k}.dcm", content, syntax)))
    for workers in (None, 1, 3, 64):
        np.testing.assert_array_equal(read_frames(sources, workers=workers), values)


def test_frames_that_differ_in_size_or_type_are_refused(tmp_path):
    first = written(tmp_path / "a.dcm", ramp().tobytes())
    for k, change in enumerate(({"Rows": 3}, {"PixelRepresentation": 1})):
        other = written(tmp_path / f"{k}.dcm", ramp().tobytes(), **change)
        with pytest.raises(errors.MixedSizes):
            read_frames([FrameSource(first), FrameSource(other)])


def test_a_format_is_a_value(tmp_path):
    path = written(tmp_path / "a.dcm", ramp().tobytes())
    one, two = (format_of(read_header(path)) for _ in range(2))
    assert isinstance(one, PixelFormat)
    assert one == two
    assert hash(one) == hash(two)
    assert (one.rows, one.columns, one.samples, one.frames) == (4, 6, 1, 1)
