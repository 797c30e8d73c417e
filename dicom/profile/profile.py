"""Table, options, IOD and value representation made into one verdict on an attribute."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Final

from pydicom._dicom_dict import DicomDictionary
from pydicom.datadict import dictionary_VR, keyword_for_tag

from dicom.profile.iods import belongs, type_in
from dicom.profile.options import NODE_OPTIONS, ObjectType, Option, check_options
from dicom.profile.table import Rule, is_safe_creator, safe_private, table, tags_of
from dicom.profile.verdict import Action, Verdict, removed

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
_HANGING_PROTOCOLS: Final = 0x0072
_OVERLAYS_AND_CURVES = frozenset(range(0x5000, 0x5100)) | frozenset(range(0x6000, 0x6100))


def dictionary_vr(tag: int) -> str:
    """Return the dictionary's VR, or an empty text for a tag that the dictionary lacks."""
    entry = DicomDictionary.get(tag)
    if entry is not None:
        return entry[0]
    try:  # of a repeating group
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


# Coding Scheme UID, Mapping Resource and the like go with every coded entry (PS3.3 Table 8.8-1a).
_CODE_COMPANIONS = frozenset({0x0008010C, 0x00080105, 0x00080118, 0x00080122})
# Groups whose numbers say how to read voxels, doses and contours: they stay although an IOD does
# not name them (a slope of an MR image, a spacing of slices); without them the object would lie.
_IMAGE_GROUPS = frozenset(
    {0x0018, 0x0020, 0x0022, 0x0028, 0x0048, 0x0052, 0x0054, 0x0062, 0x0066, 0x0068, 0x0070}
    | {0x3002, 0x3004, 0x3006, 0x3008, 0x300A, 0x300C, 0x7FE0}
)
# Kept where a project allows the object: without it nothing would be left of it.
_CONTENT: Final = {0x00420011: ObjectType.DOCUMENT, 0x54001010: ObjectType.WAVEFORM}


@dataclass(frozen=True, slots=True)
class Profile:
    """Basic Application Level Confidentiality Profile with options (PS3.15 E.2, E.3).

    Parameters
    ----------
    options : frozenset of Option
        What is retained and what is cleaned, instead of removed.
    allowed : frozenset of ObjectType
        Objects that are not refused although no rule judges their content.

    Raises
    ------
    ConflictingOptions
        When two options exclude each other.
    """

    options: frozenset[Option] = NODE_OPTIONS
    allowed: frozenset[ObjectType] = frozenset()
    edition: str = field(init=False)

    def __post_init__(self) -> None:
        check_options(self.options)
        object.__setattr__(self, "edition", table().edition)

    @property
    def keeps_private(self) -> bool:
        """Whether any private attribute may stay."""
        return Option.RETAIN_SAFE_PRIVATE in self.options

    def verdict(
        self, tag: int, vr: str, *, iod: str = "", parent: int = 0, creator: str = ""
    ) -> Verdict:
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
        creator : str
            Of a private attribute: the creator of its block; of a creator element, its value.
        """
        group = tag >> 16
        if group % 2:
            return self._private(tag, creator)
        if tag & 0xFFFF == 0:
            return removed("group length")
        if group < 0x0008:
            return removed("not an attribute of a data set")
        if group in _OVERLAYS_AND_CURVES:
            return removed("overlay or curve: the whole plane goes, PS3.15 Table E.1-1")
        if tag == _CHARACTER_SET:
            return Verdict(Action.NUMERAL, Action.REMOVE, "CS", "character set; never a dummy")
        rule = table().rules.get(tag)
        kind = type_in(iod, parent, tag)
        known = dictionary_vr(tag)
        if _CONTENT.get(tag) in self.allowed:
            return Verdict(Action.KEEP, Action.REMOVE, known, "the project allows such objects")
        if rule is not None:
            return self._by_table(rule, known or vr, kind)
        if not known:
            return removed("not in the data dictionary")
        if not _agrees(known, vr):
            return removed("its VR contradicts the data dictionary")
        if tag in _CODE_TAGS:
            return self._code(known, parent)
        if not belongs(iod, parent, tag) and not _describes_the_image(tag, known):
            return removed("not part of the object's IOD")
        return self._by_vr(tag, known, kind, parent)

    def _private(self, tag: int, creator: str) -> Verdict:
        """Return the verdict on a private attribute (PS3.15 E.3.10)."""
        if not self.keeps_private:
            return removed("private attribute")
        if 0x10 <= tag & 0xFFFF <= 0xFF:
            if is_safe_creator(creator):
                return Verdict(Action.KEEP, Action.REMOVE, "LO", "creator of safe attributes")
            return removed("private creator without safe attributes")
        listed = safe_private(creator, tag)
        if listed is None:
            return removed("private attribute that is not on the list of safe ones")
        vr, meaning = listed
        if vr in _BYTES or not vr:
            return removed("bytes that no rule judges, though on the list of safe attributes")
        verdict = self._by_vr(tag, vr, 3, 0)
        if vr in _SHORT_TEXTS and vr != "CS":
            verdict = Verdict(Action.TECHNICAL, Action.REMOVE, vr, "")
        return Verdict(verdict.action, verdict.otherwise, vr, f"safe private: {meaning or creator}")

    def _code(self, vr: str, parent: int) -> Verdict:
        holder = table().rules.get(parent)
        for option in _RETAINING:
            if option in self.options and holder is not None and option in holder.options:
                why = f"coded entry, {option.value}"
                return Verdict(Action.RETAIN, Action.DUMMY, vr, why)
        return Verdict(Action.CODE, Action.DUMMY, vr, "coded entry, PS3.3 8.8")

    def _by_table(self, rule: Rule, vr: str, kind: int) -> Verdict:
        """Return the verdict of a row: the options first, then the Basic Profile's action."""
        basic = _basic_action(rule.basic, vr, kind)
        for option in _BY_PRECEDENCE:
            letter = rule.options.get(option)
            if letter is None or option not in self.options:
                continue
            action = _option_action(option, letter, vr)
            if action is not None:
                return Verdict(action, basic, vr, f"{option.value}: {letter}")
        return Verdict(basic, basic, vr, f"Table E.1-1: {rule.basic}")

    def _by_vr(self, tag: int, vr: str, kind: int, parent: int) -> Verdict:
        """Return the verdict on an attribute that the table does not name, by its VR alone."""
        lost = _without_value(kind)
        if vr == "SQ":
            return Verdict(Action.ITEMS, lost, vr, "sequence outside the table")
        if vr == "UI":
            kept = Option.RETAIN_UIDS in self.options
            action = Action.RETAIN if kept else Action.PSEUDONYM
            return Verdict(action, lost, vr, "UID outside the table")
        if vr in _DATES:
            return Verdict(self._of_dates() or lost, lost, vr, "date or time outside the table")
        if vr == "AS":
            return Verdict(Action.AGE, lost, vr, "age outside the table")
        if vr in _CHECKED:
            return Verdict(Action.NUMERAL, lost, vr, "number or code string")
        if tag in tags_of("technical_text"):
            return Verdict(Action.TECHNICAL, lost, vr, "technical text")
        if vr in _SHORT_TEXTS:
            return Verdict(Action.DESCRIPTOR, lost, vr, "short text outside the table")
        if vr in _STRINGS:  # PN, UR, AE, LT, ST, UT, UC
            return Verdict(lost, lost, vr, "name, address or narrative outside the table")
        if vr in _BINARY_NUMBERS or vr in _NUMBER_ARRAYS or vr in _EITHER_NUMBERS:
            if tag >> 16 == _HANGING_PROTOCOLS and keyword_for_tag(tag).startswith("Selector"):
                return removed("a hanging protocol's copy of any value")
            return Verdict(Action.KEEP, lost, vr, "binary number")
        if tag in tags_of("binary") and (parent == 0 or keyword_for_tag(tag) not in _PIXELS):
            return Verdict(Action.KEEP, lost, vr, "pixels or look-up table")
        return removed("bytes that no rule judges")

    def _of_dates(self) -> Action | None:
        if Option.RETAIN_MODIFIED_DATES in self.options:
            return Action.SHIFT
        return Action.RETAIN if Option.RETAIN_FULL_DATES in self.options else None


