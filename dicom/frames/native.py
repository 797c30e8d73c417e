"""Uncompressed frames (PS3.5 8.1, 8.2): where one lies in the pixel data, and its samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dicom.frames import decoders
from dicom.frames.colour import full_from_422
from dicom.frames.decoders import Pixels
from dicom.frames.format import PixelFormat


@dataclass(frozen=True, slots=True)
class NativeFrame:
    """One frame of uncompressed pixel data.

    Attributes
    ----------
    start, end : int
        The bytes that hold it, from the pixel data's first: whole words where they are swapped.
    """

    form: PixelFormat
    start: int
    end: int
    _skipped_bits: int
    _word: int

    @classmethod
    def at(cls, frame: int, form: PixelFormat, *, swapped: bool) -> NativeFrame:
        """Return where frame `frame` (from 0) lies; `swapped`: its words are big endian."""
        first_bit = frame * form.frame_bits
        start, end = first_bit // 8, -(-(first_bit + form.frame_bits) // 8)
        word = max(2, form.bits_allocated // 8) if swapped else 1
        start, end = start - start % word, end + -end % word
        return cls(form, start, end, first_bit - 8 * start, word)

    def samples(self, content: npt.NDArray[np.uint8]) -> Pixels:
        """Return the frame's samples, shape (rows, columns[, samples]).

        Parameters
        ----------
        content : ndarray, uint8, shape (end - start,)
            The bytes that hold it.
        """
        form = self.form
        if self._word > 1:
            content = content.view(f"u{self._word}").byteswap().view(np.uint8)
        if form.bits_allocated == 1:
            bits = np.unpackbits(content, bitorder="little")[self._skipped_bits :]
            return bits[: form.frame_pixels].reshape(form.rows, form.columns)
        content = content[self._skipped_bits // 8 :][: form.frame_bits // 8]
        if form.photometric == "YBR_FULL_422":
            return full_from_422(content.view(form.dtype), form.rows, form.columns)
        return decoders.native(content, form)
