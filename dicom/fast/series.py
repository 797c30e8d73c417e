"""What is the same for the instances of a series, and when it is.

Refusal and subject come from the careful engine's own functions, which ask something that writes
down what they asked it for. Another instance with the same answers there has the same series: no
list has to say on which attributes all this depends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydicom import Dataset
from pydicom.charset import convert_encodings, default_encoding
from pydicom.dataelem import RawDataElement, convert_raw_data_element
from pydicom.tag import BaseTag

from dicom.deid import Deidentifier, Facts, Subject
from dicom.deid.declaration import named
from dicom.elements import Element
from dicom.fast.memory import Latest, Memory, Rows
from dicom.fast.tokens import Coding, Odd, Tokens, element_of, is_open, value_of
from dicom.part10 import PARSER_ERRORS

_CHARACTER_SET, SOP_INSTANCE = 0x00080005, 0x00080018
_SERIES_KEPT: Final = 16
_WAYS_KEPT: Final = 4
_ENCODINGS_KEPT: Final = 64
_ROWS_KEPT: Final = 1024

# Stands where the SOP Instance UID stood, so that nothing that is shared can come from it.
_ANY_INSTANCE: Final = b"1.2 "


@dataclass(frozen=True)
class Series:
    """What is the same for the instances of a series.

    Parameters
    ----------
    facts : Facts
        What the careful engine knows before it decides.
    coding : Coding
        How they are written.
    named : dict
        The elements that say whose they are now.
    memory : Memory
        What was decided about their elements; shared by series of the same subject and kind.
    """

    facts: Facts
    coding: Coding
    named: Tokens
    memory: Memory


class RecentSeries:
    """Finds the series of an instance among those that were seen last.

    Parameters
    ----------
    careful : Deidentifier
        Whose facts they are.
    """

    def __init__(self, careful: Deidentifier) -> None:
        self._careful = careful
        self._ways: tuple[tuple[int, ...], ...] = ()
        self._seen: Latest[tuple[object, ...], Series] = Latest(_SERIES_KEPT)
        self._memories: Latest[tuple[Coding, str, Subject], Memory] = Latest(_SERIES_KEPT)
        self._rows: Latest[tuple[Coding, str, int, str], Rows] = Latest(_ROWS_KEPT)
        self._encodings: Latest[tuple[Coding, bytes], Dataset] = Latest(_ENCODINGS_KEPT)

    def of(self, tokens: Tokens, syntax: str, coding: Coding) -> Series:
        """Return the series of an instance.

        Raises
        ------
        CannotDeidentify, NotDicom, UnsupportedTransferSyntax
            As the careful engine.
        Odd
            When it hangs on something that the tokens do not say.
        """
        if not tokens.get(SOP_INSTANCE, b"")[8:].strip(b" \0"):
            raise Odd
        for way in self._ways:
            series = self._seen.find(_key(syntax, way, tokens))
            if series is not None:
                return series
        asked = _Asked(tokens, coding)
        series = self._made(asked, syntax)
        way = tuple(sorted(asked.tags - {SOP_INSTANCE}))
        if way not in self._ways:
            self._ways = (way, *self._ways[: _WAYS_KEPT - 1])
        return self._seen.get(_key(syntax, way, tokens), lambda: series)

    def _made(self, asked: _Asked, syntax: str) -> Series:
        coding = asked.coding
        facts = self._careful.facts_of(asked, syntax, like=self._like(asked))
        subject, iod = facts.subject, facts.iod
        who = {
            tag: element_of(tag, vr, value, coding) for tag, vr, value in named(subject.pseudonym)
        }

        def rows(parent: int, creator: str) -> Rows:
            return self._rows.get((coding, iod, parent, creator), dict)

        memory = self._memories.get((coding, iod, subject), lambda: Memory(subject, iod, rows))
        return Series(facts, coding, who, memory)

    def _like(self, asked: _Asked) -> Dataset:
        """Return an empty data set in the encoding of what was read."""
        element = asked.element(_CHARACTER_SET)
        found = {} if element is None else {_CHARACTER_SET: element}
        return self._encodings.get(
            (asked.coding, element or b""),
            lambda: data_set(raw_elements(found, asked.coding), asked.coding),
        )


def _key(syntax: str, way: tuple[int, ...], tokens: Tokens) -> tuple[object, ...]:
    return syntax, way, tuple(map(tokens.get, way))


class _Asked:
    """An instance's attributes, which write down what was asked of them."""

    def __init__(self, tokens: Tokens, coding: Coding) -> None:
        self.tags: set[int] = set()
        self.coding = coding
        self._tokens = tokens

    def __contains__(self, tag: int) -> bool:
        if tag >> 16 & 1:
            raise Odd  # private attributes may have been left out
        self.tags.add(tag)
        return tag in self._tokens

    def element(self, tag: int) -> bytes | None:
        return self._tokens[tag] if tag in self else None

    def get_item(self, tag: int) -> RawDataElement | None:
        element = self.element(tag)
        return None if element is None else _raw_element(tag, element, self.coding)


def _raw_element(tag: int, element: bytes, coding: Coding) -> RawDataElement:
    """Return an element as pydicom would have read it."""
    vr, start = value_of(element, coding)
    if tag == SOP_INSTANCE:
        value = _ANY_INSTANCE
    else:
        value = element[start:-8] if is_open(element, coding) else element[start:]
    return RawDataElement(
        BaseTag(tag), vr or None, len(value), value, 0, coding.implicit, coding.little
    )


def raw_elements(tokens: Mapping[int, bytes], coding: Coding) -> dict[BaseTag, Element]:
    """Return pydicom's raw elements."""
    return {BaseTag(tag): _raw_element(tag, element, coding) for tag, element in tokens.items()}


def data_set(elements: dict[BaseTag, Element], coding: Coding) -> Dataset:
    """Return raw elements as pydicom would have read them.

    Raises
    ------
    Odd
        When their character set is not one that pydicom knows.
    """
    encoding: str | list[str] = default_encoding
    named = elements.get(BaseTag(_CHARACTER_SET))
    if isinstance(named, RawDataElement):
        try:
            encoding = convert_encodings(convert_raw_data_element(named).value)
        except PARSER_ERRORS:
            raise Odd from None
    ds = Dataset(elements)
    ds.set_original_encoding(coding.implicit, coding.little, encoding)
    return ds
