"""The functional groups of each frame (PS3.3 C.7.6.16, A.51.5), as bytes.

What highdicom wrote for one frame is the template; only references, positions and numbers change
from frame to frame, and a slice's share of them is made once, however many segments it holds.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Final

from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from dicom.seg.parse import tag_of
from dicom.seg.template import SourceImage, Template

_DERIVATION = tag_of("DerivationImageSequence")
_SOURCE = tag_of("SourceImageSequence")
_PURPOSE = tag_of("PurposeOfReferenceCodeSequence")
_DERIVATION_CODE = tag_of("DerivationCodeSequence")
_FRAME_CONTENT = tag_of("FrameContentSequence")
_INDEX_VALUES = tag_of("DimensionIndexValues")
_PLANE_POSITION = tag_of("PlanePositionSequence")
_POSITION = tag_of("ImagePositionPatient")
_IDENTIFICATION = tag_of("SegmentIdentificationSequence")
_SEGMENT_NUMBER = tag_of("ReferencedSegmentNumber")
_SOP_CLASS = tag_of("ReferencedSOPClassUID")
_SOP_INSTANCE = tag_of("ReferencedSOPInstanceUID")
_FRAME_NUMBER = tag_of("ReferencedFrameNumber")
_PRESERVED = tag_of("SpatialLocationsPreserved")
_PER_FRAME: Final = tag_of("PerFrameFunctionalGroupsSequence")

_ITEM: Final = 0xFFFEE000
_PADDING = {b"UI": b"\0"}


class GroupWriter:
    """Makes the item of each frame.

    Parameters
    ----------
    template : Template
        With a frame of segment 1, as highdicom describes it.
    images : sequence of SourceImage
        Of slice k.
    positions : sequence of tuple of str
        Of slice k's first voxel, LPS in mm.
    """

    def __init__(
        self,
        template: Template,
        images: Sequence[SourceImage],
        positions: Sequence[tuple[str, str, str]],
    ) -> None:
        group = template.group
        self._segmented = "SegmentIdentificationSequence" in group
        self._indices = [
            int(item.DimensionIndexPointer) for item in template.header.DimensionIndexSequence
        ]
        self._placed = "PlanePositionSequence" in group
        derivation = group.DerivationImageSequence[0]
        source = derivation.SourceImageSequence[0]
        self._preserved = _element(_PRESERVED, b"CS", source.SpatialLocationsPreserved.encode())
        self._purpose = _copied(_PURPOSE, source.PurposeOfReferenceCodeSequence)
        self._code = _copied(_DERIVATION_CODE, derivation.DerivationCodeSequence)
        self._derivations = [self._derivation(image) for image in images]
        self._positions = [
            _sequence(_PLANE_POSITION, [_element(_POSITION, b"DS", "\\".join(position).encode())])
            for position in positions
        ]

    def item(self, number: int, k: int) -> bytes:
        """Return what describes the frame of a segment (0: of all) on slice k."""
        indices = [number if tag == _SEGMENT_NUMBER else k + 1 for tag in self._indices]
        parts = [
            self._derivations[k],
            _sequence(
                _FRAME_CONTENT,
                [_element(_INDEX_VALUES, b"UL", struct.pack(f"<{len(indices)}L", *indices))],
            ),
        ]
        if self._placed:
            parts.append(self._positions[k])
        if self._segmented:
            identified = _element(_SEGMENT_NUMBER, b"US", struct.pack("<H", number))
            parts.append(_sequence(_IDENTIFICATION, [identified]))
        return b"".join(parts)

    def _derivation(self, image: SourceImage) -> bytes:
        reference = [
            _element(_SOP_CLASS, b"UI", image.sop_class_uid.encode()),
            _element(_SOP_INSTANCE, b"UI", image.sop_instance_uid.encode()),
        ]
        if image.frame is not None:
            reference.append(_element(_FRAME_NUMBER, b"IS", str(image.frame).encode()))
        reference += [self._preserved, self._purpose]
        source = _sequence(_SOURCE, [b"".join(reference)])
        return _sequence(_DERIVATION, [source + self._code])


def per_frame(items: Iterable[bytes]) -> bytes:
    """Return the Per-Frame Functional Groups Sequence of these items, a whole element."""
    return _sequence(_PER_FRAME, items)


def _element(tag: int, vr: bytes, value: bytes) -> bytes:
    """Return an element of a short VR in Explicit VR Little Endian (PS3.5 7.1.2)."""
    if len(value) % 2:
        value += _PADDING.get(vr, b" ")
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def _sequence(tag: int, items: Iterable[bytes]) -> bytes:
    """Return a sequence of known length with items of known length (PS3.5 7.5)."""
    item_tag = struct.pack("<HH", _ITEM >> 16, _ITEM & 0xFFFF)
    content = b"".join(
        part for item in items for part in (item_tag, struct.pack("<L", len(item)), item)
    )
    return struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, b"SQ", 0, len(content)) + content


def _copied(tag: int, items: Iterable[Dataset]) -> bytes:
    """Return a sequence of highdicom's as it stands."""
    return _sequence(tag, [_plain(item) for item in items])


def _plain(item: Dataset) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, item)
    return buffer.getvalue()
