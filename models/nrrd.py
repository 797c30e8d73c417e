"""NRRD in and out: volumes and label maps as 3D Slicer and MONAI Label's clients exchange them.

A text header, an empty line, then the voxels, the fastest axis first
(https://teem.sourceforge.net/nrrd/format.html). What is read comes from elsewhere: the header is
judged before anything is inflated, and nothing is read from another file.

Slicer's segmentations (``.seg.nrrd``) are NRRD with a key for each segment's name and value, and an
axis of layers in front where segments overlap.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dicom.errors import NoGeometry, TooLarge, UnreadablePixels, UnsupportedPixelFormat

Array = NDArray[np.generic]
Floats = NDArray[np.float64]

_MOST_VOXELS: Final = 1 << 30
_LONGEST_HEAD: Final = 1 << 20
_GZIP: Final = 16 + zlib.MAX_WBITS
_QUICK: Final = 1
_TYPES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(
        ("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"
    ),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    "float": "f4",
    "double": "f8",
}
_TO_LPS: Final[Mapping[str, tuple[int, int, int]]] = {
    "left-posterior-superior": (1, 1, 1),
    "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1),
    "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "las": (1, -1, 1),
}
_VECTOR: Final = re.compile(r"\(([^)]*)\)|none")
_SEGMENT: Final = re.compile(r"Segment(\d{1,4})_(Name|LabelValue|Layer)")


@dataclass(frozen=True, slots=True)
class NrrdSegment:
    """A segment of a ``.seg.nrrd``: its name, its value, and the layer that holds it."""

    name: str
    value: int
    layer: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Nrrd:
    """A volume, or several layers of labels, with their place.

    Attributes
    ----------
    layers_nkji : ndarray, shape (layers, slices, rows, columns)
        Of an image, one layer.
    affine_lps : ndarray, float64, shape (4, 4)
        From index (k, j, i, 1) to LPS, mm.
    segments : tuple of NrrdSegment
        What its keys describe; empty for what is no segmentation.
    """

    layers_nkji: Array
    affine_lps: Floats
    segments: tuple[NrrdSegment, ...] = field(default=())


def read_nrrd(content: bytes) -> Nrrd:
    """Return what an NRRD file holds.

    Raises
    ------
    UnreadablePixels
        When it is no NRRD, ends too early, or has its voxels in another file.
    UnsupportedPixelFormat
        When its voxels are of a kind that no image has, or not raw and not gzip.
    NoGeometry
        When it does not say where it lies in the patient.
    TooLarge
    """
    fields, keys, begin = _head(content)
    if "data file" in fields or "datafile" in fields:
        raise UnreadablePixels("the NRRD file has its voxels in another file")
    kind = _TYPES.get(fields.get("type", "").lower())
    if kind is None:
        raise UnsupportedPixelFormat("the NRRD file's voxels are of a kind that no image has")
    order = ">" if fields.get("endian", "little").lower() == "big" else "<"
    sizes = _sizes(fields)
    affine_lps, has_layers = _affine(fields, len(sizes))
    count = math.prod(sizes)
    if count > _MOST_VOXELS:
        raise TooLarge(f"an NRRD file of {count} voxels; at most {_MOST_VOXELS} are taken")
    dtype = np.dtype(f"{order}{kind}")
    plain = _voxels(content[begin:], fields.get("encoding", "").lower(), count * dtype.itemsize)
    voxels = np.frombuffer(plain, dtype).reshape(sizes[::-1])  # (k, j, i), or (k, j, i, layer)
    voxels = voxels.astype(dtype.newbyteorder("="), copy=False)
    layers = np.moveaxis(voxels, -1, 0) if has_layers else voxels[np.newaxis]
    return Nrrd(layers, affine_lps, _segments(keys))


def write_nrrd(
    layers_nkji: Array, affine_lps: Floats, *, segments: Sequence[NrrdSegment] = ()
) -> bytes:
    """Return an NRRD file; with `segments` it is a ``.seg.nrrd``.

    Parameters
    ----------
    layers_nkji : ndarray, shape (layers, slices, rows, columns) or (slices, rows, columns)
    affine_lps : ndarray, shape (4, 4)
        From index (k, j, i, 1) to LPS, mm.
    segments : sequence of NrrdSegment
        Names of what the values stand for.

    Raises
    ------
    UnsupportedPixelFormat
        When NRRD has no name for the voxels' kind.
    """
    voxels = layers_nkji[0] if layers_nkji.ndim == 4 and len(layers_nkji) == 1 else layers_nkji
    kinds = {kind: name for name, kind in list(_TYPES.items())[::-1]}
    name = kinds.get(f"{voxels.dtype.kind}{voxels.dtype.itemsize}")
    if name is None:
        raise UnsupportedPixelFormat(f"NRRD has no name for voxels of {voxels.dtype}")
    stored = np.moveaxis(voxels, 0, -1) if voxels.ndim == 4 else voxels
    stored = np.ascontiguousarray(stored, voxels.dtype.newbyteorder("<"))
    vectors = [_vector(affine_lps[:3, axis]) for axis in (2, 1, 0)]
    lines = [
        "NRRD0004",
        f"type: {name}",
        f"dimension: {voxels.ndim}",
        "space: left-posterior-superior",
        f"sizes: {' '.join(str(n) for n in reversed(stored.shape))}",
        f"space directions: {' '.join((['none'] if voxels.ndim == 4 else []) + vectors)}",
        f"kinds: {'list ' if voxels.ndim == 4 else ''}domain domain domain",
        "endian: little",
        "encoding: gzip",
        f"space origin: {_vector(affine_lps[:3, 3])}",
    ]
    for n, segment in enumerate(segments):
        label = " ".join(segment.name.split())
        lines += [
            f"Segment{n}_ID:=Segment_{n + 1}",
            f"Segment{n}_Name:={label}",
            f"Segment{n}_LabelValue:={segment.value}",
            f"Segment{n}_Layer:={segment.layer}",
        ]
    packing = zlib.compressobj(_QUICK, zlib.DEFLATED, _GZIP)
    head = "\n".join(lines).encode() + b"\n\n"
    return head + packing.compress(stored.data) + packing.flush()


def _head(content: bytes) -> tuple[dict[str, str], dict[str, str], int]:
    """Return fields, keys, and where the voxels begin."""
    if not re.match(rb"NRRD000[1-6]\r?\n", content[:16]):
        raise UnreadablePixels("the file is no NRRD")
    end = re.search(rb"\r?\n\r?\n", content[:_LONGEST_HEAD])
    if end is None:
        raise UnreadablePixels("the NRRD file ends within its header")
    fields: dict[str, str] = {}
    keys: dict[str, str] = {}
    for line in content[: end.start()].decode("utf-8", "replace").splitlines()[1:]:
        if line.startswith("#"):
            continue
        name, found, value = line.partition(":=")
        if found:
            keys[name] = value
            continue
        name, found, value = line.partition(": ")
        if found:
            fields[name.strip().lower()] = value.strip()
    return fields, keys, end.end()


def _sizes(fields: Mapping[str, str]) -> tuple[int, ...]:
    try:
        sizes = tuple(int(size) for size in fields["sizes"].split())
    except (KeyError, ValueError):
        raise UnreadablePixels("the NRRD file does not say how large it is") from None
    if len(sizes) not in (3, 4) or min(sizes) < 1:
        raise UnreadablePixels(f"the NRRD file has {len(sizes)} axes; a volume has three")
    return sizes


def _affine(fields: Mapping[str, str], axes: int) -> tuple[Floats, bool]:
    """Return where the voxels lie, and whether an axis of layers comes first."""
    signs = _TO_LPS.get(fields.get("space", "").lower())
    vectors = [found.group(1) for found in _VECTOR.finditer(fields.get("space directions", ""))]
    origin = _VECTOR.search(fields.get("space origin", ""))
    if signs is None or origin is None or len(vectors) != axes:
        raise NoGeometry("the NRRD file does not say where it lies in the patient")
    has_layers = axes == 4
    if has_layers != (vectors[0] is None) or None in vectors[has_layers:]:
        raise NoGeometry("the NRRD file's axes are not those of a volume")
    columns = [_numbers(text or "") for text in (*reversed(vectors[has_layers:]), origin.group(1))]
    affine = np.eye(4)
    affine[:3] = np.diag(signs) @ np.array(columns).T
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise NoGeometry("the NRRD file's directions are not those of a volume")
    return affine, has_layers


def _numbers(text: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 3:
        raise NoGeometry("the NRRD file's directions are not those of a volume")
    return numbers


def _voxels(packed: bytes, encoding: str, size: int) -> bytes:
    """Return exactly so many bytes; more are never inflated."""
    if encoding == "raw":
        plain = packed[:size]
    elif encoding in ("gzip", "gz"):
        try:
            plain = zlib.decompressobj(_GZIP).decompress(packed, size)
        except zlib.error:
            raise UnreadablePixels("the NRRD file's voxels are damaged") from None
    else:
        raise UnsupportedPixelFormat("the NRRD file's voxels are neither raw nor gzip")
    if len(plain) < size:
        raise UnreadablePixels("the NRRD file ends within its voxels")
    return plain


def _segments(keys: Mapping[str, str]) -> tuple[NrrdSegment, ...]:
    found: dict[int, dict[str, str]] = {}
    for key, value in keys.items():
        named = _SEGMENT.fullmatch(key)
        if named is not None:
            found.setdefault(int(named.group(1)), {})[named.group(2)] = value
    try:
        return tuple(
            NrrdSegment(
                one.get("Name", f"Segment {n + 1}"),
                int(one.get("LabelValue", n + 1)),
                int(one.get("Layer", 0)),
            )
            for n, one in sorted(found.items())
        )
    except ValueError:
        raise UnreadablePixels("a segment of the NRRD file has no number for its value") from None


def _vector(values: Floats) -> str:
    return f"({','.join(repr(float(value)) for value in values)})"
