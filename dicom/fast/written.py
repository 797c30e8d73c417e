"""What the result says of itself, written by the careful engine's own functions and used again."""

from __future__ import annotations

from typing import Final

from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.tag import BaseTag

from dicom.deid.declaration import (
    DEPENDS_ON,
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    declare,
)
from dicom.elements import Element, empty_like
from dicom.fast.memory import Latest
from dicom.fast.series import data_set
from dicom.fast.tokens import EXPLICIT, Coding, Tokens, element_of
from dicom.profile import Profile

_KEPT: Final = 16


class Declarations:
    """What objects say of what was done to them, by what a profile makes of them.

    Parameters
    ----------
    profile : Profile
        By which it is done.
    """

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._made: Latest[tuple[Coding, frozenset[int]], Tokens] = Latest(_KEPT)

    def of(self, has: Tokens, coding: Coding) -> Tokens:
        """Return the elements that go into an object that has these."""
        present = DEPENDS_ON.intersection(has)
        return self._made.get((coding, present), lambda: self._declared(present, coding))

    def _declared(self, present: frozenset[int], coding: Coding) -> Tokens:
        empty: dict[BaseTag, Element] = {
            tag: RawDataElement(tag, None, 0, b"", 0, coding.implicit, coding.little)
            for tag in map(BaseTag, present)
        }
        clean = data_set(empty, coding)
        declare(clean, self._profile, little=coding.little)
        said = ((tag, clean.get_item(tag)) for tag in set(clean.keys()) - present)
        return {int(tag): _written(tag, one, clean, coding) for tag, one in said}


def _written(tag: BaseTag, element: Element, like: Dataset, coding: Coding) -> bytes:
    if isinstance(element, RawDataElement) and element.VR is not None:
        return element_of(int(tag), element.VR, element.value or b"", coding)
    one = empty_like(like)
    one[tag] = element
    buffer = DicomBytesIO()
    write_dataset(buffer, one)
    return buffer.getvalue()


def file_meta_of(sop_class: str, sop_instance: str, syntax: str) -> bytes:
    """Return what stands before an instance's data set (PS3.10 7.1)."""
    group = b"".join(
        (_BEFORE, _uid(2, sop_class), _uid(3, sop_instance), _uid(0x10, syntax), _AFTER)
    )
    length = element_of(_META, "UL", EXPLICIT.length.pack(len(group)), EXPLICIT)
    return b"".join((_PREAMBLE, length, group))


def _uid(number: int, uid: str) -> bytes:
    value = uid.encode("latin-1")
    return element_of(_META | number, "UI", value + bytes(len(value) % 2), EXPLICIT)


_META: Final = 0x00020000
_PREAMBLE: Final = bytes(128) + b"DICM"
_VERSION_NAME: Final = IMPLEMENTATION_VERSION_NAME.encode("ascii")
_BEFORE: Final = element_of(_META | 1, "OB", b"\0\1", EXPLICIT)
_AFTER: Final = _uid(0x12, IMPLEMENTATION_CLASS_UID) + element_of(
    _META | 0x13, "SH", _VERSION_NAME + b" " * (len(_VERSION_NAME) % 2), EXPLICIT
)
