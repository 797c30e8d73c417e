"""A profile attribute by attribute, for people: what happens, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.datadict import dictionary_description

from dicom.profile.iods import attributes_of
from dicom.profile.options import Option
from dicom.profile.profile import Profile, dictionary_vr
from dicom.profile.table import Rule, safe_private_rows, table_rules
from dicom.profile.verdict import Action, Verdict

_SECOND_CHOICE = frozenset(
    {Action.SHIFT, Action.DESCRIPTOR, Action.TECHNICAL, Action.NUMERAL, Action.AGE, Action.RETAIN}
)


_OF_THE_PATIENT = dict.fromkeys((0x00100010, 0x00100020), "the patient's pseudonym")


@dataclass(frozen=True, slots=True)
class Line:
    """What happens to one attribute.

    Attributes
    ----------
    tag : str
        ``(GGGG,EEEE)``; of a repeating group or a private block with x in it.
    name : str
        As the table or the data dictionary calls it.
    basic : str
        The Basic Profile's letters; empty for what the table does not name.
    options : str
        The options that speak of it, with their letters.
    happens : str
        What is done, in words.
    why : str
        The rule that decided.
    """

    tag: str
    name: str
    basic: str
    options: str
    happens: str
    why: str


def lines_of(profile: Profile, *, iod: str = "") -> Iterator[Line]:
    """Yield what happens to every attribute of Table E.1-1, and of an IOD besides.

    Parameters
    ----------
    profile : Profile
    iod : str
        From :func:`iod_of`. With it, the attributes of that IOD that the table does not name are
        listed too, and a choice of the table (``X/Z/D``) is made by what the IOD requires.
    """
    rules = table_rules()
    for tag in sorted(rules.keys() | attributes_of(iod)):
        rule = rules.get(tag)
        verdict = profile.verdict(tag, dictionary_vr(tag) or "LO", iod=iod)
        yield Line(
            f"({tag >> 16:04X},{tag & 0xFFFF:04X})",
            rule.name if rule else dictionary_description(tag),
            rule.basic if rule else "",
            _options(rule),
            _OF_THE_PATIENT.get(tag, in_words(verdict)),
            verdict.why,
        )
    yield Line("(50xx,xxxx)", "Curve Data", "X", "clean_graphics: C", "removed", "whole plane")
    yield Line("(60xx,xxxx)", "Overlay planes", "X", "clean_graphics: C", "removed", "whole plane")
    if Option.RETAIN_SAFE_PRIVATE in profile.options:
        yield from _private(profile)
    yield Line(
        "(gggg,xxxx)",
        "Every other private attribute",
        "X",
        "retain_safe_private: C",
        "removed",
        "not on the list of safe ones, PS3.15 Table E.3.10-1",
    )


def in_words(verdict: Verdict) -> str:
    """Return a verdict as a person reads it."""
    if verdict.action in _SECOND_CHOICE:
        return f"{verdict.action.value}; else {verdict.otherwise.value}"
    return verdict.action.value


def _options(rule: Rule | None) -> str:
    if rule is None:
        return ""
    return ", ".join(f"{option.value}: {letter}" for option, letter in rule.options.items())


def _private(profile: Profile) -> Iterator[Line]:
    for creator, place, vr, meaning in safe_private_rows():
        tag = int(place[:4] + "10" + place[6:], 16)
        verdict = profile.verdict(tag, vr, creator=creator)
        yield Line(
            f"({place[:4]},{place[4:]})",
            f"{creator}: {meaning}" if meaning else creator,
            "X",
            "retain_safe_private: C",
            in_words(verdict),
            verdict.why,
        )
