"""Patient- and study-level attributes as they were: half of the way back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydicom import Dataset
from pydicom.dataelem import DataElement, RawDataElement

from dicom.elements import Attributes, Element, empty_like
from dicom.part10 import PARSER_ERRORS, quiet_pydicom
from dicom.profile import identity_tags


class OriginalAttributes(Mapping[str, object]):
    """The attributes in the DICOM JSON model (PS3.18 F.2), made when the first is asked for.

    Whoever only wants the clean object does not pay for the way back. An attribute whose value
    breaks its VR (a weight in words) has no JSON and is left out.

    Parameters
    ----------
    elements : Mapping of int to Element
        By tag, as they were read.
    like : Dataset
        Empty, with the encoding that they were read in.
    """

    def __init__(self, elements: Mapping[int, Element], like: Dataset) -> None:
        self._elements = elements
        self._like = like
        self._made: dict[str, object] | None = None

    @classmethod
    def of(cls, ds: Attributes, like: Dataset) -> OriginalAttributes:
        """Return those of an object.

        Parameters
        ----------
        ds : Attributes
            The original; it is not kept.
        like : Dataset
            As the class has it.
        """
        found = ((tag, ds.get_item(tag)) for tag in identity_tags() if tag in ds)
        return cls(
            {tag: one for tag, one in found if isinstance(one, RawDataElement | DataElement)}, like
        )

    def _json(self) -> dict[str, object]:
        if self._made is None:
            self._made = dict(self._each())
        return self._made

    def _each(self) -> Iterator[tuple[str, object]]:
        parsed = empty_like(self._like)
        with quiet_pydicom():
            for tag, element in self._elements.items():
                try:
                    parsed[tag] = element
                    yield f"{tag:08X}", parsed[tag].to_json_dict(None, 0)
                except (*PARSER_ERRORS, OSError):  # the last is pydicom's for an item without a tag
                    continue

    def __getitem__(self, tag: str) -> object:
        return self._json()[tag]

    def __iter__(self) -> Iterator[str]:
        return iter(self._json())

    def __len__(self) -> int:
        return len(self._json())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self._elements)} attributes)"
