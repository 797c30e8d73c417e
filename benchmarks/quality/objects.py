"""Kinds of objects, each written together with its answers.

Written from PS3.15 Annex E and what a radiologist would miss, without a look at our profile.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from benchmarks.quality.answers import Case, Due, Key

ROOT: Final = "1.2.826.0.1.3680043.8.498.77"
SURNAMES: Final = (
    *("Wagnerovsky", "Oberhuber", "Castellano", "Lindqvist", "Papadakis", "Nakagawara"),
    *("O'Sullivan", "Müllenbach", "Szczepański", "Fernándezruiz", "Van-der-Bergh", "Abdulrahmanov"),
)
GIVEN: Final = ("Johannetta", "Hieronymus", "Wilhelmine", "Bartholomew", "Persephone", "Ezekielle")
PHYSICIANS: Final = ("Grauenfels^Tobiah", "Quistgaard^Mathilda", "Zimmerlein^Aurelius")
SAFE: Final = ("thorax", "abdomen", "brain", "axial", "contrast", "liver", "sagittal", "chest")


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who is nobody."""

    name: str
    patient_id: str
    birth_date: str
    age: str
    phone: str
    charset: str
    first_day: int


def person(number: int, dice: random.Random) -> Person:
    """Return a patient."""
    surname = SURNAMES[number % len(SURNAMES)]
    unusual = next((c for c in surname if ord(c) > 255), "")
    return Person(
        f"{surname}{number}^{GIVEN[number % len(GIVEN)]}",
        f"MRN{dice.randrange(10**7, 10**8)}",
        f"19{dice.randrange(20, 99)}{dice.randrange(1, 13):02}{dice.randrange(1, 29):02}",
        "093Y" if number % 5 == 0 else f"0{dice.randrange(20, 89)}Y",
        f"+49 {dice.randrange(10**8, 10**9)}",
        "ISO_IR 192" if unusual or number % 3 == 0 else "ISO_IR 100",
        dice.randrange(700_000, 737_000),
    )


def day(number: int) -> str:
    """Return a day as DA."""
    found = date.fromordinal(number)
    return f"{found.year:04}{found.month:02}{found.day:02}"


# --- what every object has ------------------------------------------------------------------------


def _patient_and_study(key: Key, who: Person, visit: int, ids: str, dice: random.Random) -> None:
    ds = key.ds
    when = day(who.first_day + 100 * visit)
    ds.SpecificCharacterSet = who.charset
    key.put((0x00100010,), "PN", who.name, "header", "replaced")
    key.put((0x00100020,), "LO", who.patient_id, "header", "replaced")
    key.gone(0x00100030, "DA", who.birth_date)
    key.case.leaks.append(who.birth_date.encode())
    key.put((0x00101010,), "AS", who.age, "header", "old")
    ds.PatientSex = "F"
    key.gone(0x00101040, "LO", f"Elm Street {who.patient_id[-3:]}, Springfieldham")
    key.gone(0x00102154, "SH", who.phone)
    key.gone(0x00101000, "LO", f"OLD{who.patient_id[3:]}")
    key.gone((0x00101002, 0, 0x00100020), "LO", f"SUB{who.patient_id[3:]}")
    key.gone(0x00104000, "LT", f"{who.name.partition('^')[0]} prefers calls to {who.phone}")
    key.gone(0x00080050, "SH", f"ACC{dice.randrange(10**6, 10**7)}")
    key.gone(0x00080090, "PN", PHYSICIANS[visit % 3])
    key.gone(0x00081070, "PN", PHYSICIANS[(visit + 1) % 3])
    key.gone(0x00080080, "LO", "Sankt Hildegardis Klinik")
    key.gone(0x00080081, "ST", "Klosterallee 12, Bingenstadt")
    key.gone(0x00081010, "SH", "SCANROOM-SEVEN")
    key.gone(0x00181000, "LO", f"SN-{dice.randrange(10**6, 10**7)}")
    key.gone((0x00400275, 0, 0x00400007), "LO", f"exam of {who.name.partition('^')[0]}")
    key.gone((0x00400275, 0, 0x00401001), "SH", f"RP{dice.randrange(10**6, 10**7)}")
    key.uid(0x0020000D, f"{ids}.1")
    key.moved(0x00080020, "DA", when)
    key.moved(0x00080021, "DA", when)
    key.moved(0x00080023, "DA", day(who.first_day + 100 * visit + 1))
    ds.StudyTime = ds.SeriesTime = ds.ContentTime = "101500"
    ds.StudyID = f"S{dice.randrange(10**4, 10**5)}"
    good = SAFE[dice.randrange(len(SAFE))]
    surname = who.name.partition("^")[0]
    key.text(0x00081030, "LO", f"{good} {surname} {when}", f"{surname}^{when}", good)
    told = f"see {ids}.1 of {surname}, born {who.birth_date}, seen {when}"
    key.text(0x00102180, "SH", f"brain {surname}", surname)
    key.text(0x001021B0, "LT", told, f"{ids}.1^{surname}^{who.birth_date}^{when}")
    key.text(0x0008103E, "LO", f"{surname} {good} axial", surname, f"{good} axial")


