"""Both engines asked of one file, and files written for them by hand."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicom.deid import Clean, Engine
from dicom.errors import InputError
from dicom.profile import Option, Profile, node_profile

KEY = bytes(range(32))
CT = "1.2.840.10008.5.1.4.1.1.2"
RETAINING = Profile(
    frozenset(
        {
            Option.RETAIN_SAFE_PRIVATE,
            Option.RETAIN_UIDS,
            Option.RETAIN_FULL_DATES,
            Option.RETAIN_DEVICE_IDENTITY,
            Option.RETAIN_INSTITUTION_IDENTITY,
            Option.RETAIN_PATIENT_CHARACTERISTICS,
            Option.CLEAN_DESCRIPTORS,
            Option.CLEAN_STRUCTURED_CONTENT,
            Option.CLEAN_GRAPHICS,
        }
    )
)
PROFILES = [node_profile(), Profile(frozenset()), RETAINING]


_LONG = ("OB", "UN", "SQ")
Attribute = tuple[str, int, object]


def said(engine: Engine, path: Path) -> Clean | tuple[str, str]:
    """Return what an engine makes of a file; of a refusal, what it says."""
    with path.open("rb") as file:
        try:
            return engine.clean(file)
        except InputError as error:
            return error.code, error.message


def without_engine(clean: Clean | tuple[str, str]) -> object:
    if isinstance(clean, tuple):
        return clean
    way_back = json.dumps(dict(clean.identity.attributes))  # as text: NaN is not NaN
    rest = [getattr(clean, name) for name in Clean.__slots__ if name not in ("engine", "identity")]
    return [*rest, clean.identity.study_pseudonym, clean.identity.uids, way_back]


def image(number: int = 1, **attributes: object) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.SOPClassUID, ds.SOPInstanceUID = UID(CT), UID(f"1.2.3.4.{number}")
    ds.StudyInstanceUID, ds.SeriesInstanceUID = UID("1.2.3"), UID("1.2.3.4")
    ds.PatientName, ds.PatientID, ds.Modality = "Weaver^Ann", "4711-A", "CT"
    ds.StudyDate, ds.InstanceNumber = "20240229", number
    ds.SeriesDescription = "Thorax Weaver 3mm"
    ds.ImagePositionPatient = [0, 0, 1.5 * number]
    ds.Rows = ds.Columns = 2
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.PixelData = bytes([number % 256] * 4)
    ds["PixelData"].VR = "OB"
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def written(ds: Dataset, path: Path, syntax: UID = ExplicitVRLittleEndian) -> Path:
    ds.file_meta.TransferSyntaxUID = syntax
    dcmwrite(path, ds, enforce_file_format=True)
    return path


class Form(NamedTuple):
    """How a data set is written by hand."""

    syntax: UID
    implicit: bool = False
    order: str = "<"


EXPLICIT, IMPLICIT = Form(ExplicitVRLittleEndian), Form(ImplicitVRLittleEndian, implicit=True)
BIG, DEFLATED = Form(ExplicitVRBigEndian, order=">"), Form(DeflatedExplicitVRLittleEndian)


def encoded(attributes: list[Attribute], form: Form) -> bytes:
    """Write a data set as no library would refuse to: PS3.5 7.1, 7.5, by hand."""
    by_tag = {tag: (vr, value) for vr, tag, value in attributes}
    return b"".join(_element(tag, *by_tag[tag], form) for tag in sorted(by_tag))


def _element(tag: int, vr: str, value: object, form: Form) -> bytes:
    order = form.order
    length = -1
    if isinstance(value, bytes):
        content = value + (b"\0" if vr in ("UI", "OB", "UN") else b" ") * (len(value) % 2)
        length = len(content)
    else:
        is_open, made = value
        within = IMPLICIT if vr == "UN" else form
        content = b"".join(_item(*item, within) for item in made)
        if is_open:
            content += struct.pack(within.order + "HHL", 0xFFFE, 0xE0DD, 0)
        else:
            length = len(content)
    head = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
    if form.implicit:
        return head + struct.pack(order + "L", length & 0xFFFFFFFF) + content
    if vr in _LONG:
        return head + vr.encode() + struct.pack(order + "HL", 0, length & 0xFFFFFFFF) + content
    return head + vr.encode() + struct.pack(order + "H", length) + content


def _item(is_open: bool, attributes: list[Attribute], form: Form) -> bytes:
    content = encoded(attributes, form)
    if is_open:
        end = struct.pack(form.order + "HHL", 0xFFFE, 0xE00D, 0)
        return struct.pack(form.order + "HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + content + end
    return struct.pack(form.order + "HHL", 0xFFFE, 0xE000, len(content)) + content


def part10(number: int, attributes: list[Attribute], form: Form) -> bytes:
    base: list[Attribute] = [
        ("UI", 0x00080016, CT.encode()),
        ("UI", 0x00080018, f"1.2.3.4.{number}".encode()),
        ("CS", 0x00080060, b"CT"),
        ("LO", 0x0008103E, b"Thorax Weaver 3mm"),
        ("PN", 0x00100010, b"Weaver^Ann"),
        ("LO", 0x00100020, b"4711-A"),
        ("UI", 0x0020000D, b"1.2.3"),
        ("UI", 0x0020000E, b"1.2.3.4"),
        ("IS", 0x00200013, str(number).encode()),
    ]
    meta = encoded([("UI", 0x00020010, form.syntax.encode())], EXPLICIT)
    body = encoded([*base, *attributes], form) + _element(0x7FE00010, "OB", b"\1\2\3\4", form)
    if form is DEFLATED:
        body = zlib.compress(body, wbits=-zlib.MAX_WBITS)
        body += bytes(len(body) % 2)
    return bytes(128) + b"DICM" + meta + body
