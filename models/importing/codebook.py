"""From a model's names for its classes to DICOM codes; a name that is not known gets none.

Looked up in this order, without regard to case and to what joins the words:

1. the site's own file (``--codes``);
2. :data:`dicom.codes.STRUCTURES`;
3. the tables in ``data/``: FreeSurfer's labels and TotalSegmentator's classes.

A file of codes is JSON, a class's name to its codes, or to the name of a structure in
:mod:`dicom.codes`::

    {
      "class 1": "white_matter",
      "Lesion": {
        "label": "White matter lesion",
        "category": {"value": "49755003", "scheme": "SCT",
                     "meaning": "Morphologically Abnormal Structure"},
        "type": {"value": "52988006", "scheme": "SCT", "meaning": "Lesion"},
        "region": {"value": "12738006", "scheme": "SCT", "meaning": "Brain"},
        "laterality": null,
        "rgb": [208, 84, 196]
      }
    }

``label``, ``region``, ``laterality`` and ``rgb`` may be left out.
"""

from __future__ import annotations

import colorsys
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

from dicom.codes import STRUCTURES, Code, Rgb, Structure
from dicom.errors import CannotImport, MissingCodes
from dicom.seg import Segment

_Shade = Annotated[int, Field(ge=0, le=255)]
_Label = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64)]
# As many as fit on a screen; the rest is counted.
_NAMED = 30


class _Entry(BaseModel):
    """The codes of one class."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: _Label | None = None
    category: Code
    type: Code
    region: Code | None = None
    laterality: Code | None = None
    rgb: tuple[_Shade, _Shade, _Shade] | None = None


class _File(RootModel[dict[str, _Entry | str]]):
    """A site's file."""


class _Shipped(BaseModel):
    """One of ours: the same, and where it is from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    about: str
    codes: dict[str, _Entry]


class Codebook:
    """Codes by a class's name.

    Parameters
    ----------
    own : Path or None
        A site's file in the form above; it comes before what is shipped.

    Raises
    ------
    CannotImport
        When the file cannot be read, or names a structure that there is none of.
    """

    def __init__(self, own: Path | None = None) -> None:
        self._entries: dict[str, _Entry] = dict(_shipped())
        self._entries |= {_key(name): _entry(each) for name, each in STRUCTURES.items()}
        if own is not None:
            self._entries |= _read(own)

    def segments(
        self, names: Mapping[int, str], colours: Mapping[int, Rgb] | None = None
    ) -> tuple[Segment, ...]:
        """Return a coded segment for each class.

        Parameters
        ----------
        names : Mapping of int to str
            Segment number (1 to 255) to the model's name for it.
        colours : Mapping of int to tuple of int, optional
            The model's own colours, sRGB 0 to 255; else the codes', else one of a wheel.

        Raises
        ------
        MissingCodes
            Naming every class without codes.
        CannotImport
            When two classes have one label, or a number does not fit.
        """
        unknown = [name for name in names.values() if _key(name) not in self._entries]
        if unknown:
            more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
            raise MissingCodes(f"no DICOM code is known for: {', '.join(unknown[:_NAMED])}{more}")
        segments = []
        for place, (number, name) in enumerate(sorted(names.items())):
            if not 1 <= number <= 255:
                raise CannotImport(f"the class {name!r} has the number {number}, not 1 to 255")
            entry = self._entries[_key(name)]
            own = (colours or {}).get(number)
            segments.append(
                Segment(
                    number=number,
                    label=entry.label or name[:64],
                    category=entry.category,
                    type=entry.type,
                    region=entry.region,
                    laterality=entry.laterality,
                    rgb=own or entry.rgb or _wheel(place),
                )
            )
        labels = [segment.label.casefold() for segment in segments]
        doubled = sorted({label for label in labels if labels.count(label) > 1})
        if doubled:
            raise CannotImport(f"two classes are called {doubled[0]!r}")
        return tuple(segments)


def _key(name: str) -> str:
    """Return a name without its case and without what joins its words."""
    return re.sub(r"[\W_]+", "_", name.casefold()).strip("_")


def _read(path: Path) -> dict[str, _Entry]:
    try:
        rows = _File.model_validate_json(path.read_bytes()).root
    except OSError as error:
        raise CannotImport(f"the file of codes cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise CannotImport(f"the file of codes: {place}: {first['msg']}") from None
    found = {}
    for name, row in rows.items():
        if isinstance(row, str):
            if row not in STRUCTURES:
                raise CannotImport(f"the file of codes: {name}: there is no structure {row!r}")
            row = _entry(STRUCTURES[row], label=_title(name, row))
        found[_key(name)] = row
    return found


def _title(name: str, structure: str) -> str | None:
    """Return a label for people where the model itself has none."""
    unnamed = re.fullmatch(r"class \d+", name)
    return structure.replace("_", " ").capitalize() if unnamed else None


def _entry(structure: Structure, label: str | None = None) -> _Entry:
    return _Entry(
        label=label,
        category=structure.category,
        type=structure.type,
        laterality=structure.laterality,
        rgb=structure.rgb,
    )


@cache
def _shipped() -> Mapping[str, _Entry]:
    """Return the tables in data/, the later one's names last."""
    found: dict[str, _Entry] = {}
    adapter = TypeAdapter(_Shipped)
    for name in ("totalsegmentator_codes.json", "freesurfer_codes.json"):
        text = files("models.importing").joinpath("data", name).read_bytes()
        found |= {_key(row): entry for row, entry in adapter.validate_json(text).codes.items()}
    return found


def _wheel(place: int) -> Rgb:
    """Return the colour number `place` of an endless wheel; neighbours differ."""
    # The golden angle: no two of the first hundred lie close together.
    hue = (place * 0.618034) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.55 if place % 2 else 0.75, 0.9)
    return round(red * 255), round(green * 255), round(blue * 255)