def _equipment(key: Key) -> None:
    key.same("Manufacturer", "ACME MEDICAL")
    key.same("ManufacturerModelName", "Tomoscope 5")
    key.same("SoftwareVersions", "VB10A")


def _private(key: Key, who: Person) -> None:
    key.put((0x00091001,), "LO", f"note {who.name}", "private", "gone")
    key.put((0x00091002, 0, 0x00100010), "PN", who.name, "private", "gone")
    key.put((0x00090010,), "LO", "HILDEGARDIS PRIVATE", "private", "gone")
    key.put((0x00190010,), "LO", "GEMS_ACQU_01", "private", "same")
    key.put((0x00191023,), "DS", "39.37", "private", "same")  # Table Speed
    key.put((0x001910B0,), "LO", f"seen {who.patient_id}", "private", "gone")


def _pixels(key: Key, dice: random.Random, *, frames: int = 1, colour: bool = False) -> None:
    rows, columns = 16, 24
    plane = "\x01\x00" * 24
    key.put((0x60003000,), "OW", plane.encode(), "pixels", "gone")
    key.put((0x60000022,), "LO", "overlay of Hildegardis", "pixels", "gone")
    key.put((0x00880200, 0, 0x00280010), "US", 2, "pixels", "gone")
    key.same("Rows", rows)
    key.same("Columns", columns)
    key.same("BitsStored", 8 if colour else 12)
    ds = key.ds
    ds.BitsAllocated = 8 if colour else 16
    ds.HighBit, ds.PixelRepresentation = ds.BitsStored - 1, 0
    key.same("PhotometricInterpretation", "RGB" if colour else "MONOCHROME2")
    ds.SamplesPerPixel = 3 if colour else 1
    if colour:
        ds.PlanarConfiguration = 0
    if frames > 1:
        key.same("NumberOfFrames", frames)
    values = np.random.default_rng(dice.randrange(2**31)).integers(
        0, 200 if colour else 3000, (frames, rows, columns, ds.SamplesPerPixel)
    )
    ds.PixelData = values.astype("u1" if colour else "<u2").tobytes()
    key.case.pixels = ds.PixelData
    key.case.due.append(Due("pixels", (0x7FE00010,), "bytes"))


def _geometry(key: Key, number: int, ids: str) -> None:
    key.same("ImagePositionPatient", [0.0, 0.0, 2.5 * number])
    key.same("ImageOrientationPatient", [1, 0, 0, 0, 1, 0])
    key.same("PixelSpacing", [0.7, 0.7])
    key.same("SliceThickness", "2.5")
    key.uid(0x00200052, f"{ids}.8")


def _region(key: Key) -> None:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "12738006", "SCT", "Brain"
    key.ds.AnatomicRegionSequence = Sequence([code])
    key.case.due.append(Due("header", (0x00082218, 0, 0x00080100), "same", "12738006"))
    key.case.due.append(Due("header", (0x00082218, 0, 0x00080104), "same", "Brain"))


def _references(key: Key, ids: str, number: int) -> None:
    key.uid((0x00081140, 0, 0x00081155), f"{ids}.9.{max(0, number - 1)}")
    key.ds.ReferencedImageSequence[0].ReferencedSOPClassUID = key.case.sop_class
    key.case.due.append(Due("uids", (0x00081140, 0, 0x00081150), "same", key.case.sop_class))


