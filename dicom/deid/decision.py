"""What becomes of one attribute: the one place where an action is carried out, on bytes.

:func:`decide` is a function of three things: the rules (profile and key), the place (whose
instance, which IOD, sequence and coding scheme) and the attribute (tag, VR, bytes). It reads no
data set and remembers nothing, so that any engine may ask it, in any order, and keep its answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from functools import lru_cache
from typing import Final, NamedTuple

from pydicom.uid import UID

from dicom.deid.dates import shifted
from dicom.deid.subject import Subject
from dicom.descriptors import clean_descriptor, is_term, looks_technical, words_of
from dicom.profile import Action, Profile, Verdict, is_coded_term, known_sop_classes
from dicom.uids import KEY_BYTES, label_pseudonym, pseudonym_uid

_CHARACTER_SET: Final = 0x00080005
_SCHEME_DESIGNATOR, _SCHEME_VERSION = 0x00080102, 0x00080103

# Code systems of HL7's registry (PS3.16 Table 8-1): SNOMED CT, LOINC, UCUM ...; a vendor's or a
# hospital's root is longer or elsewhere.
_PUBLIC_CODE_SYSTEM = re.compile(r"2\.16\.840\.1\.113883\.6\.\d{1,4}")
_AGE = re.compile(r"(\d{3})([DWMY])", re.A)
_NUMERALS: Final = {
    # Longer than PS3.5 6.2 allows: devices write more digits, and geometry must not be lost.
    "DS": re.compile(r"[0-9+\-eE. ]{0,40}", re.A),
    "IS": re.compile(r"[0-9+\-. ]{0,24}", re.A),
    "CS": re.compile(r"[A-Z0-9_ ]{0,32}", re.A),
}
_UID = re.compile(r"[0-9.]{0,64}", re.A)
_NO_SHIFT: Final = timedelta()
_OLDEST = 89  # HIPAA 45 CFR 164.514(b)(2)(i)(C): ages over 89 are one class

_DUMMIES: Final[Mapping[str, bytes]] = {
    "AS": b"000D",
    "DA": b"19000101",
    "TM": b"000000",
    "DT": b"19000101000000",
    "DS": b"0",
    "IS": b"0",
    "UR": b"urn:removed",
    **dict.fromkeys(("OB", "OW", "UN", "US", "SS"), bytes(2)),
    **dict.fromkeys(("OF", "OL", "UL", "SL", "FL", "AT"), bytes(4)),
    **dict.fromkeys(("OD", "OV", "UV", "SV", "FD"), bytes(8)),
}
_DUMMY_TEXT: Final = b"REMOVED"


class Fate(Enum):
    """What an engine has to do with an attribute."""

    GONE = "leave it out"
    SAME = "copy it as it stands"
    VALUE = "write the decision's value under the decision's VR"
    ITEMS = "a sequence: decide on the attributes of each item"


class Decision(NamedTuple):
    """What becomes of one attribute.

    Parameters
    ----------
    fate : Fate
        What to do.
    vr : str
        With VALUE: the value representation to write (PS3.5 6.2); a sequence is written empty.
    value : bytes
        With VALUE: ASCII, padded to an even length, the same in every byte order.
    uids : tuple of (str, str)
        Pseudonym and original of each UID that was replaced.
    """

    fate: Fate
    vr: str = ""
    value: bytes = b""
    uids: tuple[tuple[str, str], ...] = ()


_GONE: Final = Decision(Fate.GONE)
_SAME: Final = Decision(Fate.SAME)
_ITEMS: Final = Decision(Fate.ITEMS)


@dataclass(frozen=True, slots=True)
class Place:
    """Where an attribute stands.

    Parameters
    ----------
    subject : Subject
        Whose instance it is in.
    iod : str
        From :func:`dicom.profile.iod_of`.
    parent : int
        Tag of the sequence whose item it is in; 0 at the top level.
    public_code : bool
        Whether the data set or item around it holds a code of a published scheme
        (:func:`dicom.profile.is_public_scheme` of its Coding Scheme Designator).
    creator : str
        Of a private attribute: the creator of its block; of a creator element, its own value.
    """

    subject: Subject
    iod: str
    parent: int = 0
    public_code: bool = False
    creator: str = ""


class Rules:
    """A profile with the key of its pseudonyms; remembers the profile's verdicts.

    Parameters
    ----------
    profile : Profile
        What to do with each attribute.
    key : bytes
        32 secret bytes: all pseudonyms and date shifts come from them.

    Raises
    ------
    ValueError
        When the key has another length: a bug, not bad input.
    """

    def __init__(self, profile: Profile, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a pseudonym key has {KEY_BYTES} bytes")
        self.profile = profile
        self.key = key
        self._verdicts: dict[tuple[str, int, int, str, str], Verdict] = {}

    def verdict(self, at: Place, tag: int, vr: str) -> Verdict:
        """Return what the profile says of an attribute at that place."""
        place = (at.iod, at.parent, tag, vr, at.creator)
        verdict = self._verdicts.get(place)
        if verdict is None:
            verdict = self.profile.verdict(
                tag, vr, iod=at.iod, parent=at.parent, creator=at.creator
            )
            self._verdicts[place] = verdict
        return verdict


def decide(rules: Rules, at: Place, tag: int, vr: str, value: bytes) -> Decision:
    """Return what becomes of one attribute.

    The same arguments give the same decision, so that it can be kept; of `at`, the subject is the
    same for all instances of a study that name the same persons.

    Parameters
    ----------
    rules : Rules
        Profile and key.
    at : Place
        Whose attribute, in which object and sequence.
    tag : int
        Group and element, ``0xGGGGEEEE``.
    vr : str
        Value representation in the file; empty where it is implicit.
    value : bytes
        As encoded in the file; not looked at for a sequence.
    """
    return carry_out(rules.verdict(at, tag, vr), rules, at, tag, value)


def carry_out(verdict: Verdict, rules: Rules, at: Place, tag: int, value: bytes) -> Decision:
    """Return what becomes of one attribute by the rules' verdict: the second half of `decide`."""
    if verdict.action is Action.REMOVE:
        return _GONE
    return _ACTS[verdict.action](_Attribute(rules, at, tag, value, verdict))


