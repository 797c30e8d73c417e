"""What the result says of itself, written by the careful engine once and used again."""

from __future__ import annotations

from struct import Struct
from typing import Final

from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.tag import BaseTag

from dicom.deid import Deidentifier
from dicom.deid.declaration import file_meta
from dicom.elements import Element, empty_like, made
from dicom.fast.memory import Latest
from dicom.fast.series import Series, data_set
from dicom.fast.tokens import Tokens, element_of, meta_of
from dicom.part10 import encoded

_SOP_CLASS, _SOP_INSTANCE, _META_INSTANCE = 0x00080016, 0x00080018, 0x00020003
_KEPT: Final = 64
_BEFORE_LENGTH, _AFTER_LENGTH = 140, 144  # PS3.10 7.1: where the meta information's length stands
_LENGTH: Final = Struct("<L").pack
_ANY_INSTANCE: Final = "1.2.3.4"


def declared(careful: Deidentifier, series: Series, has: tuple[int, ...]) -> Tokens:
    """Return the elements that the careful engine writes into an object that has these tags."""
    empty: dict[BaseTag, Element] = {
        tag: RawDataElement(tag, None, 0, b"", 0, True, True) for tag in map(BaseTag, has)
    }
    clean = data_set(empty, implicit=series.implicit)
    careful.declare(clean, series.facts)
    said = ((tag, clean.get_item(tag)) for tag in clean.keys())  # noqa: SIM118 - they stay raw
    return {int(tag): _written(tag, one, clean) for tag, one in said if one.value}


def _written(tag: BaseTag, element: Element, like: Dataset) -> bytes:
    if isinstance(element, RawDataElement) and element.VR is not None:
        implicit = like.original_encoding[0] is True
        return element_of(int(tag), element.VR, element.value or b"", implicit=implicit)
    one = empty_like(like)
    one[tag] = element
    buffer = DicomBytesIO()
    write_dataset(buffer, one)
    return buffer.getvalue()


class FileMeta:
    """Preamble and file meta information, made once for a SOP class and transfer syntax."""

    def __init__(self) -> None:
        self._made: Latest[tuple[str, str], tuple[bytes, bytes]] = Latest(_KEPT)

    def of(self, sop_class: str, sop_instance: str, syntax: str) -> bytes:
        """Return what stands before an instance's data set (PS3.10 7.1)."""
        before, after = self._made.get((sop_class, syntax), lambda: _around(sop_class, syntax))
        named = _instance(sop_instance)
        length = _LENGTH(len(before) - _AFTER_LENGTH + len(named) + len(after))
        return b"".join((before[:_BEFORE_LENGTH], length, before[_AFTER_LENGTH:], named, after))


def _around(sop_class: str, syntax: str) -> tuple[bytes, bytes]:
    """Return the bytes before and after the SOP Instance UID, as pydicom writes them."""
    clean = Dataset()
    clean.set_original_encoding(False, True, "iso8859")
    for tag, uid in ((_SOP_CLASS, sop_class), (_SOP_INSTANCE, _ANY_INSTANCE)):
        clean[tag] = made(tag, "UI", uid.encode("latin-1"), little=True)
    clean.file_meta = file_meta(clean, syntax)
    clean.preamble = bytes(128)
    whole = encoded(clean)
    _, end = meta_of(whole)
    before, after = whole[:end].split(_instance(_ANY_INSTANCE))
    return before, after


def _instance(uid: str) -> bytes:
    value = uid.encode("latin-1")
    return element_of(_META_INSTANCE, "UI", value + bytes(len(value) % 2), implicit=False)
