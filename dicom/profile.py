"""PS3.15 Table E.1-1 as data: what shall happen to an attribute, and why.

A :class:`Profile` answers one question, "what is done to this attribute?", from the table, the
chosen options, the IOD's types and, for attributes that the table does not name, their value
representation. It touches no dataset; :mod:`dicom.deid` carries the answers out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Final

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword


class Option(Enum):
    """The options of PS3.15 E.3, each by its column in the table (value)."""

    RETAIN_SAFE_PRIVATE = "retain_safe_private"
    RETAIN_UIDS = "retain_uids"
    RETAIN_DEVICE_IDENTITY = "retain_device_identity"
    RETAIN_INSTITUTION_IDENTITY = "retain_institution_identity"
    RETAIN_PATIENT_CHARACTERISTICS = "retain_patient_characteristics"
    RETAIN_FULL_DATES = "retain_full_dates"
    RETAIN_MODIFIED_DATES = "retain_modified_dates"
    CLEAN_DESCRIPTORS = "clean_descriptors"
    CLEAN_STRUCTURED_CONTENT = "clean_structured_content"
    CLEAN_GRAPHICS = "clean_graphics"


# What is built and tested today; a profile with any other option is refused, not half obeyed.
OFFERED: Final = frozenset(
    {
        Option.RETAIN_MODIFIED_DATES,
        Option.CLEAN_DESCRIPTORS,
        Option.RETAIN_PATIENT_CHARACTERISTICS,
    }
)
NODE_OPTIONS: Final = frozenset({Option.RETAIN_MODIFIED_DATES, Option.CLEAN_DESCRIPTORS})

# PS3.16 CID 7050 De-identification Method: the code that each option is declared by.
METHOD_CODES: Final[Mapping[Option | None, tuple[str, str]]] = MappingProxyType(
    {
        None: ("113100", "Basic Application Confidentiality Profile"),
        Option.CLEAN_GRAPHICS: ("113103", "Clean Graphics Option"),
        Option.CLEAN_STRUCTURED_CONTENT: ("113104", "Clean Structured Content Option"),
        Option.CLEAN_DESCRIPTORS: ("113105", "Clean Descriptors Option"),
        Option.RETAIN_FULL_DATES: (
            "113106",
            "Retain Longitudinal Temporal Information Full Dates Option",
        ),
        Option.RETAIN_MODIFIED_DATES: (
            "113107",
            "Retain Longitudinal Temporal Information Modified Dates Option",
        ),
        Option.RETAIN_PATIENT_CHARACTERISTICS: ("113108", "Retain Patient Characteristics Option"),
        Option.RETAIN_DEVICE_IDENTITY: ("113109", "Retain Device Identity Option"),
        Option.RETAIN_UIDS: ("113110", "Retain UIDs Option"),
        Option.RETAIN_SAFE_PRIVATE: ("113111", "Retain Safe Private Option"),
        Option.RETAIN_INSTITUTION_IDENTITY: ("113112", "Retain Institution Identity Option"),
    }
)


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
    ITEMS = "items cleaned one by one"
    KEEP = "kept"


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


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of Table E.1-1."""

    name: str
    basic: str
    options: Mapping[Option, str]


def _facts(name: str) -> dict[str, object]:
    text = resources.files("dicom").joinpath("data", name).read_text(encoding="utf-8")
    facts: dict[str, object] = json.loads(text)
    return facts


@dataclass(frozen=True, slots=True)
class _Table:
    """The table, its two repeating groups left out: those are removed as a whole."""

    edition: str
    rules: Mapping[int, Rule]


@cache
def _table() -> _Table:
    facts = _facts("profile.json")
    rows = facts["rows"]
    assert isinstance(rows, list)
    rules = {
        int(row["tag"], 16): Rule(
            row["name"],
            row["basic"],
            {Option(option): action for option, action in row["options"].items()},
        )
        for row in rows
        if row["tag"] != "private" and "x" not in row["tag"]
    }
    return _Table(str(facts["edition"]), rules)


def table_rules() -> Mapping[int, Rule]:
    """Return the rows of Table E.1-1 by tag, without private attributes, curves and overlays."""
    return MappingProxyType(dict(_table().rules))


@cache
def _kept(group: str) -> frozenset[str]:
    block = _facts("kept.json")[group]
    assert isinstance(block, dict)
    return frozenset(block["names"])


@cache
def _tags(group: str) -> frozenset[int]:
    tags = {tag_for_keyword(keyword) for keyword in _kept(group)}
    return frozenset(tag for tag in tags if tag is not None)


def identity_tags() -> frozenset[int]:
    """Return the tags of patient and study that the vault keeps (PS3.3 C.7.1, C.7.2)."""
    return _tags("identity")


def is_public_scheme(designator: str) -> bool:
    """Return whether a Coding Scheme Designator names a published scheme (PS3.16 Table 8-1)."""
    return designator in _kept("public_coding_schemes")


@dataclass(frozen=True, slots=True)
class _Types:
    """Types of attributes: 1 (1, 1C) and 2 (2, 2C); what is absent is type 3."""

    sop_classes: Mapping[str, str]
    iods: Mapping[str, Mapping[int, int]]
    nested: Mapping[tuple[int, int], int]