class _Attribute(NamedTuple):
    """One attribute with all that its decision depends on."""

    rules: Rules
    at: Place
    tag: int
    value: bytes
    verdict: Verdict

    @property
    def values(self) -> list[str]:
        """The values as text, each byte one character; nothing but padding is stripped."""
        return split(self.value)

    @property
    def words(self) -> frozenset[str]:
        return self.at.subject.words

    def label(self, text: str) -> bytes:
        return label_pseudonym(self.rules.key, text).encode("ascii")

    def lost(self) -> Decision:
        """Carry out the second choice, for a value that the first could not judge."""
        if self.verdict.otherwise is Action.REMOVE:
            return _GONE
        return _ACTS[self.verdict.otherwise](self)

    def written(self, text: str | bytes, uids: tuple[tuple[str, str], ...] = ()) -> Decision:
        vr = self.verdict.vr or "UN"
        value = text.encode("ascii") if isinstance(text, str) else text
        if len(value) % 2:
            value += b"\0" if vr in ("UI", "OB", "UN") else b" "
        return Decision(Fate.VALUE, vr, value, uids)


def split(value: bytes) -> list[str]:
    """Return the values of an attribute as text, each byte one character, without padding."""
    return [part.strip(" \0") for part in value.decode("latin-1").split("\\")]


# --- one place for each action --------------------------------------------------------------------


def _keep(one: _Attribute) -> Decision:
    return _SAME


def _items(one: _Attribute) -> Decision:
    return _ITEMS


def _empty(one: _Attribute) -> Decision:
    return Decision(Fate.VALUE, one.verdict.vr or "UN")


def _dummy(one: _Attribute) -> Decision:
    if not one.value:
        return _empty(one)
    return one.written(_DUMMIES.get(one.verdict.vr, _DUMMY_TEXT))


def _pseudonym(one: _Attribute) -> Decision:
    found: list[tuple[str, str]] = []
    uids: list[str] = []
    for uid in one.values:
        if uid and not is_well_known(uid):
            found.append((pseudonym_uid(one.rules.key, uid), uid))
            uids.append(found[-1][0])
        else:
            uids.append(uid)
    return one.written("\\".join(uids), tuple(found))


def _shift(one: _Attribute) -> Decision:
    moved = [shifted(value, one.verdict.vr, one.at.subject.shift) for value in one.values]
    if any(value is None for value in moved):
        return one.lost()
    return one.written("\\".join(map(str, moved)))


