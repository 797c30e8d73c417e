"""Tokens that occur nowhere else, in every attribute of Table E.1-1, at any depth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final

import numpy as np
from pydicom import Dataset, config
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from dicom.profile import Option, table_rules

DEPTHS: Final = range(5)
# Anatomic Region and its modifiers, which the table does not name; Content Sequence, which it does,
# and which holds itself to any depth: what stands in them must be judged, not lost with them.
NEST: Final = (0x00082218, 0x00082220, 0x0040A730, 0x0040A730)
PRIVATE_CREATOR, PRIVATE_TEXT, PRIVATE_SEQUENCE = 0x00110010, 0x00111001, 0x00111002
_IDENTITY_OF_THE_OBJECT: Final = frozenset({0x00080016, 0x00080018, 0x0020000D, 0x0020000E})
_REFUSED: Final = frozenset({0x00280301, 0x00287FE0, 0x54000100, 0x00420011})
_NO_DATA_SET: Final = frozenset({0x0000, 0x0002, 0x0004, 0x7FE0, 0xFFFA, 0xFFFC})
_SHORT: Final = frozenset({"US", "SS", "UL", "SL", "FL", "FD", "AT", "AS", "TM"})


@dataclass(frozen=True, slots=True)
class Planted:
    """One token.

    Attributes
    ----------
    token : bytes
        As it stands in the file.
    where : str
        The attribute by name, with its depth.
    row : int
        The tag of the table's row that judges it, 0 for private attributes.
    """

    token: bytes
    where: str
    row: int


@dataclass(slots=True)
class Garden:
    """An object with its tokens."""

    ds: Dataset
    planted: list[Planted] = field(default_factory=list)
    _count: int = 0
    _days: int = 0

    def left_in(self, content: bytes, options: frozenset[Option] = frozenset()) -> list[Planted]:
        """Return the tokens that are still there and that no option retains."""
        return [
            one
            for one in self.planted
            if one.token in content and not _is_retained(one.row, options)
        ]

    def plant(self, ds: Dataset, depth: int) -> None:
        """Plant a token in every attribute of the table, and in private ones."""
        for tag, rule in sorted(table_rules().items()):
            if tag >> 16 in _NO_DATA_SET or tag in _REFUSED or tag in _IDENTITY_OF_THE_OBJECT:
                continue
            vr = _vr(tag)
            where = f"depth {depth}: {rule.name}"
            if vr == "SQ":
                item = Dataset()
                for inner, inner_vr in ((0x00104000, "LT"), (0x00081155, "UI"), (0x00100010, "PN")):
                    put(item, inner, inner_vr, self._token(inner_vr, where, inner))
                ds[tag] = DataElement(tag, "SQ", Sequence([item]))
            elif vr not in _SHORT:
                put(ds, tag, vr, self._token(vr, where, tag))
        self._plant_private(ds, depth)

    def plant_one(
        self, ds: Dataset, tag: int, vr: str, where: str, *, as_text: bool = False
    ) -> None:
        """Plant a token in an attribute that no row judges; as a text even where none belongs."""
        put(ds, tag, vr, self._token("LO" if as_text else vr, where, 0))

    def _plant_private(self, ds: Dataset, depth: int) -> None:
        inner = Dataset()
        put(inner, 0x00100010, "PN", self._token("PN", f"depth {depth}: in private sequence", 0))
        put(ds, PRIVATE_CREATOR, "LO", self._token("LO", f"depth {depth}: private creator", 0))
        put(ds, PRIVATE_TEXT, "LO", self._token("LO", f"depth {depth}: private text", 0))
        ds[PRIVATE_SEQUENCE] = DataElement(PRIVATE_SEQUENCE, "SQ", Sequence([inner]))

    def _token(self, vr: str, where: str, row: int) -> str:
        self._count += 1
        number = self._count
        if vr in ("DA", "DT"):
            token = self._next_day()
        elif vr == "UI":
            token = f"1.2.826.99.{number:06d}"
        elif vr in ("DS", "IS"):
            token = f"77{number:06d}"
        elif vr in ("CS", "AE", "OB", "UN", "OW"):
            token = f"QZX{number:06d}"
        else:
            token = f"Qzx{number:06d}"
        self.planted.append(Planted(token.encode(), where, row))
        return f"{token}101112" if vr == "DT" else token

    def _next_day(self) -> str:
        """Return days of one block, which no shift of ours is short enough to meet again."""
        self._days += 1
        day = date(1801, 1, 1) + timedelta(days=self._days)
        return f"{day.year:04}{day.month:02}{day.day:02}"


def _vr(tag: int) -> str:
    try:
        return dictionary_VR(tag)
    except KeyError:  # newer than the dictionary
        return "LO"


def _is_retained(row: int, options: frozenset[Option]) -> bool:
    """Return whether the table lets a value stay, by the letter K of a chosen option."""
    rule = table_rules().get(row)
    return rule is not None and any(rule.options.get(option) == "K" for option in options)


def put(ds: Dataset, tag: int, vr: str, value: str) -> None:
    """Set an attribute without a check: real files hold what no standard allows."""
    if vr in ("OB", "UN", "OW") or (vr in ("DS", "IS") and not value.isdigit()):
        content = value.encode() + b"\0" * (len(value) % 2)
        ds[tag] = RawDataElement(BaseTag(tag), vr, len(content), content, 0, False, True)
    else:
        ds[tag] = DataElement(tag, vr, value, validation_mode=config.IGNORE)


def image() -> Dataset:
    """Return one small MR image of a patient who is nobody."""
    ds = Dataset()
    ds.SOPClassUID = MRImageStorage
    ds.SOPInstanceUID, ds.StudyInstanceUID = "1.2.826.77.1.1", "1.2.826.77.2"
    ds.SeriesInstanceUID = "1.2.826.77.3"
    ds.Modality, ds.ImageType = "MR", ["ORIGINAL", "PRIMARY", "M"]
    ds.PatientID, ds.PatientName = "MRN-4711", "Wagner^Johanna"
    ds.StudyDate, ds.StudyTime = "20240229", "101500"
    ds.Rows, ds.Columns, ds.SamplesPerPixel = 4, 6, 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PixelData = np.arange(24, dtype="<u2").tobytes()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.preamble = b"\0" * 128
    return ds


def gardens() -> Iterator[tuple[int, Garden]]:
    """Yield an object for each depth, with the whole table planted there and nowhere else."""
    for depth in DEPTHS:
        garden = Garden(image())
        here = garden.ds
        here.SOPInstanceUID = f"1.2.826.77.1.{depth + 1}"
        for sequence in NEST[:depth]:
            item = Dataset()
            here[sequence] = DataElement(sequence, "SQ", Sequence([item]))
            here = item
        garden.plant(here, depth)
        yield depth, garden