@cache
def _types() -> _Types:
    facts = _facts("iod_types.json")
    sop_classes, iods, nested = facts["sop_classes"], facts["iods"], facts["nested"]
    assert isinstance(sop_classes, dict) and isinstance(iods, dict) and isinstance(nested, dict)
    return _Types(
        sop_classes,
        {
            iod: {int(tag, 16): int(kind) for kind, tags in types.items() for tag in tags}
            for iod, types in iods.items()
        },
        {
            (int(parent, 16), int(child, 16)): int(kind)
            for child, types in nested.items()
            for kind, parents in types.items()
            for parent in parents
        },
    )


_OF_A_STUDY: Final = "1.2.840.10008.5.1.4.1.1."


@cache
def known_sop_classes() -> frozenset[str]:
    """Return the SOP classes of PS3.4 B.5 whose objects belong to a study: no directories."""
    return frozenset(uid for uid in _types().sop_classes if uid.startswith(_OF_A_STUDY))


def iod_of(sop_class_uid: str) -> str:
    """Return the name of the IOD that a storage SOP class stores; empty when none is known."""
    return _types().sop_classes.get(sop_class_uid, "")


def _type_in(iod: str, parent: int, tag: int) -> int:
    if parent:
        return _types().nested.get((parent, tag), 3)
    return _types().iods.get(iod, {}).get(tag, 3)


# --- value representations ----------------------------------------------------------------------

_BINARY_NUMBERS = frozenset({"US", "SS", "UL", "SL", "UV", "SV", "FL", "FD", "AT"})
_NUMBER_ARRAYS = frozenset({"OF", "OD", "OL", "OV"})
_BYTES = frozenset({"OB", "OW", "UN"})
_CHECKED = frozenset({"DS", "IS", "CS"})
_NARRATIVES = frozenset({"LT", "ST", "UT", "UC"})
_SHORT_TEXTS = frozenset({"LO", "SH", "CS"})
_DATES = frozenset({"DA", "DT", "TM"})
_ADDRESSES = frozenset({"UR", "AE"})
_STRINGS = (
    _CHECKED | _NARRATIVES | _SHORT_TEXTS | _DATES | _ADDRESSES | frozenset({"PN", "UI", "AS"})
)
STRING_VRS: Final = _STRINGS

_CODE_TAGS = frozenset(
    {0x00080100, 0x00080102, 0x00080103, 0x00080104, 0x00080119, 0x00080120}
)  # Code Value, Scheme Designator, Scheme Version, Meaning, Long and URN Code Value (PS3.3 8.8)

_CHARACTER_SET: Final = 0x00080005
_OVERLAYS_AND_CURVES = frozenset(range(0x5000, 0x5100)) | frozenset(range(0x6000, 0x6100))


def _dictionary_vr(tag: int) -> str:
    """Return the dictionary's VR, or an empty text for a tag that the dictionary lacks."""
    try:
        return dictionary_VR(tag)
    except KeyError:
        return ""


def _agrees(known: str, written: str) -> bool:
    """Return whether the VR in the file can hold what the dictionary says the attribute is."""
    if written in ("", "UN") or written in known:
        return True
    if "SQ" in (known, written):
        return False
    if known in _STRINGS:
        return written in _STRINGS
    return written not in _STRINGS


@dataclass(frozen=True, slots=True)
class Profile:
    """Basic Application Level Confidentiality Profile with options (PS3.15 E.2, E.3).

    Parameters
    ----------
    options : frozenset of Option
        Must be among :data:`OFFERED`.

    Raises
    ------
    ValueError
        When an option is asked for that is not offered.
    """

    options: frozenset[Option] = NODE_OPTIONS
    edition: str = field(init=False)

    def __post_init__(self) -> None:
        missing = self.options - OFFERED
        if missing:
            names = ", ".join(sorted(option.value for option in missing))
            raise ValueError(f"these options are not offered: {names}")
        object.__setattr__(self, "edition", _table().edition)

    def verdict(self, tag: int, vr: str, *, iod: str = "", parent: int = 0) -> Verdict:
        """Return what happens to an attribute.

        Parameters
        ----------
        tag : int
            Group and element, ``0xGGGGEEEE``.
        vr : str
            Value representation in the file; empty where it is implicit.
        iod : str
            From :func:`iod_of`; decides ``X/Z/D`` at the top level.
        parent : int
            Tag of the sequence that holds the attribute, 0 at the top level.
        """
        group = tag >> 16
        if group % 2:
            return _removed("private attribute")
        if tag & 0xFFFF == 0:
            return _removed("group length")
        if group < 0x0008:
            return _removed("not an attribute of a data set")
        if group in _OVERLAYS_AND_CURVES:
            return _removed("overlay or curve: the whole plane goes, PS3.15 Table E.1-1")
        if tag == _CHARACTER_SET:
            return Verdict(Action.NUMERAL, Action.REMOVE, "CS", "character set; never a dummy")
        rule = _table().rules.get(tag)
        kind = _type_in(iod, parent, tag)
        known = _dictionary_vr(tag)
        if rule is not None:
            return self._by_table(rule, known or vr, kind)
        if not known:
            return _removed("not in the data dictionary")
        if not _agrees(known, vr):
            return _removed("its VR contradicts the data dictionary")
        if tag in _CODE_TAGS:
            return Verdict(Action.CODE, Action.DUMMY, known, "coded entry, PS3.3 8.8")
        return _by_vr(tag, known, kind, parent)

    def _by_table(self, rule: Rule, vr: str, kind: int) -> Verdict:
        """Return the verdict of a row: the options first, then the Basic Profile's action."""
        basic = _basic_action(rule.basic, vr, kind)
        why = f"Table E.1-1: {rule.basic}"
        for option in sorted(self.options, key=lambda option: option.value):
            letter = rule.options.get(option)
            if letter is None:
                continue
            action = _option_action(option, letter, vr)
            if action is not None:
                return Verdict(action, basic, vr, f"{option.value}: {letter}")
        return Verdict(basic, basic, vr, why)


