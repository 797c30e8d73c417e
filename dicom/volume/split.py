"""A series of several volumes, split by what varies: echo, b-value, phase, time.

Where several planes lie at one place, something has to tell them apart. Attributes that name a
volume (an echo time, a b-value) are asked first; then times, of which each plane may have its own,
so that only their order at each place counts. What nothing tells apart is a doubled slice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from dicom.volume.planes import Plane
from dicom.volume.stack import Sheets, places

Value = tuple[float | str, ...]
Places = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Varying:
    """What tells one volume of a series from the others.

    Parameters
    ----------
    keyword : str
        The DICOM attribute.
    text : str
        Its value in this volume, as people read it: ``TE 4.6 ms``, ``b 1000``, ``phase``.
    """

    keyword: str
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The planes of one volume, and what makes them one."""

    varies: tuple[Varying, ...]
    sheets: Sheets

    @property
    def name(self) -> str:
        """How people call the volume; empty where the series holds only one."""
        return ", ".join(each.text for each in self.varies)


@dataclass(frozen=True, slots=True)
class _Attribute:
    """An attribute that can name a volume: where its value stands, and how it reads."""

    keyword: str
    words: Callable[[Value, int], str]
    others: tuple[str, ...] = ()
    """The same under other keywords (enhanced images)."""
    read: Callable[[Plane, str], Value | None] | None = None

    def of(self, plane: Plane) -> Value | None:
        for keyword in (self.keyword, *self.others):
            value = (self.read or _values)(plane, keyword)
            if value is not None:
                return value
        return None


def split(sheets: Sheets) -> tuple[Part, ...]:
    """Return the volumes of a series, by what tells them apart.

    Returns
    -------
    tuple of Part
        One without a name where no two planes share a place, or where nothing tells those apart
        that do; else at least two, in the order of their values.
    """
    return tuple(_named_apart(_split(sheets, (), 0)))


def _named_apart(parts: list[Part]) -> list[Part]:
    """Return the parts with numbers in those names that would else be the same."""
    names = [part.name for part in parts]
    if len(set(names)) == len(names):
        return parts
    return [
        replace(part, varies=(*part.varies, Varying(part.varies[-1].keyword, f"volume {number}")))
        if names.count(part.name) > 1
        else part
        for number, part in enumerate(parts, 1)
    ]


def _split(sheets: Sheets, varies: tuple[Varying, ...], depth: int) -> list[Part]:
    at = places(sheets.heights)
    doubled = len(at) - 1 - int(at.max())
    if not doubled or depth > len(_NAMING):
        return [Part(varies, sheets)]
    groups = _by_name(sheets, at) or _by_time(sheets, at)
    if groups is None:
        return [Part(varies, sheets)]
    parts = []
    for varying, chosen in groups:
        parts.extend(_split(sheets.only(np.array(chosen)), (*varies, varying), depth + 1))
    return parts


Groups = list[tuple[Varying, list[int]]]


def _by_name(sheets: Sheets, at: Places) -> Groups | None:
    """Return groups by the first attribute whose values part the planes of every place alike.

    Where none does, by the first that leaves no group less than half of the places: one of its
    volumes lacks a slice, which is said of that volume then.
    """
    fallback: Groups | None = None
    for attribute in _NAMING:
        values = [attribute.of(plane) for plane in sheets.planes]
        chosen: dict[Value | None, list[int]] = defaultdict(list)
        for index, value in enumerate(values):
            chosen[value].append(index)
        if len(chosen) < 2:
            continue
        order = sorted(chosen, key=lambda value: (value is not None, value and _sortable(value)))
        covered = [len(set(at[chosen[value]].tolist())) for value in order]
        total = int(at.max()) + 1
        groups = [
            (Varying(attribute.keyword, _text(attribute, value, number)), chosen[value])
            for number, value in enumerate(order, 1)
        ]
        if min(covered) == total:
            return groups
        if fallback is None and 2 * min(covered) > total:
            fallback = groups
    return fallback


def _text(attribute: _Attribute, value: Value | None, number: int) -> str:
    return f"no {attribute.keyword}" if value is None else attribute.words(value, number)


