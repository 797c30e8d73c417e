"""What can happen to an attribute."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Action(Enum):
    """What is done to one attribute; each is carried out in one place of :mod:`dicom.deid`."""

    REMOVE = "removed"
    EMPTY = "emptied"
    DUMMY = "replaced by a dummy value"
    PSEUDONYM = "UIDs replaced by their pseudonyms"
    SHIFT = "dates moved by the patient's shift"
    DESCRIPTOR = "cut down to words of the vocabulary"
    TECHNICAL = "kept where nothing in it looks like an identity"
    NUMERAL = "kept where it is a well-formed number or code string"
    AGE = "kept; more than 89 years become 90"
    CODE = "kept where its coding scheme is public"
    RETAIN = "kept where it is well-formed and names nobody"
    ITEMS = "items cleaned one by one"
    KEEP = "kept"

    __hash__ = object.__hash__  # Enum's own is written in Python, and asked for each attribute


@dataclass(frozen=True, slots=True)
class Verdict:
    """What happens to an attribute.

    Parameters
    ----------
    action : Action
        What to do.
    otherwise : Action
        What to do with a value that `action` cannot judge: REMOVE, EMPTY or DUMMY.
    vr : str
        The value representation to read and write it with (PS3.5 6.2).
    why : str
        The rule, in a few words.
    """

    action: Action
    otherwise: Action
    vr: str
    why: str


def removed(why: str) -> Verdict:
    """Return the verdict on an attribute that goes."""
    return Verdict(Action.REMOVE, Action.REMOVE, "", why)