def _descriptor(one: _Attribute) -> Decision:
    cleaned = [clean_descriptor(value, identity=one.words) for value in one.values]
    if cleaned == one.values:
        return _SAME
    return one.written("\\".join(cleaned)) if any(cleaned) else one.lost()


def _technical(one: _Attribute) -> Decision:
    if all(looks_technical(value, identity=one.words) for value in one.values):
        return _SAME
    return _descriptor(one)


def _numeral(one: _Attribute) -> Decision:
    values, vr = one.values, one.verdict.vr
    if all(map(_NUMERALS[vr].fullmatch, values)):
        names = _names_somebody if vr == "CS" else _repeats_identity
        return one.lost() if names(values, one.words) else _SAME
    if vr == "CS" and one.tag != _CHARACTER_SET:
        return _descriptor(one)
    return one.lost()


def _retain(one: _Attribute) -> Decision:
    """Keep what an option retains, as long as it is what its VR says, and names nobody."""
    values, vr = one.values, one.verdict.vr
    if vr == "UI":
        if not all(_UID.fullmatch(uid) for uid in values):
            return _pseudonym(one)
        own = tuple((uid, uid) for uid in values if uid and not is_well_known(uid))
        return Decision(Fate.SAME, uids=own)
    if vr in ("DA", "TM", "DT"):
        well_formed = all(shifted(value, vr, _NO_SHIFT) is not None for value in values)
        return _SAME if well_formed else one.lost()
    escaped = any("\x1b" in value for value in values)  # ISO 2022: bytes only look like ASCII
    if escaped or not all(words_of(value).isdisjoint(one.words) for value in values):
        return one.lost()
    return _SAME


def _age(one: _Attribute) -> Decision:
    found = _AGE.fullmatch("".join(one.values).strip())
    if found is None:
        return one.lost()
    if found[2] == "Y" and int(found[1]) > _OLDEST:
        return one.written(b"090Y")
    return _SAME


def _code(one: _Attribute) -> Decision:
    """Keep a code of a published scheme; hide a local one, and the name of its scheme."""
    values = one.values
    if one.at.public_code:
        if all(_looks_coded(value, one.words) for value in values):
            return _SAME
        return _descriptor(one)
    if one.tag == _SCHEME_VERSION:
        return _GONE
    text = "\\".join(values)
    if one.tag == _SCHEME_DESIGNATOR:
        return one.written(b"99" + one.label(text))
    if one.verdict.vr == "LO":
        return _descriptor(one)
    prefix = b"urn:removed:" if one.verdict.vr == "UR" else b"R"
    return one.written(prefix + one.label(text))


_ACTS: Final[Mapping[Action, Callable[[_Attribute], Decision]]] = {
    Action.KEEP: _keep,
    Action.EMPTY: _empty,
    Action.DUMMY: _dummy,
    Action.PSEUDONYM: _pseudonym,
    Action.SHIFT: _shift,
    Action.DESCRIPTOR: _descriptor,
    Action.TECHNICAL: _technical,
    Action.NUMERAL: _numeral,
    Action.AGE: _age,
    Action.RETAIN: _retain,
    Action.CODE: _code,
    Action.ITEMS: _items,
}


# --- judging values -------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def is_well_known(uid: str) -> bool:
    """Return whether a UID names a thing of the standard, not of a patient (PS3.6 Annex A)."""
    return (
        UID(uid).type != ""
        or uid in known_sop_classes()
        or _PUBLIC_CODE_SYSTEM.fullmatch(uid) is not None
    )


def _repeats_identity(numbers: list[str], identity: frozenset[str]) -> bool:
    """Return whether a number is a long identifier of the patient or the order, come again."""
    return any(len(number) >= 5 and number in identity for number in numbers)


def _names_somebody(codes: list[str], identity: frozenset[str]) -> bool:
    """Return whether a code string holds a word of the identity that no device would mean."""
    found = words_of("\\".join(codes)) & identity
    return any(not is_term(word) and not is_coded_term(word) for word in found)


def _looks_coded(text: str, identity: frozenset[str]) -> bool:
    """Return whether a code or its meaning holds no word of the object's own identity."""
    return "^" not in text and words_of(text).isdisjoint(identity)