_PIXELS = frozenset({"PixelData", "FloatPixelData", "DoubleFloatPixelData"})
_EITHER_NUMBERS = frozenset({"US or SS", "US or SS or OW"})

# Where several options speak of one attribute: a date that is moved is never kept; what is retained
# is not cut down to descriptors.
_RETAINING: Final = (
    Option.RETAIN_DEVICE_IDENTITY,
    Option.RETAIN_INSTITUTION_IDENTITY,
    Option.RETAIN_PATIENT_CHARACTERISTICS,
)
_BY_PRECEDENCE: Final = (
    Option.RETAIN_MODIFIED_DATES,
    Option.RETAIN_FULL_DATES,
    Option.RETAIN_UIDS,
    *_RETAINING,
    Option.CLEAN_STRUCTURED_CONTENT,
    Option.CLEAN_GRAPHICS,
    Option.CLEAN_DESCRIPTORS,
)


def _describes_the_image(tag: int, vr: str) -> bool:
    if tag in _CODE_COMPANIONS or tag in tags_of("technical_text") or tag in tags_of("binary"):
        return True
    numbers = vr in _BINARY_NUMBERS or vr in _EITHER_NUMBERS or vr in _CHECKED
    return tag >> 16 in _IMAGE_GROUPS and numbers


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
    if vr == "SQ":
        # A cleaned descriptor's sequence is lost: no vocabulary judges what may stand in its items.
        return None if option is Option.CLEAN_DESCRIPTORS else Action.ITEMS
    if letter == "C":
        # Narratives are not cleaned but lost: no vocabulary judges a sentence.
        return Action.DESCRIPTOR if vr in _SHORT_TEXTS or vr == "AE" else None
    if vr == "AS":
        return Action.AGE
    if vr in _CHECKED:
        return Action.NUMERAL
    if vr in _BINARY_NUMBERS:
        return Action.KEEP
    return Action.RETAIN if vr in _STRINGS else None


@cache
def node_profile() -> Profile:
    """Return the profile of the node: Basic, cleaned descriptors, one date shift a patient."""
    return Profile()
