"""Series -> volumes: arrays with their place in the patient, or a coded reason why not.

Axes: k counts slices, j rows (downwards in the image), i columns (rightwards). World: LPS, mm.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

from dicom.errors import (
    DerivedImages,
    Localiser,
    MixedSeries,
    Mosaic,
    NoGeometry,
    SeveralVolumes,
    TooFewSlices,
    UnreadablePixels,
)
from dicom.header import Header
from dicom.study import Instance, Series
from dicom.volume.kind import Kind, kind_of
from dicom.volume.pixels import formats_of, read_voxels
from dicom.volume.planes import Plane, is_image, planes_of, read_headers
from dicom.volume.shear import Shear
from dicom.volume.split import Part, Varying, split
from dicom.volume.stack import Stack, align, pile
from dicom.volume.suv import suv_factor, unit_of_pet
from dicom.volume.values import Grid, Mending, Volume

NOTHING: frozenset[Mending] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class NamedGrid:
    """Where one of a series' volumes lies, and what tells it from the others.

    Parameters
    ----------
    name : str
        Such as ``TE 4.6 ms, phase``; empty for the only volume of a series. No two of a series
        are the same.
    varies : tuple of Varying
        The attributes whose values make the name.
    unit : str
        As that of :class:`dicom.volume.Volume`.
    mended : frozenset of Mending
        What :func:`read_volume` would do to it.
    """

    name: str
    varies: tuple[Varying, ...]
    grid: Grid
    unit: str
    mended: frozenset[Mending]


@dataclass(frozen=True, slots=True, eq=False)
class NamedVolume:
    """One of a series' volumes, and what tells it from the others: as :class:`NamedGrid`."""

    name: str
    varies: tuple[Varying, ...]
    volume: Volume


def read_volume(
    series: Series,
    *,
    min_slices: int = 1,
    mend: Set[Mending] = NOTHING,
    name: str | None = None,
) -> Volume:
    """Read a series of grey-scale slices (CT, MR, PET; classic or enhanced) as one volume.

    Every compressed transfer syntax that an installed decoder reads is read. Unused high bits are
    cleared, signed values keep their sign, each slice is rescaled by its own slope and intercept.
    MONOCHROME1 says that large values are shown dark. Hounsfield units and PET's activities stay
    as they are, since they are quantities; values without a unit are mirrored within BitsStored,
    so that large means bright as in every MONOCHROME2 series that a model has seen.

    Parameters
    ----------
    series : Series
        Its instances in any order.
    min_slices : int
        Fewer slices are refused.
    mend : set of Mending
        What may be done to a series that would else be refused; nothing unless the caller says so.
        ``Volume.mended`` says what was done, ``Volume.to_source`` leads labels back.
    name : str or None
        Which of a series' volumes, by the names of :func:`read_grids`; None for the only one.

    Returns
    -------
    Volume
        LPS, mm, axes (k, j, i); slice k grows along the normal.

    Raises
    ------
    NotDicom, NotAnImage, MultiFrame, TiledImage, Mosaic, Localiser, DerivedImages,
    UnsupportedPixelFormat, UnsupportedTransferSyntax, UnreadablePixels
        When the files are not slices that can be read.
    TooFewSlices, MixedSeries, MixedSizes, NoGeometry, MixedOrientations, DoubledSlice,
    GantryTilt, MissingSlice, UnevenSpacing, SeveralVolumes
        When the slices do not make one volume.
    """
    part = _the_one(_parts(series, mend), name)
    return _volume(series, pile(part.sheets, min_slices=min_slices, mend=mend))


def read_volumes(
    series: Series, *, min_slices: int = 1, mend: Set[Mending] = NOTHING
) -> tuple[NamedVolume, ...]:
    """Read every volume of a series: its echoes, phases, b-values, times.

    All of them are held in memory; to take them one by one, go by the names of
    :func:`read_grids` and call :func:`read_volume`.

    Raises
    ------
    InputError
        As :func:`read_volume`, except SeveralVolumes.
    """
    stacks = [
        (part, pile(part.sheets, min_slices=min_slices, mend=mend)) for part in _parts(series, mend)
    ]
    return tuple(
        NamedVolume(part.name, part.varies, _volume(series, stack)) for part, stack in stacks
    )


def read_grid(
    series: Series,
    *,
    min_slices: int = 1,
    mend: Set[Mending] = NOTHING,
    name: str | None = None,
) -> Grid:
    """Read where the voxels of a series lie, from the headers alone.

    Returns
    -------
    Grid
        Of the slices as they are in the archive: the same as ``read_volume(...).source``.

    Raises
    ------
    InputError
        As :func:`read_volume` does for files, geometry and mixtures; pixel data is not looked at.
    """
    part = _the_one(_parts(series, mend), name)
    return _grid(series, pile(part.sheets, min_slices=min_slices, mend=mend))


def read_grids(
    series: Series, *, min_slices: int = 1, mend: Set[Mending] = NOTHING
) -> tuple[NamedGrid, ...]:
    """Read where every volume of a series lies, and what tells them apart, from the headers alone.

    Raises
    ------
    InputError
        As :func:`read_volumes` does, as far as the headers say it.
    """
    named = []
    for part in _parts(series, mend):
        stack = pile(part.sheets, min_slices=min_slices, mend=mend)
        formats_of(stack)
        grid = _grid(series, stack)
        unit = unit_of(stack.planes[0], grid.modality)
        named.append(NamedGrid(part.name, part.varies, grid, unit, stack.mended))
    return tuple(named)


