"""What each series of a folder is, or the code why it is none: for people, from headers alone."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

import numpy as np

from dicom.errors import InputError
from dicom.frames import format_of
from dicom.header import Header
from dicom.study import Series
from dicom.volume.facts import SeriesFacts, facts_of, plane_of
from dicom.volume.kind import Kind, kind_of_series
from dicom.volume.picture import PictureSpacing, spacing_of
from dicom.volume.planes import frames_of, read_headers
from dicom.volume.read import NOTHING, NamedGrid, read_grids
from dicom.volume.shear import Floats
from dicom.volume.values import Mending, Orientation


@dataclass(frozen=True, slots=True)
class VolumeReport:
    """One volume of a series.

    Parameters
    ----------
    spacing_kji : tuple of float
        mm between neighbouring voxels along slices, rows and columns.
    orientation : str
        The plane of the slices.
    axes : str
        Where columns, rows and slices run to, in letters: ``LPS`` is to the left, to the back,
        towards the head.
    varies : dict of str to str
        DICOM keyword and value of what tells it from the other volumes of the series.
    """

    name: str
    shape_kji: tuple[int, int, int]
    spacing_kji: tuple[float, float, float]
    orientation: Orientation
    axes: str
    unit: str
    varies: dict[str, str]
    mended: tuple[Mending, ...]


@dataclass(frozen=True, slots=True)
class PictureReport:
    """One image without a place in the patient."""

    frames: int
    rows: int
    columns: int
    colour: bool
    spacing: PictureSpacing | None


@dataclass(frozen=True, slots=True)
class SeriesReport:
    """What a series is: volumes, pictures, or the error that says why it is neither.

    Parameters
    ----------
    facts : SeriesFacts or None
        None where a file could not be read at all.
    """

    series: Series
    kind: Kind | None
    facts: SeriesFacts | None
    volumes: tuple[VolumeReport, ...] = ()
    pictures: tuple[PictureReport, ...] = ()
    error: InputError | None = None


def report_series(series: Series, *, mend: Set[Mending] = NOTHING) -> SeriesReport:
    """Look at one series; an error becomes part of the report."""
    kind, facts = None, None
    try:
        headers = read_headers(series)
        kind, facts = kind_of_series(headers), facts_of(series, headers)
        if kind in (Kind.PICTURE, Kind.CINE, Kind.SCREEN, Kind.DOSE):
            pictures = tuple(_picture(header) for header in headers)
            return SeriesReport(series, kind, facts, pictures=pictures)
        volumes = tuple(_volume(named) for named in read_grids(series, mend=mend))
    except InputError as error:
        return SeriesReport(series, kind, facts, error=error)
    return SeriesReport(series, kind, facts, volumes)


def axes_of(affine_lps: Floats) -> str:
    """Return where columns, rows and slices run to: each axis' main direction, as a letter."""
    letters = ("RL", "AP", "IS")
    words = []
    for axis in (2, 1, 0):
        direction = affine_lps[:3, axis]
        main = int(np.abs(direction).argmax())
        words.append(letters[main][int(direction[main] > 0)])
    return "".join(words)


def _volume(named: NamedGrid) -> VolumeReport:
    affine = named.grid.affine_lps
    normal = np.cross(affine[:3, 2], affine[:3, 1])
    orientation = plane_of([normal / np.linalg.norm(normal)])
    return VolumeReport(
        name=named.name,
        shape_kji=named.grid.shape_kji,
        spacing_kji=named.grid.spacing_kji,
        orientation=orientation or "oblique",
        axes=axes_of(affine),
        unit=named.unit,
        varies={each.keyword: each.text for each in named.varies},
        mended=tuple(sorted(named.mended)),
    )


def _picture(header: Header) -> PictureReport:
    form = format_of(header)
    return PictureReport(
        frames_of(header), form.rows, form.columns, form.is_colour, spacing_of(header)
    )
