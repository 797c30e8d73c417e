"""What may stay is looked at, too: a rule that keeps a value keeps it on a condition.

A number is a number, an age below ninety, a retained date a date; a device's text looks like
nobody's name; a local code is hidden. The conditions are written down here once more, apart from
the engine's: whoever leaves one out there is told here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from dicom.descriptors import clean_descriptor, looks_technical
from dicom.profile import Action, is_public_scheme
from dicom.verify.reading import Found

_PADDING: Final = b" \0"
_SCHEME, _SCHEME_VERSION, _MEANING = 0x00080102, 0x00080103, 0x00080104
_TAG_WIDTH: Final = len("(0008,0102)")
_OLDEST: Final = 90  # those who are older are one class, written as this age

_SHAPES: Final[Mapping[tuple[Action, str], re.Pattern[bytes]]] = {
    (Action.NUMERAL, "DS"): re.compile(rb"[0-9+\-eE. \\\0]*"),
    (Action.NUMERAL, "IS"): re.compile(rb"[0-9+\-. \\\0]*"),
    (Action.RETAIN, "UI"): re.compile(rb"[0-9.\\ \0]*"),
    **{
        (action, vr): re.compile(rb"[0-9.:+\- \\\0]*")
        for action in (Action.RETAIN, Action.SHIFT)
        for vr in ("DA", "TM", "DT")
    },
}
_CODE_STRING: Final = re.compile(rb"[A-Z0-9_ \\\0]*")
_AGE: Final = re.compile(rb"(\d{3})([DWMY])")
_HIDDEN: Final = re.compile(rb"(?:R|99|urn:removed:)[0-9A-F]{6}|urn:removed|REMOVED")

JUDGED: Final = frozenset(
    {Action.NUMERAL, Action.TECHNICAL, Action.AGE, Action.RETAIN, Action.SHIFT, Action.CODE}
)
"""Actions whose outcome has a shape."""


def schemes_of(values: Iterable[Found]) -> dict[str, bytes]:
    """Return the Coding Scheme Designator of every item that has one, by the item's path."""
    return {
        place[:-_TAG_WIDTH]: bytes(element.value or b"")
        for place, element, _ in values
        if element.tag == _SCHEME
    }


def stays_rightly(action: Action, vr: str, value: bytes, *, unchanged: bool) -> bool:
    """Return whether a value is one that its rule lets stay.

    Parameters
    ----------
    action : Action
        One of :data:`JUDGED`, but for CODE.
    vr : str
        By which the rule reads it.
    value : bytes
    unchanged : bool
        Whether it stood there before: only then can a description be told from what is left of one.
    """
    shape = _SHAPES.get((action, vr))
    if shape is not None:
        return shape.fullmatch(value) is not None
    if action is Action.AGE:
        age = _AGE.fullmatch(value.strip(_PADDING))
        stripped = not value.strip(_PADDING)
        return stripped or (age is not None and not (age[2] == b"Y" and int(age[1]) > _OLDEST))
    if action is Action.NUMERAL and _CODE_STRING.fullmatch(value):
        return True
    if action in (Action.NUMERAL, Action.TECHNICAL) and unchanged:
        device = action is Action.TECHNICAL
        return all(
            (device and looks_technical(text)) or clean_descriptor(text) == text
            for text in (part.strip(" \0") for part in value.decode("latin-1").split("\\"))
        )
    return True


def is_rightly_coded(tag: int, value: bytes, scheme: bytes | None, *, unchanged: bool) -> bool:
    """Return whether a part of a coded entry belongs to a published scheme, or is hidden.

    Parameters
    ----------
    tag : int
        Of the part (PS3.3 8.8).
    value : bytes
    scheme : bytes or None
        The Coding Scheme Designator beside it; None where there is none.
    unchanged : bool
        As :func:`stays_rightly`.
    """
    text = value.strip(_PADDING)
    if not text or (
        scheme is not None and is_public_scheme(scheme.strip(_PADDING).decode("latin-1"))
    ):
        return True
    if tag == _SCHEME_VERSION:
        return False
    if tag == _MEANING:
        meaning = text.decode("latin-1")
        return not unchanged or clean_descriptor(meaning) == meaning
    return _HIDDEN.fullmatch(text) is not None
