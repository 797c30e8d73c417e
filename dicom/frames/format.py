"""How the pixels of one file are coded, checked once (PS3.3 C.7.6.3, PS3.5 8.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from pydicom.uid import UID

from dicom.errors import UnreadablePixels, UnsupportedPixelFormat
from dicom.header import Header

SampleKind = Literal["integer", "float"]

GREY: Final = ("MONOCHROME1", "MONOCHROME2")
COLOUR: Final = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")
PALETTE: Final = "PALETTE COLOR"

_ALWAYS_LOSSY: Final = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
_MAYBE_LOSSY: Final = (  # JPEG-LS near-lossless, JPEG 2000, HTJ2K: unless the header denies it
    "1.2.840.10008.1.2.4.81",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.4.203",
)


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """How the pixels of one file are coded.

    Parameters
    ----------
    samples : int
        Per pixel in the file: 1 for grey scale and palettes, 3 for colour.
    bits_allocated, bits_stored, high_bit : int
        As in the header; 32 or 64 bits for float pixel data.
    signed : bool
        Stored values are two's complement.
    photometric : str
        PhotometricInterpretation. MONOCHROME1 says that low values are bright: the values that
        are read stay as stored, and :func:`~dicom.frames.mirrored` turns them round when asked.
    planar : bool
        Colour by plane (PlanarConfiguration 1).
    frames : int
        Number of frames in the file, at least 1.
    lossy : bool
        The values are not those that the modality made: the header or the transfer syntax says
        so, or leaves it open.
    """

    rows: int
    columns: int
    samples: int
    kind: SampleKind
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    photometric: str
    planar: bool
    frames: int
    transfer_syntax: UID
    lossy: bool

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the stored values, little endian; one bit is held in a byte."""
        if self.kind == "float":
            return np.dtype(f"<f{self.bits_allocated // 8}")
        return np.dtype(f"<{'i' if self.signed else 'u'}{max(1, self.bits_allocated // 8)}")

    @property
    def is_colour(self) -> bool:
        """Frames are read as red, green and blue."""
        return self.photometric not in GREY

    @property
    def frame_pixels(self) -> int:
        """Rows times columns."""
        return self.rows * self.columns

    @property
    def frame_bits(self) -> int:
        """Bits of one uncompressed frame in the file; frames of one bit are not padded."""
        samples = 2 if self.photometric == "YBR_FULL_422" else self.samples
        return self.frame_pixels * samples * self.bits_allocated


def format_of(header: Header) -> PixelFormat:
    """Return how the pixels of a file are coded.

    Raises
    ------
    UnreadablePixels
        When there is no pixel data, or no size.
    UnsupportedPixelFormat
        When the attributes contradict each other, or name a coding that is not read.
    """
    if header.pixels is None:
        raise UnreadablePixels("an image has no pixel data")
    rows, columns = header.whole("Rows"), header.whole("Columns")
    frames = header.whole("NumberOfFrames") or 1
    if not rows or not columns or rows < 0 or columns < 0 or frames < 1:
        raise UnreadablePixels("Rows, Columns or NumberOfFrames is missing or impossible")
    samples = header.whole("SamplesPerPixel") or 1
    photometric = header.text("PhotometricInterpretation") or ""
    if photometric not in (*GREY, *COLOUR, PALETTE):
        raise UnsupportedPixelFormat("a photometric interpretation that is not read")
    if samples != (3 if photometric in COLOUR else 1):
        raise UnsupportedPixelFormat(
            "SamplesPerPixel and PhotometricInterpretation contradict each other"
        )
    kind, allocated, stored, high = _bits(header)
    lossy_flag = header.text("LossyImageCompression")
    syntax = header.transfer_syntax
    return PixelFormat(
        rows=rows,
        columns=columns,
        samples=samples,
        kind=kind,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=high,
        signed=kind == "integer" and header.whole("PixelRepresentation") == 1,
        photometric=photometric,
        planar=samples > 1 and header.whole("PlanarConfiguration") == 1,
        frames=frames,
        transfer_syntax=syntax,
        lossy=lossy_flag == "01"
        or syntax in _ALWAYS_LOSSY
        or (syntax in _MAYBE_LOSSY and lossy_flag != "00"),
    )


def _bits(header: Header) -> tuple[SampleKind, int, int, int]:
    """Return the kind of a sample, and BitsAllocated, BitsStored, HighBit."""
    assert header.pixels is not None
    allocated = header.whole("BitsAllocated")
    if header.pixels.keyword != "PixelData":
        expected = 32 if header.pixels.keyword == "FloatPixelData" else 64
        if allocated not in (None, expected) or header.whole("SamplesPerPixel") not in (None, 1):
            raise UnsupportedPixelFormat("float pixel data that are no floats of one sample")
        return "float", expected, expected, expected - 1
    if allocated not in (1, 8, 16, 32):
        raise UnsupportedPixelFormat("BitsAllocated is not 1, 8, 16 or 32")
    stored = header.whole("BitsStored")
    stored = allocated if stored is None else stored
    high = header.whole("HighBit")
    high = stored - 1 if high is None else high
    if not 1 <= stored <= allocated or not stored - 1 <= high < allocated:
        raise UnsupportedPixelFormat("BitsStored and HighBit contradict each other")
    return "integer", allocated, stored, high
