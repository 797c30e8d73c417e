"""De-identification of one DICOM instance, by PS3.15 Annex E; fails closed.

The careful engine: pydicom reads the header, every attribute gets a
:class:`~dicom.profile.Verdict`, and each action is carried out in one place. Pixel bytes are not
decoded: a file's pixel element is copied as it stands, and whatever follows it is dropped unread.
What cannot be judged stops the instance with :class:`~dicom.errors.CannotDeidentify`, and nothing
of it is written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Final

from pydicom import Dataset
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import UID

from dicom.descriptors import clean_descriptor, looks_technical, words_of
from dicom.elements import (
    Element,
    bytes_of,
    empty_like,
    is_parsable_sequence,
    made,
    text_of,
    values_of,
)
from dicom.errors import CannotDeidentify, InputError, NotDicom
from dicom.part10 import (
    PARSER_ERRORS,
    UNDEFINED_LENGTH,
    encoded,
    quiet_pydicom,
    read_header,
    write_whole,
)
from dicom.profile import (
    METHOD_CODES,
    Action,
    Option,
    Profile,
    Verdict,
    identity_tags,
    iod_of,
    is_public_scheme,
    known_sop_classes,
)
from dicom.refusal import refuse_what_no_rule_judges, transfer_syntax_of
from dicom.study import Instance
from dicom.uids import (
    KEY_BYTES,
    date_shift_days,
    label_pseudonym,
    patient_pseudonym,
    pseudonym_uid,
)

IMPLEMENTATION_CLASS_UID: Final = "2.25.197311418519527153024104962915391836421"
IMPLEMENTATION_VERSION_NAME: Final = "RADLOOP_1"

_PATIENT_NAME, _PATIENT_ID, _ISSUER = 0x00100010, 0x00100020, 0x00100021
_SOP_CLASS, _SOP_INSTANCE = 0x00080016, 0x00080018
_STUDY, _SERIES = 0x0020000D, 0x0020000E
_CHARACTER_SET = 0x00080005
_CONTENT_SEQUENCE, _GRAPHIC_ANNOTATIONS = 0x0040A730, 0x00700001
_SCHEME_DESIGNATOR, _SCHEME_VERSION = 0x00080102, 0x00080103

# Code systems of HL7's registry (PS3.16 Table 8-1): SNOMED CT, LOINC, UCUM ...; a vendor's or a
# hospital's root is longer or elsewhere.
_PUBLIC_CODE_SYSTEM = re.compile(r"2\.16\.840\.1\.113883\.6\.\d{1,4}")
# PS3.16 TID 1006 ff.: DCM concepts that say who the subject is.
_SUBJECT_CONCEPTS: Final = frozenset({"121029", "121030", "121031", "121032", "121033"})

_DA = re.compile(r"(\d{4})(\d{2})(\d{2})", re.A)
_TM = re.compile(r"\d{2}(?:\d{2}(?:\d{2}(?:\.\d{1,6})?)?)?", re.A)
_DT = re.compile(r"(\d{8})(\d{2}(?:\d{2}(?:\d{2}(?:\.\d{1,6})?)?)?)?([+-]\d{4})?", re.A)
_AGE = re.compile(r"(\d{3})([DWMY])", re.A)
_NUMERALS: Final = {
    # Longer than PS3.5 6.2 allows: devices write more digits, and geometry must not be lost.
    "DS": re.compile(r"[0-9+\-eE. ]{0,40}", re.A),
    "IS": re.compile(r"[0-9+\-. ]{0,24}", re.A),
    "CS": re.compile(r"[A-Z0-9_ ]{0,32}", re.A),
}
_DEEPEST = 40  # real objects stay under ten; a structured report may nest its content deeper
_OLDEST = 89  # HIPAA 45 CFR 164.514(b)(2)(i)(C): ages over 89 are one class

_DUMMIES: Final[Mapping[str, bytes]] = {
    "AS": b"000D",
    "DA": b"19000101",
    "TM": b"000000",
    "DT": b"19000101000000",
    "DS": b"0",
    "IS": b"0",
    "UR": b"urn:removed",
    "OB": b"\0\0",
    "UN": b"\0\0",
}
_DUMMY_TEXT: Final = b"REMOVED"


@dataclass(frozen=True)
class Identity:
    """What de-identification took from a study: the way back.

    Parameters
    ----------
    study_pseudonym : str
        The StudyInstanceUID after de-identification.
    uids : Mapping of str to str
        Pseudonym -> original, for every UID that was replaced.
    attributes : Mapping of str to object
        The original patient- and study-level attributes in the DICOM JSON model (PS3.18 F.2):
        ``Dataset.from_json`` reads them.
    """

    study_pseudonym: str
    uids: Mapping[str, str]
    attributes: Mapping[str, object]

    @classmethod
    def of(cls, parts: Iterable[Identity]) -> Identity:
        """Return the identity of all parts; where they differ in a detail, the first stands.

        Parameters
        ----------
        parts : Iterable of Identity
            Of one study's instances; at least one.

        Raises
        ------
        CannotDeidentify
            When parts are of different studies or name different patients, or when one pseudonym
            stands for two UIDs.
        ValueError
            When there is no part.
        """
        remaining = iter(parts)
        first = next(remaining, None)
        if first is None:
            raise ValueError("an identity has at least one part")
        uids, attributes = dict(first.uids), dict(first.attributes)
        for part in remaining:
            if part.study_pseudonym != first.study_pseudonym:
                raise CannotDeidentify("two studies cannot share one identity")
            for tag in ("00100020", "00100021"):
                if part.attributes.get(tag) != first.attributes.get(tag):
                    raise CannotDeidentify("the study's instances name different patients")
            for pseudonym, original in part.uids.items():
                if uids.setdefault(pseudonym, original) != original:
                    raise CannotDeidentify("one pseudonym stands for two UIDs")
            for tag, value in part.attributes.items():
                attributes.setdefault(tag, value)
        return cls(first.study_pseudonym, uids, attributes)

    def merged(self, other: Identity) -> Identity:
        """Return the identity of both, as :meth:`of` does."""
        return Identity.of((self, other))


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A file that was de-identified."""

    source: Path
    instance: Instance
    identity: Identity


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A file that was not, and why; nothing of it was written."""

    source: Path
    error: InputError


@dataclass(slots=True)
class _Case:
    """One instance in work: its patient, and what has been replaced so far."""

    iod: str
    shift: timedelta
    identity_words: frozenset[str]
    uids: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an attribute stands: instance, sequence and depth; whether codes there are public."""

    case: _Case
    parent: int
    depth: int
    public_code: bool
    little_endian: bool