# --- kinds of objects -----------------------------------------------------------------------------

Maker = Callable[[Key, Person, int, str, random.Random], None]


def _slice(extra: dict[str, object]) -> Maker:
    def make(key: Key, who: Person, number: int, ids: str, dice: random.Random) -> None:
        key.same("ImageType", ["ORIGINAL", "PRIMARY", "AXIAL"])
        _geometry(key, number, ids)
        _region(key)
        _references(key, ids, number)
        for keyword, value in extra.items():
            key.same(keyword, value)
        key.moved(0x0008002A, "DT", day(who.first_day) + "101500.25")
        _pixels(key, dice)

    return make


def _projection(extra: dict[str, object], *, colour: bool = False) -> Maker:
    def make(key: Key, who: Person, number: int, ids: str, dice: random.Random) -> None:
        key.same("ImageType", ["ORIGINAL", "PRIMARY"])
        for keyword, value in extra.items():
            key.same(keyword, value)
        key.gone(0x00204000, "LT", f"compare with {who.name}, phone {who.phone}")
        frames = int(str(extra.get("NumberOfFrames", 1)))
        _pixels(key, dice, frames=frames, colour=colour)

    return make


def _burned_in(*, colour: bool) -> Maker:
    """Return an image with the patient's name and birth date drawn into its pixels."""

    def make(key: Key, who: Person, number: int, ids: str, dice: random.Random) -> None:
        rows, columns = 240, 400
        picture = Image.new("L", (columns, rows))
        words = f"{who.name.partition('^')[0]} {who.birth_date}"
        font = ImageFont.load_default(size=20)
        ImageDraw.Draw(picture).text((12, 8 + 12 * (number % 3)), words, 255, font=font)
        drawn = np.asarray(picture)
        noise = np.random.default_rng(dice.randrange(2**31)).integers(0, 80, (rows, columns))
        values = np.maximum(noise, drawn)
        ds = key.ds
        key.same("ImageType", ["ORIGINAL", "PRIMARY"])
        ds.Rows, ds.Columns, ds.SamplesPerPixel = rows, columns, 3 if colour else 1
        ds.BitsAllocated, ds.BitsStored = (8, 8) if colour else (16, 12)
        ds.HighBit, ds.PixelRepresentation = ds.BitsStored - 1, 0
        ds.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
        if colour:
            ds.PlanarConfiguration, ds.BurnedInAnnotation = 0, "YES"
            values = np.repeat(values[..., None], 3, axis=2)
        ds.PixelData = (
            values.astype("u1").tobytes() if colour else (values * 16).astype("<u2").tobytes()
        )
        key.case.pixels, key.case.letters = ds.PixelData, drawn > 128
        key.case.due += [
            Due("pixels", (0x7FE00010,), "masked"),
            Due("pixels", (0x7FE00010,), "outside"),
        ]

    return make


def _enhanced(key: Key, who: Person, number: int, ids: str, dice: random.Random) -> None:
    key.same("ImageType", ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])
    key.uid(0x00200052, f"{ids}.8")
    shared = (0x52009229, 0, 0x00289110, 0, 0x00280030)
    key.put(shared, "DS", ["0.7", "0.7"], "header", "same", "[0.7, 0.7]")
    for frame in range(2):
        content = (0x52009230, frame, 0x00209111, 0)
        key.moved((*content, 0x00189074), "DT", day(who.first_day + frame) + "101500")
        where = (0x52009230, frame, 0x00209113, 0, 0x00200032)
        key.put(where, "DS", ["0", "0", f"{frame}"], "header", "same", f"[0, 0, {frame}]")
    _pixels(key, dice, frames=2)


