"""The fast engine: one instance, tokens in, bytes out."""

from __future__ import annotations

import os
from typing import BinaryIO, Final

from dicom.deid import Clean, Deidentifier, Engine, Fate, Identity, Place, decide
from dicom.deid.subject import names_the_subject
from dicom.errors import NeedsCarefulReading
from dicom.fast.memory import Remembered
from dicom.fast.series import SOP_INSTANCE, RecentSeries, Series, data_set, raw_elements
from dicom.fast.tokens import (
    DEEPEST,
    PIXELS,
    Odd,
    Tokens,
    element_of,
    elements,
    is_open,
    is_pixels,
    item_of,
    items,
    looks_explicit,
    meta_of,
    value_of,
)
from dicom.fast.written import FileMeta, declared
from dicom.part10 import DEFLATED, Extent, pixel_extent, quiet_pydicom
from dicom.private import PrivateCreators
from dicom.profile import is_public_scheme

_CHARACTER_SET, _SOP_CLASS = 0x00080005, 0x00080016
_PATIENT_ID, _STUDY, _SERIES = 0x00100020, 0x0020000D, 0x0020000E
_SCHEME, _CONCEPT_NAME = 0x00080102, 0x0040A043
_PRIVATE: Final = 0x00010000  # PS3.5 7.8: groups with odd numbers

_IMPLICIT: Final = "1.2.840.10008.1.2"
_NOT_THESE: Final = frozenset({"1.2.840.10008.1.2.2", DEFLATED})  # big endian
_FIRST_READ: Final = 1 << 16
_LARGEST_HEADER: Final = 1 << 28


class FastDeidentifier(Engine):
    """Does what the careful engine does, to files that it can read with certainty.

    Threads may share one. Memory is bounded: one header, and what was decided about the series
    that came last.

    Parameters
    ----------
    careful : Deidentifier
        Whose decisions are made.
    """

    def __init__(self, careful: Deidentifier) -> None:
        self._careful = careful
        self._rules = careful.rules
        self._keeps_private = careful.rules.profile.keeps_private
        self._recent = RecentSeries(careful)
        self._meta = FileMeta()

    def clean(self, file: BinaryIO) -> Clean:
        """Return a file's instance without its identity; nothing is written.

        Raises
        ------
        NeedsCarefulReading
            When its transfer syntax or structure is not one that this engine reads, or its pixels
            have to be looked at.
        CannotDeidentify, NotDicom, UnsupportedTransferSyntax
            As the careful engine.
        """
        if self._careful.looks_at_pixels:
            raise NeedsCarefulReading("the profile has the pixels looked at")
        try:
            with quiet_pydicom():
                return self._clean(file)
        except Odd:
            raise NeedsCarefulReading("the header is written in an unusual way") from None

    def _clean(self, file: BinaryIO) -> Clean:
        tokens, syntax, pixels = _read(file, private=self._keeps_private)
        implicit = syntax == _IMPLICIT
        series = self._recent.of(tokens, syntax, implicit=implicit)
        uids: dict[str, str] = {}
        clean = self._cleaned(tokens, 0, series, uids, depth=0)
        has = tuple(clean)
        clean |= series.declarations.get(has, lambda: declared(self._careful, series, has))
        patient_id, study_uid, series_uid, sop_instance_uid, sop_class_uid = (
            _text(clean.get(tag), implicit=implicit)
            for tag in (_PATIENT_ID, _STUDY, _SERIES, SOP_INSTANCE, _SOP_CLASS)
        )
        meta = self._meta.of(sop_class_uid, sop_instance_uid, syntax)
        return Clean(
            patient_id,
            study_uid,
            series_uid,
            sop_instance_uid,
            sop_class_uid,
            b"".join([meta, *[clean[tag] for tag in sorted(clean)]]),
            pixels,
            Identity(study_uid, uids, series.facts.original),
            "fast",
        )

    # --- one data set ---------------------------------------------------------------------------

    def _cleaned(
        self, tokens: Tokens, parent: int, series: Series, uids: dict[str, str], *, depth: int
    ) -> Tokens:
        """Return the elements of the data set, or of an item of sequence `parent`, that stay."""
        if depth > DEEPEST:
            raise Odd
        facts, implicit = series.facts, series.implicit
        public_code = is_public_scheme(_text(tokens.get(_SCHEME), implicit=implicit))
        public = Place(facts.subject, facts.iod, parent, public_code)
        remembered = series.decisions_at(public)
        creators = _creators(tokens, implicit=implicit) if self._keeps_private else None
        clean: Tokens = {}
        for tag, element in tokens.items():
            known = remembered
            if creators is not None and tag & _PRIVATE:
                place = Place(facts.subject, facts.iod, parent, public_code, creators.of(tag))
                known = series.decisions_at(place)
            answer = known.get(element)
            if answer is None:
                answer = self._decided(tag, element, known.place, series, depth=depth)
                known.remember(tag, element, answer)
            content, pairs = answer
            if content:
                clean[tag] = content
            if pairs:
                uids.update(pairs)
        return clean

    def _decided(
        self, tag: int, element: bytes, at: Place, series: Series, *, depth: int
    ) -> Remembered:
        """Return how an element is written (nothing when it goes), and the UIDs in it."""
        implicit = series.implicit
        vr, start = value_of(element, implicit=implicit)
        unmeasured = is_open(element, implicit=implicit)
        if unmeasured and implicit:
            vr = "SQ"  # as pydicom tells it; only a sequence can be without a length
        decision = decide(self._rules, at, tag, vr, element[start:])
        if decision.fate is Fate.GONE:
            return b"", ()
        if decision.fate is Fate.ITEMS:
            return self._items(tag, element, start, series, depth=depth)
        if decision.fate is Fate.VALUE:
            value = b"" if decision.vr == "SQ" else decision.value
            return element_of(tag, decision.vr, value, implicit=implicit), decision.uids
        if unmeasured or (tag == _CHARACTER_SET and not _is_plain(vr, element[start:])):
            raise Odd
        if vr == "UN" and not tag >> 16 & 1:
            raise Odd  # pydicom may give it the representation that its dictionary knows
        if start == 12:
            element = element_of(tag, vr, element[start:], implicit=implicit)  # reserved bytes: 0
        return element, decision.uids

    def _items(
        self, tag: int, element: bytes, start: int, series: Series, *, depth: int
    ) -> Remembered:
        implicit = series.implicit
        if not implicit and element[4:6] != b"SQ":
            raise Odd  # a sequence in disguise: pydicom knows its ways
        uids: dict[str, str] = {}
        how = {"implicit": implicit, "private": self._keeps_private}
        kept = []
        for item in items(element, start, len(element), **how):
            if _CONCEPT_NAME in item and _names_the_subject(item, implicit=implicit):
                continue
            clean = self._cleaned(item, tag, series, uids, depth=depth + 1)
            kept.append(item_of(b"".join(clean.values())))
        return element_of(tag, "SQ", b"".join(kept), implicit=implicit), tuple(uids.items())


