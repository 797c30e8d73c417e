"""Pixel data that is absurd, cut off or damaged: a coded error, before memory is spent."""

from __future__ import annotations

import os
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000, UID, ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from dicom import errors
from dicom.frames import FrameSource, read_frames
from tests.examples import examples
from tests.images import COMPRESSED, compressed, ramp, written

CONTRADICTIONS = [
    ({"Rows": 0}, errors.UnreadablePixels),
    ({"Rows": 60000, "Columns": 60000}, errors.UnreadablePixels),
    ({"NumberOfFrames": 2**31 - 1}, errors.UnreadablePixels),
    ({"NumberOfFrames": -1}, errors.UnreadablePixels),
    ({"BitsAllocated": 12}, errors.UnsupportedPixelFormat),
    ({"BitsStored": 17}, errors.UnsupportedPixelFormat),
    ({"HighBit": 16}, errors.UnsupportedPixelFormat),
    ({"SamplesPerPixel": 3}, errors.UnsupportedPixelFormat),
    ({"PhotometricInterpretation": "HSV"}, errors.UnsupportedPixelFormat),
    ({"PhotometricInterpretation": "PALETTE COLOR"}, errors.UnsupportedPixelFormat),
]


@pytest.mark.parametrize(("change", "error"), CONTRADICTIONS, ids=lambda value: str(value))
@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, RLELossless, *COMPRESSED], ids=lambda s: s.name
)
def test_what_the_header_cannot_mean_is_refused_before_memory_is_spent(
    tmp_path, syntax, change, error
):
    if syntax == ExplicitVRLittleEndian:
        content = ramp().tobytes()
    elif syntax == RLELossless:
        ds = dcmread(written(tmp_path / "b.dcm", ramp().tobytes()))
        ds.compress(RLELossless)
        content = ds.PixelData
    else:
        content = encapsulate([compressed(ramp()[0], syntax)])
    path = written(tmp_path / "a.dcm", content, syntax)
    assert read_frames([FrameSource(path)]).shape == (1, 4, 6)
    path = written(tmp_path / "a.dcm", content, syntax, **change)
    tracemalloc.start()
    try:
        with pytest.raises(error):
            read_frames([FrameSource(path)])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**20


def test_an_image_of_a_billion_pixels_in_a_kilobyte_is_refused(tmp_path):
    """Header and codestream agree with each other, so that only the bytes speak against them."""
    frame = bytearray(compressed(ramp()[0], JPEG2000Lossless))
    at = frame.index(b"\xff\x4f\xff\x51")
    size = (40000).to_bytes(4, "big")
    frame[at + 8 : at + 16] = frame[at + 24 : at + 32] = 2 * size
    path = written(
        tmp_path / "a.dcm", encapsulate([bytes(frame)]), JPEG2000Lossless, Rows=40000, Columns=40000
    )
    with pytest.raises(errors.UnreadablePixels, match="cannot hold"):
        read_frames([FrameSource(path)])


@pytest.mark.parametrize("syntax", [RLELossless, *COMPRESSED], ids=lambda s: s.name)
@pytest.mark.parametrize("kept", [0.1, 0.4, 0.7, 0.95])
def test_a_frame_that_is_cut_off_is_refused_not_filled_with_grey(tmp_path, syntax, kept):
    image = np.random.default_rng(1).integers(0, 4000, (4, 6), np.uint16)
    if syntax == RLELossless:
        ds = dcmread(written(tmp_path / "b.dcm", image.tobytes()))
        ds.compress(RLELossless)
        frame = ds.PixelData[16:-8]
    else:
        frame = compressed(image, syntax)
    cut = frame[: int(len(frame) * kept) // 2 * 2]
    path = written(tmp_path / "a.dcm", encapsulate([cut]), syntax)
    with pytest.raises(errors.UnreadablePixels):
        read_frames([FrameSource(path)])


def test_a_syntax_without_a_decoder_is_refused_by_name(tmp_path):
    path = written(tmp_path / "a.dcm", encapsulate([b"\0\0"]), UID("1.2.840.10008.1.2.4.100"))
    with pytest.raises(errors.UnsupportedTransferSyntax, match="MPEG2"):
        read_frames([FrameSource(path)])


@pytest.mark.parametrize("frame", [-1, 1, 10**9])
def test_a_frame_that_is_not_there_is_refused(tmp_path, frame):
    path = written(tmp_path / "a.dcm", ramp().tobytes())
    with pytest.raises(errors.UnreadablePixels):
        read_frames([FrameSource(path, frame)])


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000, *COMPRESSED], ids=lambda s: s.name)
@examples(25)
@given(
    changes=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=5)
)
def test_a_damaged_frame_gives_values_or_a_coded_error(tmp_path_factory, syntax, changes):
    base = tmp_path_factory.getbasetemp()
    sound = base / f"frame-{syntax}.dcm"
    if not sound.exists():
        values = ramp()
        if syntax == RLELossless:
            ds = dcmread(written(sound, values.tobytes()))
            ds.compress(RLELossless)
            ds.save_as(sound)
        else:
            kind = JPEG2000Lossless if syntax == JPEG2000 else syntax
            written(sound, encapsulate([compressed(values[0], kind)]), syntax)
    content = bytearray(sound.read_bytes())
    start = content.rindex(b"\xe0\x7f\x10\x00")
    for where, value in changes:
        content[start + where % (len(content) - start)] = value
    path = base / f"damaged-frame-{os.getpid()}.dcm"
    path.write_bytes(content)
    try:
        found = read_frames([FrameSource(path)])
    except errors.InputError as error:
        assert error.code
    else:
        assert found.shape == (1, 4, 6)