def _report(key: Key, who: Person, number: int, ids: str, dice: random.Random) -> None:
    surname = who.name.partition("^")[0]
    key.same("ValueType", "CONTAINER")
    key.same("CompletionFlag", "COMPLETE")
    items = (
        ("TEXT", 0x0040A160, "UT", f"{surname} has a lesion", "without", "text"),
        ("PNAME", 0x0040A123, "PN", who.name, "gone", "header"),
        ("DATE", 0x0040A121, "DA", day(who.first_day), "moved", "dates"),
        ("UIDREF", 0x0040A124, "UI", f"{ids}.9.0", "pseudonym", "uids"),
    )
    for place, (kind, tag, vr, value, want, category) in enumerate(items):
        words = surname if want == "without" else ""
        key.put((0x0040A730, place, tag), vr, value, category, want, words)  # type: ignore[arg-type]
        key.ds.ContentSequence[place].ValueType = kind
    number_at = (0x0040A730, 4, 0x0040A300, 0, 0x0040A30A)
    key.put(number_at, "DS", "12.5", "header", "same")
    code_at = (0x0040A730, 5, 0x0040A168, 0)
    for tag, vr, value in (
        (0x00080100, "SH", "108369006"),
        (0x00080102, "SH", "SCT"),
        (0x00080104, "LO", "Neoplasm"),
    ):
        key.put((*code_at, tag), vr, value, "header", "same")


def _structures(key: Key, who: Person, number: int, ids: str, dice: random.Random) -> None:
    surname = who.name.partition("^")[0]
    key.uid((0x30060010, 0, 0x00200052), f"{ids}.8")
    key.text((0x30060020, 0, 0x30060026), "LO", f"liver {surname}", surname, "liver")
    key.put(
        (0x30060039, 0, 0x30060040, 0, 0x30060050),
        "DS",
        ["1", "2", "3"],
        "header",
        "same",
        "[1, 2, 3]",
    )
    key.put((0x30060039, 0, 0x30060040, 0, 0x30060042), "CS", "CLOSED_PLANAR", "header", "same")
    key.gone((0x30060080, 0, 0x300600A6), "PN", PHYSICIANS[0])
    key.moved(0x30060008, "DA", day(who.first_day))


def _plan(key: Key, who: Person, number: int, ids: str, dice: random.Random) -> None:
    key.gone(0x300A0004, "ST", f"plan for {who.name}")
    key.moved(0x300A0006, "DA", day(who.first_day))
    key.same("RTPlanGeometry", "PATIENT")
    key.gone((0x300A00B0, 0, 0x300A00B2), "SH", "LINAC-HILDEGARDIS")
    key.put((0x300A00B0, 0, 0x300A00C0), "IS", "1", "header", "same")


def _dose(key: Key, who: Person, number: int, ids: str, dice: random.Random) -> None:
    key.same("DoseUnits", "GY")
    key.same("DoseGridScaling", "0.001")
    _geometry(key, number, ids)
    key.uid((0x300C0002, 0, 0x00081155), f"{ids}.9.9")
    _pixels(key, dice, frames=2)


def _presentation(key: Key, who: Person, number: int, ids: str, dice: random.Random) -> None:
    surname = who.name.partition("^")[0]
    key.gone((0x00700001, 0, 0x00700008, 0, 0x00700006), "ST", f"{surname}, see here")
    graphic = (0x00700001, 0, 0x00700009, 0, 0x00700022)
    key.put(graphic, "FL", [1.0, 2.0], "header", "same", "[1.0, 2.0]")
    key.uid((0x00081115, 0, 0x0020000E), f"{ids}.2.7")
    key.gone(0x00700084, "PN", PHYSICIANS[2])
    key.same("PresentationLUTShape", "IDENTITY")


def _segmentation(key: Key, who: Person, number: int, ids: str, dice: random.Random) -> None:
    surname = who.name.partition("^")[0]
    key.same("SegmentationType", "FRACTIONAL")
    key.text((0x00620002, 0, 0x00620005), "LO", f"liver {surname}", surname, "liver")
    key.put((0x00620002, 0, 0x00620004), "US", 1, "header", "same")
    key.uid((0x00081115, 0, 0x0020000E), f"{ids}.2.1")
    _pixels(key, dice, frames=2)