def _by_time(sheets: Sheets, at: Places) -> Groups | None:
    """Return groups by the order of times at each place; every place needs as many planes."""
    counts = np.bincount(at)
    if counts.min() != counts.max():
        return None
    for keyword in _TIMES:
        texts = [plane.text(keyword) for plane in sheets.planes]
        if any(text is None for text in texts):
            continue
        times = [_time(text or "") for text in texts]
        order = sorted(range(len(at)), key=lambda index: (at[index], times[index]))
        ranks = np.array(order).reshape(-1, counts[0])
        if all(
            times[first] < times[second]
            for row in ranks.tolist()
            for first, second in pairwise(row)
        ):
            return [
                (Varying(keyword, f"time {number}"), ranks[:, number - 1].tolist())
                for number in range(1, int(counts[0]) + 1)
            ]
    return None


# --- attributes ---------------------------------------------------------------------------------


def _time(text: str) -> tuple[int, float, str]:
    """Return what sorts times and dates as DICOM writes them, numbers before other texts."""
    try:
        number = float(text)
    except ValueError:
        return 1, 0.0, text
    return 0, number, ""


def _values(plane: Plane, keyword: str) -> Value | None:
    texts = plane.texts(keyword)
    if not any(text.strip() for text in texts):
        return None
    try:
        return tuple(round(float(text), 4) for text in texts)
    except ValueError:
        return tuple(text.strip() for text in texts)


def _sortable(value: Value) -> tuple[tuple[bool, float | str], ...]:
    return tuple((isinstance(part, str), part) for part in value)


_COMPONENTS = {
    "M": "magnitude",
    "P": "phase",
    "R": "real",
    "I": "imaginary",
    "MAGNITUDE": "magnitude",
    "PHASE": "phase",
    "PHASE MAP": "phase",
    "REAL": "real",
    "IMAGINARY": "imaginary",
    "M_FFE": "magnitude",
    "P_FFE": "phase",
    "R_FFE": "real",
    "I_FFE": "imaginary",
    "M_SE": "magnitude",
    "M_IR": "magnitude",
    "W": "water",
    "WATER": "water",
    "F": "fat",
    "FAT": "fat",
    "IP": "in phase",
    "IN_PHASE": "in phase",
    "OP": "opposed phase",
    "OPP_PHASE": "opposed phase",
    "OUT_PHASE": "opposed phase",
}


def _component(plane: Plane, keyword: str) -> Value | None:
    """Return what part of the signal the plane shows, in words (PS3.3 C.8.13.3.1.1)."""
    texts = plane.texts("FrameType") if keyword == "ImageType" else ()  # an enhanced frame's
    texts = texts or plane.texts(keyword)
    return tuple(_COMPONENTS.get(text.strip().upper(), text.strip()) for text in texts) or None


def _component_words(value: Value, number: int) -> str:
    known = [str(part) for part in value if part in _COMPONENTS.values()]
    return known[0] if known else f"image type {number}"


def _unit(before: str, after: str = "") -> Callable[[Value, int], str]:
    def words(value: Value, number: int) -> str:
        shown = " ".join(part if isinstance(part, str) else f"{part:g}" for part in value)
        return f"{before} {shown}{after}".strip()

    return words


def _numbered(before: str) -> Callable[[Value, int], str]:
    return lambda _, number: f"{before} {number}"


_NAMING: Sequence[_Attribute] = (
    _Attribute("StackID", _unit("stack")),
    _Attribute("EchoTime", _unit("TE", " ms"), ("EffectiveEchoTime",)),
    _Attribute("EchoNumbers", _unit("echo")),
    _Attribute("DiffusionBValue", _unit("b")),
    _Attribute("DiffusionGradientOrientation", _numbered("direction")),
    _Attribute("ImageType", _component_words, read=_component),
    _Attribute("ComplexImageComponent", _component_words, read=_component),
    _Attribute("InversionTime", _unit("TI", " ms"), ("InversionTimes",)),
    _Attribute("FlipAngle", _unit("flip angle", " degrees")),
    _Attribute("NominalPercentageOfCardiacPhase", _unit("phase", " %")),
    _Attribute("TemporalPositionIdentifier", _unit("time"), ("TemporalPositionIndex",)),
    _Attribute("KVP", _unit("", " kV")),
    _Attribute("ConvolutionKernel", _unit("kernel")),
    _Attribute("AcquisitionNumber", _unit("acquisition"), ("FrameAcquisitionNumber",)),
)
"""In this order, so that a name says the most that it can: an echo before a running number."""

_TIMES = (
    "TriggerTime",
    "NominalCardiacTriggerDelayTime",
    "FrameReferenceTime",
    "AcquisitionDateTime",
    "FrameAcquisitionDateTime",
    "AcquisitionTime",
    "ContentTime",
)
