"""The fast engine: one instance, tokens in, bytes out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO, Final

from dicom.deid import Clean, Deidentifier, Engine, Fate, Identity, Place, carry_out
from dicom.deid.subject import CODE_VALUE, CODING_SCHEME, CONCEPT_NAME, is_subject_concept
from dicom.errors import NeedsCarefulReading
from dicom.fast.memory import Decisions, Judged, Remembered, Row
from dicom.fast.reading import deflated, read_tokens
from dicom.fast.series import SOP_INSTANCE, RecentSeries, Series, data_set, raw_elements
from dicom.fast.tokens import (
    DEEPEST,
    OPEN,
    Coding,
    Odd,
    OpenSequence,
    Tokens,
    element_of,
    is_open,
    item_of,
    items,
    value_of,
)
from dicom.fast.written import Declarations, file_meta_of
from dicom.part10 import DEFLATED, quiet_pydicom
from dicom.private import PrivateCreators
from dicom.profile import Action, is_public_scheme

_CHARACTER_SET, _SOP_CLASS = 0x00080005, 0x00080016
_PATIENT_ID, _STUDY, _SERIES = 0x00100020, 0x0020000D, 0x0020000E
_PRIVATE: Final = 0x00010000  # PS3.5 7.8: groups with odd numbers


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
        self._declarations = Declarations(careful.rules.profile)

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
        read = read_tokens(file, private=self._keeps_private)
        series = self._recent.of(read.tokens, read.syntax, read.coding)
        uids: dict[str, str] = {}
        clean = self._cleaned(read.tokens, 0, series, uids, depth=0)
        clean |= series.named
        clean |= self._declarations.of(clean, read.coding)
        patient_id, study_uid, series_uid, sop_instance_uid, sop_class_uid = (
            _text(clean.get(tag), read.coding)
            for tag in (_PATIENT_ID, _STUDY, _SERIES, SOP_INSTANCE, _SOP_CLASS)
        )
        body = b"".join([clean[tag] for tag in sorted(clean)])
        if read.syntax == DEFLATED:
            body = deflated(body)
        return Clean(
            patient_id,
            study_uid,
            series_uid,
            sop_instance_uid,
            sop_class_uid,
            file_meta_of(sop_class_uid, sop_instance_uid, read.syntax) + body,
            read.pixels,
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
        coding = series.coding
        scheme = tokens.get(CODING_SCHEME)
        public_code = scheme is not None and is_public_scheme(_text(scheme, coding))
        public = known = series.memory.at(parent, public_code)
        creators = _creators(tokens, coding) if self._keeps_private else None
        head = 4 if coding.implicit else 6
        clean: Tokens = {}
        for tag, element in tokens.items():
            if creators is not None:
                known = public
                if tag & _PRIVATE:
                    known = series.memory.at(parent, public_code, creators.of(tag))
            row = known.rows.get(element[:head])
            if row is None or (head == 4 and element[4:8] == OPEN):
                row = self._row(tag, element, known, coding)
            if row is Row.COPY:
                clean[tag] = element
            elif row is not Row.GONE:
                answer = known.get(element)
                if answer is None:
                    answer = self._decided(tag, element, row, known.place, series, depth=depth)
                    known.remember(tag, element, answer)
                content, pairs = answer
                if content:
                    clean[tag] = content
                if pairs:
                    uids.update(pairs)
        return clean

    def _row(self, tag: int, element: bytes, known: Decisions, coding: Coding) -> Row | Judged:
        """Return what becomes of an attribute with any value, or the rule that looks at it."""
        vr, start = value_of(element, coding)
        if coding.implicit and is_open(element, coding):
            # As pydicom tells it; only a sequence can be without a length.
            return Judged(self._rules.verdict(known.place, tag, "SQ"), vr, start)
        verdict = self._rules.verdict(known.place, tag, vr)
        row: Row | Judged = Judged(verdict, vr, start)
        if verdict.action is Action.REMOVE:
            row = Row.GONE
        elif verdict.action is Action.KEEP and start == 8:  # longer heads may have an open length
            row = Row.COPY
        known.rows[element[: 4 if coding.implicit else 6]] = row
        return row

    def _decided(
        self, tag: int, element: bytes, row: Judged, at: Place, series: Series, *, depth: int
    ) -> Remembered:
        """Return how an element is written (nothing when it goes), and the UIDs in it."""
        coding = series.coding
        verdict, vr, start = row
        if verdict.action is Action.ITEMS:
            return self._items(tag, element, start, series, depth=depth)
        decision = carry_out(verdict, self._rules, at, tag, element[start:])
        if decision.fate is Fate.GONE:
            return b"", ()
        if decision.fate is Fate.ITEMS:  # where a value cannot be judged, and its items can
            return self._items(tag, element, start, series, depth=depth)
        if decision.fate is Fate.VALUE:
            value = b"" if decision.vr == "SQ" else decision.value
            return element_of(tag, decision.vr, value, coding), decision.uids
        if is_open(element, coding):
            raise Odd
        if tag == _CHARACTER_SET and not _is_plain(vr, element[start:]):
            raise Odd
        if vr == "UN" and not tag >> 16 & 1:
            raise Odd  # pydicom may give it the representation that its dictionary knows
        if start == 12:
            element = element_of(tag, vr, element[start:], coding)  # reserved bytes: 0
        return element, decision.uids

    def _items(
        self, tag: int, element: bytes, start: int, series: Series, *, depth: int
    ) -> Remembered:
        coding = series.coding
        if not coding.implicit and element[4:6] != b"SQ":
            raise Odd  # a sequence in disguise: pydicom knows its ways
        uids: dict[str, str] = {}
        kept = []
        for item in _items_of(element, start, coding, private=self._keeps_private):
            if CONCEPT_NAME in item and _names_the_subject(item[CONCEPT_NAME], coding):
                continue
            clean = self._cleaned(item, tag, series, uids, depth=depth + 1)
            kept.append(item_of(b"".join(clean.values()), coding))
        return element_of(tag, "SQ", b"".join(kept), coding), tuple(uids.items())


def _items_of(element: bytes, start: int, coding: Coding, *, private: bool) -> Iterable[Tokens]:
    """Return the items of a sequence, each read once."""
    if isinstance(element, OpenSequence):
        return element.items
    return items(element, start, len(element), coding, private=private)


def _text(element: bytes | None, coding: Coding) -> str:
    """Return the first value of an element as text; empty when absent."""
    if element is None:
        return ""
    _, start = value_of(element, coding)
    return element[start:].decode("latin-1").split("\\")[0].strip(" \0")


def _is_plain(vr: str, value: bytes) -> bool:
    """Return whether a character set is written as pydicom would write it."""
    if vr not in ("CS", ""):
        return False
    parts = [part.strip(b" \0") for part in value.split(b"\\")]
    joined = b"\\".join(parts)
    return value == joined + b" " * (len(joined) % 2)


def _creators(tokens: Tokens, coding: Coding) -> PrivateCreators:
    named = {tag: each for tag, each in tokens.items() if tag & _PRIVATE and tag & 0xFF00 == 0}
    return PrivateCreators(data_set(raw_elements(named, coding), coding))


def _names_the_subject(concept_name: bytes, coding: Coding) -> bool:
    """Return whether a content item with this concept name says who the subject is."""
    if not coding.implicit and concept_name[4:6] != b"SQ":
        raise Odd  # a sequence in disguise
    _, start = value_of(concept_name, coding)
    concepts = _items_of(concept_name, start, coding, private=False)
    return any(
        is_subject_concept(
            _text(each.get(CODE_VALUE), coding), _text(each.get(CODING_SCHEME), coding)
        )
        for each in list(concepts)
    )