_STORAGE: Final = "1.2.840.10008.5.1.4.1.1."
_LOOP: Final = {"NumberOfFrames": 3, "FrameTime": "33"}
KINDS: Final[tuple[tuple[str, str, Maker], ...]] = (
    (f"{_STORAGE}2", "CT", _slice({"KVP": "120", "ConvolutionKernel": "B30f"})),
    (f"{_STORAGE}4", "MR", _slice({"EchoTime": "2.5", "ScanningSequence": "GR"})),
    (f"{_STORAGE}128", "PT", _slice({"Units": "BQML", "DecayCorrection": "ADMIN"})),
    (f"{_STORAGE}1", "CR", _projection({"ViewPosition": "AP"})),
    (f"{_STORAGE}1.1", "DX", _projection({"PatientOrientation": ["L", "F"]})),
    (f"{_STORAGE}1.2", "MG", _projection({"ImageLaterality": "L"})),
    (f"{_STORAGE}6.1", "US", _projection({"TransducerType": "CURVED LINEAR"}, colour=True)),
    (f"{_STORAGE}3.1", "US", _projection(_LOOP, colour=True)),
    (f"{_STORAGE}12.1", "XA", _projection({"KVP": "80"})),
    (f"{_STORAGE}20", "NM", _projection({"NumberOfFrames": 2})),
    (f"{_STORAGE}7", "OT", _projection({"ConversionType": "WSD"}, colour=True)),
    (f"{_STORAGE}2.1", "CT", _enhanced),
    (f"{_STORAGE}4.1", "MR", _enhanced),
    (f"{_STORAGE}88.33", "SR", _report),
    (f"{_STORAGE}481.3", "RTSTRUCT", _structures),
    (f"{_STORAGE}481.5", "RTPLAN", _plan),
    (f"{_STORAGE}481.2", "RTDOSE", _dose),
    (f"{_STORAGE}11.1", "PR", _presentation),
    (f"{_STORAGE}66.4", "SEG", _segmentation),
)
BURNED_IN: Final[tuple[tuple[str, str, Maker], ...]] = (
    (f"{_STORAGE}6.1", "US", _burned_in(colour=True)),
    (f"{_STORAGE}1", "CR", _burned_in(colour=False)),
)
_WITHOUT_PRIVATE: Final = frozenset({"SR", "PR"})


def make_key(folder: Path, *, patients: int, visits: int, images: int) -> Iterator[Case]:
    """Write the objects, and yield each with its answers.

    Parameters
    ----------
    folder : Path
        Gets one folder a patient.
    patients, visits, images : int
        How many; every visit has `images` objects of every kind, and two with burned-in text.
    """
    dice = random.Random(2026)
    for number in range(patients):
        who = person(number, dice)
        for visit in range(visits):
            for place, (sop_class, modality, make) in enumerate((*KINDS, *BURNED_IN)):
                for index in range(images if place < len(KINDS) else 1):
                    ids = f"{ROOT}.{number}.{visit}.{place}"
                    path = folder / f"p{number}" / f"{visit}-{place}-{index}.dcm"
                    yield _made(path, who, visit, ids, sop_class, modality, make, index, dice)


def _made(
    path: Path,
    who: Person,
    visit: int,
    ids: str,
    sop_class: str,
    modality: str,
    make: Maker,
    index: int,
    dice: random.Random,
) -> Case:
    ds = Dataset()
    case = Case(path, who.patient_id, sop_class)
    key = Key(case, ds)
    _patient_and_study(key, who, visit, f"{ROOT}.{who.patient_id[3:]}.{visit}", dice)
    ds.SOPClassUID = sop_class
    case.due.append(Due("uids", (0x00080016,), "same", sop_class))
    key.uid(0x00080018, f"{ids}.9.{index}")
    key.uid(0x0020000E, f"{ids}.2.1")
    key.same("Modality", modality)
    key.same("SeriesNumber", "3")
    key.same("InstanceNumber", str(index + 1))
    _equipment(key)
    if modality not in _WITHOUT_PRIVATE:
        _private(key, who)
    make(key, who, index, ids, dice)
    ds.file_meta = FileMetaDataset()
    implicit = index % 4 == 3
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    ds.file_meta.SourceApplicationEntityTitle = "SCANROOM-SEVEN"
    ds.preamble = b"\0" * 128
    path.parent.mkdir(parents=True, exist_ok=True)
    dcmwrite(path, ds, enforce_file_format=True)
    return case