# --- reading ------------------------------------------------------------------------------------


def _read(file: BinaryIO, *, private: bool) -> tuple[Tokens, str, Extent]:
    """Return a file's elements before the pixels, its transfer syntax, and where its pixels lie."""
    descriptor = file.fileno()
    size, count = os.fstat(descriptor).st_size, _FIRST_READ
    while True:
        data = os.pread(descriptor, count, 0)
        try:
            return _tokens(data, file, whole=len(data) >= size, private=private)
        except Odd:  # perhaps the header is longer than what was read
            if len(data) >= min(size, _LARGEST_HEADER):
                raise
            count *= 16


def _tokens(
    data: bytes, file: BinaryIO, *, whole: bool, private: bool
) -> tuple[Tokens, str, Extent]:
    syntax, start = meta_of(data)
    implicit = syntax == _IMPLICIT
    if syntax in _NOT_THESE or (implicit and looks_explicit(data, start)):
        raise Odd
    tokens, end = elements(data, start, len(data), implicit=implicit, private=private, stop=PIXELS)
    if whole and end == len(data):
        return tokens, syntax, Extent(end, end)
    if not is_pixels(data, end):
        raise Odd
    file.seek(end)
    return tokens, syntax, pixel_extent(file, implicit=implicit, little=True)


def _text(element: bytes | None, *, implicit: bool) -> str:
    """Return the first value of an element as text; empty when absent."""
    if element is None:
        return ""
    _, start = value_of(element, implicit=implicit)
    return element[start:].decode("latin-1").split("\\")[0].strip(" \0")


def _is_plain(vr: str, value: bytes) -> bool:
    """Return whether a character set is written as pydicom would write it."""
    if vr not in ("CS", ""):
        return False
    parts = [part.strip(b" \0") for part in value.split(b"\\")]
    joined = b"\\".join(parts)
    return value == joined + b" " * (len(joined) % 2)


def _creators(tokens: Tokens, *, implicit: bool) -> PrivateCreators:
    named = {tag: each for tag, each in tokens.items() if tag & _PRIVATE and tag & 0xFF00 == 0}
    return PrivateCreators(data_set(raw_elements(named, implicit=implicit), implicit=implicit))


def _names_the_subject(item: Tokens, *, implicit: bool) -> bool:
    return names_the_subject(data_set(raw_elements(item, implicit=implicit), implicit=implicit))