_Act = Callable[["Deidentifier", Element, Verdict, "_Place"], Element | None]


class Deidentifier:
    """Takes the identity off instances, the same way each time.

    Parameters
    ----------
    profile : Profile
        What to do with each attribute.
    key : bytes
        32 secret bytes: all pseudonyms and date shifts come from them.
    """

    def __init__(self, profile: Profile, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a pseudonym key has {KEY_BYTES} bytes")
        self._profile = profile
        self._key = key
        self._verdicts: dict[tuple[str, int, int, str], Verdict] = {}

    # --- one instance ---------------------------------------------------------------------------

    def deidentify(self, ds: Dataset) -> tuple[Dataset, Identity]:
        """Return the de-identified instance and what was taken from it.

        Parameters
        ----------
        ds : Dataset
            One SOP instance with its file meta information; it is left as it is.

        Returns
        -------
        Dataset
            A new data set in the same transfer syntax. Pixel data, geometry and acquisition
            parameters are those of `ds`.
        Identity
            The originals.

        Raises
        ------
        CannotDeidentify
            When it holds something that no rule judges: burned-in annotation, documents, video,
            waveforms, raw data, a private SOP class, pixels kept elsewhere.
        NotDicom
            When its bytes end too early or cannot be parsed.
        UnsupportedTransferSyntax
            When the transfer syntax is private or unknown.
        """
        with quiet_pydicom():
            syntax = transfer_syntax_of(ds)
            refuse_what_no_rule_judges(ds)
            patient_id, issuer = _patient(ds)
            case = _Case(
                iod=iod_of(text_of(ds, _SOP_CLASS)),
                shift=timedelta(days=date_shift_days(self._key, patient_id, issuer)),
                identity_words=_identity_words(ds),
            )
            clean = self._cleaned(ds, 0, case, depth=0)
            original = _original_attributes(ds)
        pseudonym = patient_pseudonym(self._key, patient_id, issuer)
        little = ds.original_encoding[1] is not False
        clean[_PATIENT_ID] = made(_PATIENT_ID, "LO", pseudonym.encode(), little=little)
        clean[_PATIENT_NAME] = made(_PATIENT_NAME, "PN", pseudonym.encode(), little=little)
        self._declare(clean, little=little)
        clean.file_meta = _file_meta(clean, syntax)
        clean.preamble = b"\0" * 128
        return clean, Identity(text_of(clean, _STUDY), dict(case.uids), original)

    def _cleaned(self, ds: Dataset, parent: int, case: _Case, *, depth: int) -> Dataset:
        """Return the data set, or the item of sequence `parent`, without its identity."""
        if depth > _DEEPEST:
            raise CannotDeidentify(f"sequences are nested more than {_DEEPEST} deep")
        clean = empty_like(ds)
        at = _Place(
            case,
            parent,
            depth,
            is_public_scheme(text_of(ds, _SCHEME_DESIGNATOR)),
            ds.original_encoding[1] is not False,
        )
        verdicts = self._verdicts
        for tag in sorted(ds.keys()):
            element = ds.get_item(tag)
            if not isinstance(element, RawDataElement | DataElement):
                raise CannotDeidentify("an attribute could not be read")
            vr = element.VR or ""
            verdict = verdicts.get((case.iod, parent, tag, vr))
            if verdict is None:
                verdict = self._profile.verdict(tag, vr, iod=case.iod, parent=parent)
                verdicts[case.iod, parent, tag, vr] = verdict
            if verdict.action is Action.REMOVE:
                continue
            _refuse_short(element)
            if verdict.action is Action.ITEMS:
                if not is_parsable_sequence(ds, tag):
                    raise NotDicom("a sequence cannot be parsed")
                element = ds[tag]
            kept = _ACTS[verdict.action](self, element, verdict, at)
            if kept is not None:
                clean[tag] = kept
        return clean

    # --- one place for each action --------------------------------------------------------------

    def _keep(self, element: Element, verdict: Verdict, at: _Place) -> Element | None:
        return element

    def _empty(self, element: Element, verdict: Verdict, at: _Place) -> Element | None:
        if verdict.vr == "SQ":
            return DataElement(element.tag, "SQ", Sequence())
        return _replaced(element, verdict, b"", at)

    def _dummy(self, element: Element, verdict: Verdict, at: _Place) -> Element | None:
        if not bytes_of(element):
            return _replaced(element, verdict, b"", at)
        return _replaced(element, verdict, _DUMMIES.get(verdict.vr, _DUMMY_TEXT), at)

    def _lost(self, element: Element, verdict: Verdict, at: _Place) -> Element | None:
        """Carry out the second choice, for a value that the first could not judge."""
        if verdict.otherwise is Action.REMOVE:
            return None
        return _ACTS[verdict.otherwise](self, element, verdict, at)

    def _pseudonym(self, element: Element, verdict: Verdict, at: _Place) -> Element | None:
        uids = [self._replace_uid(uid, at.case) for uid in values_of(element)]
        return _replaced(element, verdict, "\\".join(uids).encode("ascii"), at)

    def _replace_uid(self, uid: str, case: _Case) -> str:
        if not uid or _is_well_known(uid):
            return uid
        pseudonym = pseudonym_uid(self._key, uid)
        case.uids[pseudonym] = uid
        return pseudonym

    def _shift(self, element: Element, verdict: Verdict, at: _Place) -> Element | None:
        shifted = [_shifted(value, verdict.vr, at.case.shift) for value in values_of(element)]
        if any(value is None for value in shifted):
            return self._lost(element, verdict, at)
        return _replaced(element, verdict, "\\".join(map(str, shifted)).encode("ascii"), at)

    def _descriptor(self, element: Element, verdict: Verdict, at: _Place) -> Element | None:
        values = values_of(element)
        cleaned = [clean_descriptor(value, identity=at.case.identity_words) for value in values]
        if cleaned == values:
            return element
        if not any(cleaned):
            return self._lost(element, verdict, at)
        return _replaced(element, verdict, "\\".join(cleaned).encode("ascii"), at)

    def _technical(self, element: Element, verdict: Verdict, at: _Place) -> Element | None:
        values = values_of(element)
        if all(looks_technical(value, identity=at.case.identity_words) for value in values):
            return element
        return self._descriptor(element, verdict, at)

    def _numeral(self, element: Element, verdict: Verdict, at: _Place) -> Element | None:
        values = values_of(element)
        allowed = _NUMERALS[verdict.vr]
        if all(allowed.fullmatch(value) for value in values):
            if verdict.vr != "CS" and _repeats_identity(values, at.case.identity_words):
                return self._lost(element, verdict, at)
            return element
        if verdict.vr == "CS" and element.tag != _CHARACTER_SET:
            return self._descriptor(element, verdict, at)
        return self._lost(element, verdict, at)

    def _age(self, element: Element, verdict: Verdict, at: _Place) -> Element | None:
        value = ("".join(values_of(element))).strip()
        found = _AGE.fullmatch(value)
        if found is None:
            return self._lost(element, verdict, at)
        if found[2] == "Y" and int(found[1]) > _OLDEST:
            return _replaced(element, verdict, b"090Y", at)
        return element

    def _code(self, element: Element, verdict: Verdict, at: _Place) -> Element | None:
        """Keep a code of a published scheme; hide a local one, and the name of its scheme."""
        values = values_of(element)
        if at.public_code:
            if all(_looks_coded(value, at.case.identity_words) for value in values):
                return element
            return self._descriptor(element, verdict, at)
        text = "\\".join(values)
        if element.tag == _SCHEME_VERSION:
            return None
        if element.tag == _SCHEME_DESIGNATOR:
            return _replaced(element, verdict, b"99" + self._label(text), at)
        if verdict.vr == "LO":
            return self._descriptor(element, verdict, at)
        prefix = b"urn:removed:" if verdict.vr == "UR" else b"R"
        return _replaced(element, verdict, prefix + self._label(text), at)

    def _label(self, text: str) -> bytes:
        return label_pseudonym(self._key, text).encode("ascii")

    def _items(self, element: Element, verdict: Verdict, at: _Place) -> Element | None:
        assert not isinstance(element, RawDataElement)  # _cleaned has parsed it
        items = [
            self._cleaned(item, int(element.tag), at.case, depth=at.depth + 1)
            for item in element.value or ()
            if not _names_the_subject(item)
        ]
        return DataElement(element.tag, "SQ", Sequence(items))

    # --- what the result says of itself ---------------------------------------------------------

    def _declare(self, clean: Dataset, *, little: bool) -> None:
        """Say what was done, as PS3.15 E.1.1 and PS3.3 C.7.1.1, C.12.1 ask."""
        options = sorted(self._profile.options, key=lambda option: METHOD_CODES[option][0])
        if _CONTENT_SEQUENCE in clean:
            options.append(Option.CLEAN_STRUCTURED_CONTENT)
        if _GRAPHIC_ANNOTATIONS in clean:
            options.append(Option.CLEAN_GRAPHICS)
        codes = [METHOD_CODES[None], *(METHOD_CODES[option] for option in options)]
        method = f"radloop\\PS3.15 {self._profile.edition} Basic Profile\\" + "\\".join(
            value for value, _ in sorted(codes)
        )

        def put(tag: int, vr: str, text: str) -> None:
            clean[tag] = made(tag, vr, text.encode("ascii"), little=little)

        put(0x00120062, "CS", "YES")  # PatientIdentityRemoved
        put(0x00120063, "LO", method)  # DeidentificationMethod
        items = []
        for value, meaning in sorted(codes):
            item = empty_like(clean)
            for tag, vr, text in (
                (0x00080100, "SH", value),
                (0x00080102, "SH", "DCM"),
                (0x00080104, "LO", meaning),
            ):
                item[tag] = made(tag, vr, text.encode("ascii"), little=little)
            items.append(item)
        clean[0x00120064] = DataElement(0x00120064, "SQ", Sequence(items))
        modified = Option.RETAIN_MODIFIED_DATES in self._profile.options
        put(0x00280303, "CS", "MODIFIED" if modified else "REMOVED")

    # --- files ----------------------------------------------------------------------------------

    def deidentify_file(self, source: Path, target_folder: Path) -> tuple[Instance, Identity]:
        """Write the de-identified copy of a file, named by its pseudonym.

        The file appears whole or not at all. Memory holds the header, not the pixels (a deflated
        file is the exception).

        Parameters
        ----------
        source : Path
            A DICOM Part 10 file.
        target_folder : Path
            Made when absent; gets ``<pseudonymised SOP Instance UID>.dcm``.

        Raises
        ------
        NotDicom, CannotDeidentify, UnsupportedTransferSyntax
            As :meth:`deidentify`.
        DiskFull
            When the target folder has no room.
        """
        with source.open("rb") as file:
            ds, pixels = read_header(file)
            clean, identity = self.deidentify(ds)
            sop_instance_uid = text_of(clean, _SOP_INSTANCE)
            target = target_folder / f"{sop_instance_uid}.dcm"
            header = encoded(clean)
            write_whole(target, header, file, pixels)
        return Instance(sop_instance_uid, text_of(clean, _SOP_CLASS), target), identity

    def deidentify_folder(
        self, source: Path, target_folder: Path
    ) -> Iterator[Cleaned | Quarantined]:
        """De-identify a file, or every file below a folder, and yield what became of each.

        Written to ``<patient>/<study>/<series>/<instance>.dcm`` below `target_folder`, each name a
        pseudonym. A second file with the same SOP Instance UID is quarantined, not written over.

        Parameters
        ----------
        source : Path
            A file, or a folder that is searched to any depth, in order of names.
        target_folder : Path
            Made when absent; must not lie within `source`.

        Raises
        ------
        ValueError
            When `target_folder` lies within `source`.
        DiskFull
            When there is no room left.
        """
        inside = source.resolve()
        if target_folder.resolve() == inside or inside in target_folder.resolve().parents:
            raise ValueError("the target folder must not lie within the source folder")
        found = [source] if source.is_file() else sorted(source.rglob("*"))
        written: set[Path] = set()
        for path in found:
            if not path.is_file():
                continue
            try:
                yield self._filed(path, target_folder, written)
            except InputError as error:
                yield Quarantined(path, error)

    def _filed(self, path: Path, target_folder: Path, written: set[Path]) -> Cleaned:
        if not os.access(path, os.R_OK):
            raise NotDicom("the file cannot be read")
        with path.open("rb") as file:
            ds, pixels = read_header(file)
            clean, identity = self.deidentify(ds)
            folders = (text_of(clean, _PATIENT_ID), text_of(clean, _STUDY), text_of(clean, _SERIES))
            sop_instance_uid = text_of(clean, _SOP_INSTANCE)
            target = target_folder.joinpath(*folders) / f"{sop_instance_uid}.dcm"
            if target in written:
                raise CannotDeidentify("another file has the same SOP Instance UID")
            write_whole(target, encoded(clean), file, pixels)
        written.add(target)
        instance = Instance(sop_instance_uid, text_of(clean, _SOP_CLASS), target)
        return Cleaned(path, instance, identity)


_ACTS: Final[Mapping[Action, _Act]] = {
    Action.KEEP: Deidentifier._keep,
    Action.EMPTY: Deidentifier._empty,
    Action.DUMMY: Deidentifier._dummy,
    Action.PSEUDONYM: Deidentifier._pseudonym,
    Action.SHIFT: Deidentifier._shift,
    Action.DESCRIPTOR: Deidentifier._descriptor,
    Action.TECHNICAL: Deidentifier._technical,
    Action.NUMERAL: Deidentifier._numeral,
    Action.AGE: Deidentifier._age,
    Action.CODE: Deidentifier._code,
    Action.ITEMS: Deidentifier._items,
}


def _refuse_short(element: Element) -> None:
    """Refuse a value that ends before its length says: the file was cut off."""
    if (
        isinstance(element, RawDataElement)
        and element.length != UNDEFINED_LENGTH
        and element.length != len(element.value or b"")
    ):
        raise NotDicom("the file ends within an attribute")


# --- reading values -----------------------------------------------------------------------------


def _patient(ds: Dataset) -> tuple[str, str]:
    """Return what names the patient: id and issuer, or the study where there is no id."""
    patient_id = text_of(ds, _PATIENT_ID)
    if patient_id:
        return patient_id, text_of(ds, _ISSUER)
    return "", f"study {text_of(ds, _STUDY)}"


def _identity_words(ds: Dataset) -> frozenset[str]:
    """Return the words of names and identifiers at the top level (see `words_of`)."""
    words: frozenset[str] = frozenset()
    for tag in _NAMING_TAGS:
        element = ds.get_item(tag) if tag in ds else None
        if isinstance(element, RawDataElement | DataElement):
            words |= words_of(bytes_of(element).decode("latin-1"))
    return words


_NAMING_TAGS: Final = (
    _PATIENT_NAME,
    _PATIENT_ID,
    0x00100030,  # PatientBirthDate
    0x00101000,  # OtherPatientIDs
    0x00101001,  # OtherPatientNames
    0x00101005,  # PatientBirthName
    0x00101060,  # PatientMotherBirthName
    0x00101040,  # PatientAddress
    0x00102154,  # PatientTelephoneNumbers
    0x00102297,  # ResponsiblePerson
    0x00080050,  # AccessionNumber
    0x00080090,  # ReferringPhysicianName
    0x0008009C,  # ConsultingPhysicianName
    0x00081048,  # PhysiciansOfRecord
    0x00081050,  # PerformingPhysicianName
    0x00081060,  # NameOfPhysiciansReadingStudy
    0x00081070,  # OperatorsName
    0x00321032,  # RequestingPhysician
    0x00400006,  # ScheduledPerformingPhysicianName
    0x00700084,  # ContentCreatorName
)


def _names_the_subject(item: Dataset) -> bool:
    """Return whether a content item says who the subject is (PS3.16 TID 1006 ff.)."""
    if 0x0040A043 not in item or not is_parsable_sequence(item, BaseTag(0x0040A043)):
        return False
    return any(
        text_of(concept, 0x00080100) in _SUBJECT_CONCEPTS
        and text_of(concept, _SCHEME_DESIGNATOR) == "DCM"
        for concept in item[0x0040A043].value or ()
    )


def _original_attributes(ds: Dataset) -> dict[str, object]:
    """Return the patient- and study-level attributes in the DICOM JSON model.

    An attribute whose value breaks its VR (a weight in words) has no JSON and is left out.
    """
    attributes: dict[str, object] = {}
    for tag in identity_tags():
        if tag not in ds:
            continue
        try:
            attributes[f"{tag:08X}"] = ds[tag].to_json_dict(None, 0)
        except PARSER_ERRORS:
            continue
    return attributes


@lru_cache(maxsize=4096)
def _is_well_known(uid: str) -> bool:
    """Return whether a UID names a thing of the standard, not of a patient (PS3.6 Annex A)."""
    return (
        UID(uid).type != ""
        or uid in known_sop_classes()
        or _PUBLIC_CODE_SYSTEM.fullmatch(uid) is not None
    )


def _shifted(value: str, vr: str, shift: timedelta) -> str | None:
    """Return a DA, TM or DT value moved by whole days; None when it is malformed."""
    if not value:
        return ""
    if vr == "TM":
        return value if _TM.fullmatch(value) else None
    found = (_DA if vr == "DA" else _DT).fullmatch(value)
    if found is None:
        return None
    day = value[:8]
    try:
        moved = date(int(day[:4]), int(day[4:6]), int(day[6:])) + shift
    except (ValueError, OverflowError):
        return None
    return f"{moved.year:04}{moved.month:02}{moved.day:02}{value[8:]}"


def _repeats_identity(numbers: list[str], identity: frozenset[str]) -> bool:
    """Return whether a number is a long identifier of the patient or the order, come again."""
    return any(len(number) >= 5 and number in identity for number in numbers)


def _looks_coded(text: str, identity: frozenset[str]) -> bool:
    """Return whether a code or its meaning holds no word of the object's own identity."""
    return "^" not in text and words_of(text).isdisjoint(identity)


# --- making values ------------------------------------------------------------------------------


def _replaced(element: Element, verdict: Verdict, value: bytes, at: _Place) -> RawDataElement:
    return made(int(element.tag), verdict.vr or "UN", value, little=at.little_endian)


def _file_meta(clean: Dataset, syntax: str) -> FileMetaDataset:
    """Return new file meta information: nothing of the source's goes in (PS3.10 7.1)."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = UID(text_of(clean, _SOP_CLASS))
    meta.MediaStorageSOPInstanceUID = UID(text_of(clean, _SOP_INSTANCE))
    meta.TransferSyntaxUID = UID(syntax)
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    return meta