def _removed(why: str) -> Verdict:
    return Verdict(Action.REMOVE, Action.REMOVE, "", why)


def _without_value(kind: int) -> Action:
    """Return the mildest way of losing a value that keeps the object valid (PS3.5 7.4)."""
    return {1: Action.DUMMY, 2: Action.EMPTY}.get(kind, Action.REMOVE)


def _basic_action(basic: str, vr: str, kind: int) -> Action:
    """Choose among ``X/Z/D/U`` by the IOD's type (PS3.15 Table E.1-1a).

    A plain X or Z gives way where the IOD requires the attribute: the instance must stay valid.
    """
    if vr == "SQ":
        if "D" in basic and (basic == "D" or kind == 1):
            return Action.ITEMS
        if "U*" in basic:
            return Action.ITEMS  # the references stay, as pseudonyms
        if basic == "U":
            return Action.ITEMS
        return Action.EMPTY if basic == "Z" or ("Z" in basic and kind < 3) else Action.REMOVE
    if basic == "U" or (vr == "UI" and "D" in basic):
        return Action.PSEUDONYM
    allowed = basic.split("/")
    strictest = _without_value(kind)
    if "X" in allowed and strictest is Action.REMOVE:
        return Action.REMOVE
    if basic != "D" and strictest is not Action.DUMMY and ("Z" in allowed or allowed == ["X"]):
        return Action.EMPTY
    return Action.DUMMY


def _option_action(option: Option, letter: str, vr: str) -> Action | None:
    """Return how an option's K or C is carried out; None where its basic action is the safe way."""
    if option is Option.RETAIN_MODIFIED_DATES:
        return Action.SHIFT if vr in _DATES else None
    if letter == "C":
        # Narratives and sequences are not cleaned but lost: no vocabulary judges a sentence.
        return Action.DESCRIPTOR if vr in _SHORT_TEXTS else None
    if vr == "AS":
        return Action.AGE
    if vr in _CHECKED:
        return Action.NUMERAL
    return Action.KEEP if vr in _BINARY_NUMBERS else None


def _by_vr(tag: int, vr: str, kind: int, parent: int) -> Verdict:
    """Return the verdict on an attribute that the table does not name, by its VR alone."""
    lost = _without_value(kind)
    if vr == "SQ":
        return Verdict(Action.ITEMS, lost, vr, "sequence outside the table")
    if vr == "UI":
        return Verdict(Action.PSEUDONYM, lost, vr, "UID outside the table")
    if vr in _DATES:
        return Verdict(Action.SHIFT, lost, vr, "date or time outside the table")
    if vr == "AS":
        return Verdict(Action.AGE, lost, vr, "age outside the table")
    if vr in _CHECKED:
        return Verdict(Action.NUMERAL, lost, vr, "number or code string")
    if tag in _tags("technical_text"):
        return Verdict(Action.TECHNICAL, lost, vr, "technical text")
    if vr in _SHORT_TEXTS:
        return Verdict(Action.DESCRIPTOR, lost, vr, "short text outside the table")
    if vr in _STRINGS:  # PN, UR, AE, LT, ST, UT, UC
        return Verdict(lost, lost, vr, "name, address or narrative outside the table")
    if vr in _BINARY_NUMBERS or vr in _NUMBER_ARRAYS or vr in ("US or SS", "US or SS or OW"):
        if keyword_for_tag(tag).startswith("Selector"):
            return _removed("a hanging protocol's copy of any value")
        return Verdict(Action.KEEP, lost, vr, "binary number")
    if tag in _tags("binary") and (parent == 0 or keyword_for_tag(tag) not in _PIXELS):
        return Verdict(Action.KEEP, lost, vr, "pixels or look-up table")
    return _removed("bytes that no rule judges")


_PIXELS = frozenset({"PixelData", "FloatPixelData", "DoubleFloatPixelData"})


@cache
def node_profile() -> Profile:
    """Return the profile of the node: Basic, cleaned descriptors, one date shift a patient."""
    return Profile()