def unit_of(plane: Plane, modality: str) -> str:
    """Return the unit of rescaled values (PS3.3 C.11.1.1.2, C.8.9.1.1.3), empty where none."""
    if modality == "CT":
        unit = plane.text("RescaleType") or "HU"
        return "" if unit == "US" else unit  # unspecified
    if modality != "PT":
        return ""
    unit = unit_of_pet(plane)
    return "SUVbw" if unit == "GML" and suv_factor([plane]) == 1.0 else unit


# --- from files to parts ------------------------------------------------------------------------


def _parts(series: Series, mend: Set[Mending]) -> tuple[Part, ...]:
    """Return the planes of a series by volume."""
    headers = read_headers(series)
    if not headers:
        raise TooFewSlices("0 slices; at least 1 are needed")
    if any(is_image(header) and header.pixels is None for header in headers):
        raise UnreadablePixels("an image of the series has no pixel data")  # or was cut off
    if any(header.text("SeriesInstanceUID") != series.series_uid for header in headers):
        raise MixedSeries("instances of several series where one is needed")
    chosen = _slices_only(series.instances, headers, mend)
    planes = planes_of(
        Series(series.series_uid, series.modality, tuple(instance for instance, _ in chosen)),
        [header for _, header in chosen],
    )
    frames_of_reference = {plane.header.text("FrameOfReferenceUID") for plane in planes}
    if len(frames_of_reference) > 1:
        raise MixedSeries(f"{len(frames_of_reference)} frames of reference in one series")
    if None in frames_of_reference:
        raise NoGeometry("the images name no frame of reference")
    sheets = align(planes, mend)
    if len(chosen) < len(headers):
        sheets = sheets.having(Mending.STRAYS)
    return split(sheets)


def _slices_only(
    instances: Sequence[Instance], headers: list[Header], mend: Set[Mending]
) -> list[tuple[Instance, Header]]:
    """Return those instances that are slices; where others are among them, refuse or leave out."""
    pairs = list(zip(instances, headers, strict=True))
    kinds = [kind_of(header) for header in headers]
    slices = [pair for pair, kind in zip(pairs, kinds, strict=True) if kind in _READ]
    if Mending.STRAYS in mend and 2 * len(slices) > len(pairs):
        return slices
    count = len(kinds)
    if Kind.MOSAIC in kinds:
        raise Mosaic(f"{kinds.count(Kind.MOSAIC)} of {count} images are mosaics of slices")
    if Kind.LOCALISER in kinds:
        raise Localiser(f"{kinds.count(Kind.LOCALISER)} of {count} images are localisers")
    derived = [kind for kind in kinds if kind in (Kind.PROJECTION, Kind.RENDERING)]
    if derived:
        raise DerivedImages(f"{len(derived)} of {count} images are of the kind {derived[0]}")
    unplaced = [kind for kind in kinds if kind in _UNPLACED]
    if unplaced:
        raise NoGeometry(f"{len(unplaced)} of {count} images are of the kind {unplaced[0]}")
    return pairs


_READ = (Kind.SLICES, Kind.REFORMAT)
_UNPLACED = (Kind.PICTURE, Kind.CINE, Kind.SCREEN, Kind.DOSE)


def _the_one(parts: Sequence[Part], name: str | None) -> Part:
    named = [part for part in parts if part.name == name] if name is not None else list(parts)
    if len(named) == 1:
        return named[0]
    known = "; ".join(part.name or "(unnamed)" for part in parts[:8])
    rest = "; ..." if len(parts) > 8 else ""
    asked = "" if name is None else "none has the name that is asked for; "
    raise SeveralVolumes(f"{asked}the series holds {len(parts)}: {known}{rest}")


# --- from stacks to values ----------------------------------------------------------------------


def _grid(series: Series, stack: Stack) -> Grid:
    first = stack.planes[0]
    return Grid(
        shape_kji=stack.shape_kji,
        affine_lps=stack.affine_lps,
        sources=tuple(plane.source for plane in stack.planes),
        series_uid=series.series_uid,
        frame_of_reference_uid=first.header.text("FrameOfReferenceUID") or "",
        modality=first.header.text("Modality") or series.modality,
    )


def _volume(series: Series, stack: Stack) -> Volume:
    grid = _grid(series, stack)
    voxels_kji = read_voxels(stack)
    shear = None
    affine_lps = grid.affine_lps
    if Mending.TILT in stack.mended:
        shear = Shear.of(affine_lps, grid.shape_kji)
        voxels_kji, affine_lps = shear.forth(voxels_kji), shear.orthogonal(affine_lps)
    unit = unit_of(stack.planes[0], grid.modality)
    return Volume(
        voxels_kji=voxels_kji,
        affine_lps=affine_lps,
        source=grid,
        unit=unit,
        suv_factor=suv_factor(stack.planes) if grid.modality == "PT" else None,
        mended=stack.mended,
        shear=shear,
    )
