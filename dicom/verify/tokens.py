"""What must not be found again: values of the originals, and how they may stand in a file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dicom.descriptors import clean_descriptor
from dicom.profile import Action, Profile, iod_of
from dicom.verify.reader import Reader
from dicom.verify.reading import (
    PIXELS,
    Value,
    charsets_of,
    decoded,
    is_own_uid,
    split_values,
)

LOST: Final = frozenset({Action.REMOVE, Action.EMPTY, Action.DUMMY})
KEPT: Final = frozenset(
    {
        *(Action.KEEP, Action.RETAIN, Action.TECHNICAL, Action.NUMERAL),
        *(Action.AGE, Action.CODE, Action.ITEMS),
    }
)
DATES: Final = frozenset({"DA", "DT"})
_TEXTS: Final = frozenset({"LO", "SH", "LT", "ST", "UT", "UC", "UR", "AE", "UN", "PN"})


# Names and identifiers are searched from this many characters on; shorter ones would be found in
# any file. They are still compared where they stood.
_SHORTEST_WORD: Final = 4
_SHORTEST_NUMBER: Final = 5
_SHORTEST_UID: Final = 6
_DATE: Final = 8  # YYYYMMDD


# How a text may be written (PS3.3 C.12.1.1.2): single byte, UTF-8, GB18030, and the 94x94 sets.
_ENCODINGS: Final = (
    "utf-8",
    "latin-1",
    "iso8859-2",
    "iso8859-3",
    "iso8859-4",
    "iso8859-5",
    "iso8859-6",
    "iso8859-7",
    "iso8859-8",
    "iso8859-9",
    "tis-620",
    "shift_jis",
    "iso2022_jp",
    "iso2022_jp_2",
    "euc_kr",
    "gb18030",
    "utf-16-le",
)
_NO_NAMES: Final = frozenset(
    {"none", "unknown", "removed", "anonymous", "anonymized", "anonymised", "anon", "null"}
)
_LETTERS: Final = b"abcdefghijklmnopqrstuvwxyz"
_DIGITS: Final = b"0123456789"
_BETWEEN_WORDS: Final = re.compile(r"[\W_]+")
_NUMBER: Final = re.compile(rb"[0-9+\-.eE\\ \0]*")


@dataclass(frozen=True, slots=True)
class Tokens:
    """What must not be found: values of the originals, by the kind of rule that they break.

    Attributes
    ----------
    words : frozenset of str
        Parts of persons' names, in lower case.
    identifiers : frozenset of str
        Whole values that name a person, an institution, a device or an order, in lower case.
    uids : frozenset of str
        Every UID that is not of the standard's registry.
    dates : frozenset of str
        Every date, as YYYYMMDD.
    """

    words: frozenset[str] = frozenset()
    identifiers: frozenset[str] = frozenset()
    uids: frozenset[str] = frozenset()
    dates: frozenset[str] = frozenset()

    def __or__(self, other: Tokens) -> Tokens:
        """Return the tokens of both, of all files of a study or all studies of a patient."""
        return Tokens(
            self.words | other.words,
            self.identifiers | other.identifiers,
            self.uids | other.uids,
            self.dates | other.dates,
        )


Before = Mapping[str, bytes]
"""The values of one original file by their path of tags."""


class Originals:
    """Reads original files, and gathers what must not be found again.

    Parameters
    ----------
    profile : Profile
        What it keeps is no token.
    """

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._reader = Reader()
        self._iod = ""
        self._values: dict[str, bytes] = {}
        self._words: set[str] = set()
        self._identifiers: set[str] = set()
        self._uids: set[str] = set()
        self._dates: set[str] = set()

    @property
    def tokens(self) -> Tokens:
        """The tokens of all files that were read."""
        return Tokens(
            frozenset(self._words),
            frozenset(self._identifiers),
            frozenset(self._uids),
            frozenset(self._dates),
        )

    def read(self, path: Path) -> Before:
        """Read one file before it is de-identified.

        Raises
        ------
        NotDicom
            When it cannot be read.
        """
        read = self._reader.read(path)
        ds = read.ds
        iod = iod_of(str(ds.get("SOPClassUID", "")))
        charsets = charsets_of(ds)
        alike = iod == self._iod and len(read.new) < len(read.parts)
        values = self._values.copy() if alike else {}
        for part in read.gone if alike else ():
            for place, _, _ in part.values:
                values.pop(place, None)
        for part in read.new if alike else read.parts:
            for place, element, parent in part.values:
                if element.value is not None and element.tag not in PIXELS:
                    values[place] = bytes(element.value)
                    self._gather(element, parent, iod, charsets)
        self._iod, self._values = iod, values
        return values

    def _gather(self, element: Value, parent: int, iod: str, charsets: list[str]) -> None:
        tag, value = element.tag, element.value or b""
        verdict = self._profile.verdict(
            tag, element.VR, iod=iod, parent=parent, creator=element.creator
        )
        vr = verdict.vr or element.VR
        kept = verdict.action in KEPT
        if vr == "UI":
            if not kept:
                self._uids |= {uid for uid in split_values(value) if is_own_uid(uid)}
        elif vr in DATES:
            if not kept:
                self._dates |= {
                    text[:8] for text in split_values(value) if re.match(r"\d{8}", text)
                }
        elif vr == "PN":
            if not kept:
                self._words |= _words(value, charsets)
        elif vr in _TEXTS and verdict.action in LOST and not tag >> 16 & 1:
            self._identifiers |= _identifiers(value, charsets)


def _words(value: bytes, charsets: list[str]) -> set[str]:
    text = decoded(value, charsets).lower()
    return {word for word in _BETWEEN_WORDS.split(text) if len(word) >= 2}


def _identifiers(value: bytes, charsets: list[str]) -> set[str]:
    """Return the whole values; those of harmless words or short numbers alone are none."""
    if _NUMBER.fullmatch(value) and len(value.strip(b" \0")) < _SHORTEST_NUMBER:
        return set()
    texts = (text.strip() for text in decoded(value, charsets).split("\\"))
    return {text.lower() for text in texts if text and clean_descriptor(text) != text}


def _is_searched(text: str) -> bool:
    shortest = _SHORTEST_NUMBER if text.isdigit() else _SHORTEST_WORD
    return len(text) >= shortest and text not in _NO_NAMES


def _written(tokens: Iterable[str]) -> list[bytes]:
    """Return how each token may stand in a file, for a search in lower case."""
    written: set[bytes] = set()
    for token in tokens:
        forms = {token} if token.isascii() else {token, token.upper(), token.title()}
        for form in forms:
            for encoding in ("ascii",) if form.isascii() else _ENCODINGS:
                try:
                    written.add(form.encode(encoding).lower())
                except UnicodeEncodeError:
                    continue
    return sorted(written)


@dataclass(frozen=True, slots=True)
class Needle:
    """One token as bytes in lower case, and the bytes that it must not be a part of."""

    rule: str
    text: bytes
    before: bytes
    after: bytes

    def count(self, lower: bytes) -> int:
        """Return how often it stands alone."""
        count, at, size = 0, lower.find(self.text), len(self.text)
        while at >= 0:
            joined = lower[max(0, at - 1) : at] in self.before if at else False
            ahead = lower[at + size : at + size + 1]
            if not joined and not (ahead and ahead in self.after):
                count += 1
            at = lower.find(self.text, at + 1)
        return count


_RUNS: Final = {
    "name": re.compile(rb"[a-z]+"),
    "identifier": re.compile(rb"[a-z0-9]+"),
    "uid": re.compile(rb"[0-9.]+"),
    "date": re.compile(rb"[0-9]{8}[0-9]*"),
}
"""What a token of each kind, if nothing else is in it, stands alone as: a whole run of these."""


class Needles:
    """What is searched for: words stand alone, digits in no longer number.

    A token of nothing but the bytes that it must not be joined to is a whole run of such bytes, or
    it is not there: those are looked up, however many there are. Others are searched one by one.
    """

    def __init__(self, tokens: Tokens) -> None:
        self._runs: dict[str, dict[bytes, Needle]] = {rule: {} for rule in _RUNS}
        self._others: list[Needle] = []
        for needle in needles_of(tokens):
            if _RUNS[needle.rule].fullmatch(needle.text) and not (
                needle.rule == "date" and len(needle.text) != _DATE
            ):
                self._runs[needle.rule][needle.text] = needle
            else:
                self._others.append(needle)

    def hits(self, part: bytes) -> Iterator[tuple[Needle, int]]:
        """Yield what stands in a part of a file, and how often."""
        lower = part.lower()
        for rule, pattern in _RUNS.items():
            wanted = self._runs[rule]
            if not wanted:
                continue
            runs = pattern.findall(lower)
            if rule == "date":  # a time of day may follow
                runs = [run[:_DATE] for run in runs]
            for text in wanted.keys() & set(runs):
                yield wanted[text], runs.count(text)
        for needle in self._others:
            count = needle.count(lower)
            if count:
                yield needle, count


def needles_of(tokens: Tokens) -> tuple[Needle, ...]:
    """Return what is searched for: words stand alone, digits in no longer number."""
    kinds = (
        ("name", filter(_is_searched, tokens.words), _LETTERS, _LETTERS),
        (
            "identifier",
            filter(_is_searched, tokens.identifiers),
            _LETTERS + _DIGITS,
            _LETTERS + _DIGITS,
        ),
        ("uid", tokens.uids, _DIGITS + b".", _DIGITS + b"."),
        ("date", tokens.dates, _DIGITS, b""),
    )
    return tuple(
        Needle(rule, text, before, after)
        for rule, wanted, before, after in kinds
        for text in _written(wanted)
    )
