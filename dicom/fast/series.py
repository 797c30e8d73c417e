"""What is the same for the instances of a series, and when it is.

Refusal, subject and original attributes come from the careful engine's own functions, which look at
a data set that writes down what they asked it for. Another instance with the same answers there has
the same series: no list has to say on which attributes all this depends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from pydicom import Dataset
from pydicom.charset import convert_encodings, default_encoding
from pydicom.dataelem import RawDataElement, convert_raw_data_element
from pydicom.dataset import FileMetaDataset
from pydicom.tag import BaseTag
from pydicom.uid import UID

from dicom.deid import Deidentifier, Facts, Place
from dicom.elements import Element
from dicom.fast.memory import Decisions, Latest, Room
from dicom.fast.tokens import Odd, Tokens, is_open, value_of
from dicom.part10 import PARSER_ERRORS

_CHARACTER_SET, SOP_INSTANCE = 0x00080005, 0x00080018
_SERIES_KEPT: Final = 16
_WAYS_KEPT: Final = 4
_ROOM: Final = 4 << 20  # a CT header has 20 kB
_PLACES_KEPT: Final = 256
_DECLARATIONS_KEPT: Final = 16

# Stands where the SOP Instance UID stood, so that nothing that is shared can come from it.
_ANY_INSTANCE: Final = b"1.2 "


@dataclass(frozen=True)
class Series:
    """What is the same for the instances of a series, and what was decided about their elements."""

    facts: Facts
    implicit: bool
    room: Room = field(default_factory=lambda: Room(_ROOM))
    decisions: Latest[Place, Decisions] = field(default_factory=lambda: Latest(_PLACES_KEPT))
    declarations: Latest[tuple[int, ...], Tokens] = field(
        default_factory=lambda: Latest(_DECLARATIONS_KEPT)
    )

    def decisions_at(self, place: Place) -> Decisions:
        """Return what was decided about elements at a place."""
        return self.decisions.get(place, lambda: Decisions(place, self.room))


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

    def of(self, tokens: Tokens, syntax: str, *, implicit: bool) -> Series:
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
        asked = _Asked(raw_elements(tokens, implicit=implicit))
        series = self._made(asked, syntax, implicit=implicit)
        way = tuple(sorted(asked.tags - {SOP_INSTANCE}))
        if way not in self._ways:
            self._ways = (way, *self._ways[: _WAYS_KEPT - 1])
        return self._seen.get(_key(syntax, way, tokens), lambda: series)

    def _made(self, asked: _Asked, syntax: str, *, implicit: bool) -> Series:
        ds = data_set(asked, implicit=implicit)
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = UID(syntax)
        return Series(self._careful.facts_of(ds), implicit)


def _key(syntax: str, way: tuple[int, ...], tokens: Tokens) -> tuple[object, ...]:
    return syntax, way, tuple([tokens.get(tag) for tag in way])


class _Asked(dict[BaseTag, Element]):
    """Raw elements that write down which of them, present or not, were asked for."""

    def __init__(self, elements: Mapping[BaseTag, Element]) -> None:
        super().__init__(elements)
        self.tags: set[int] = set()

    def _note(self, tag: object) -> None:
        if not isinstance(tag, int) or tag >> 16 & 1:
            raise Odd  # private attributes may have been left out
        self.tags.add(int(tag))

    def __getitem__(self, tag: BaseTag) -> Element:
        self._note(tag)
        return super().__getitem__(tag)

    def __contains__(self, tag: object) -> bool:
        self._note(tag)
        return super().__contains__(tag)

    def get(self, tag: BaseTag, default: Any = None) -> Any:  # noqa: ANN401 - as dict has it
        self._note(tag)
        return super().get(tag, default)

    def _all(self, *_: object) -> NoReturn:
        raise Odd  # who asks for all asks for what differs from instance to instance

    __iter__ = __len__ = keys = values = items = pop = _all


def raw_elements(tokens: Tokens, *, implicit: bool) -> dict[BaseTag, Element]:
    """Return pydicom's raw elements."""
    elements: dict[BaseTag, Element] = {}
    for tag, element in tokens.items():
        vr, start = value_of(element, implicit=implicit)
        key = BaseTag(tag)
        if tag == SOP_INSTANCE:
            value = _ANY_INSTANCE
        else:
            value = element[start:-8] if is_open(element, implicit=implicit) else element[start:]
        elements[key] = RawDataElement(key, vr or None, len(value), value, 0, implicit, True)
    return elements


def data_set(elements: dict[BaseTag, Element], *, implicit: bool) -> Dataset:
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
    ds.set_original_encoding(implicit, True, encoding)
    return ds
