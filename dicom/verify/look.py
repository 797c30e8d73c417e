"""The look itself, at one file of one patient."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydicom import Dataset

from dicom.descriptors import clean_descriptor
from dicom.elements import bytes_of
from dicom.errors import IdentityLeft
from dicom.profile import METHOD_CODES, PIXEL_OPTIONS, Action, Option, Profile, Verdict, iod_of
from dicom.verify.kept import JUDGED, is_rightly_coded, schemes_of, stays_rightly
from dicom.verify.reader import Part, Read, Reader
from dicom.verify.reading import (
    PIXELS,
    Found,
    Value,
    is_registered,
    split_values,
    tag_text,
)
from dicom.verify.tokens import DATES, KEPT, Before, Needle, Needles, Tokens

_PSEUDONYMS: Final = frozenset({0x00100010, 0x00100020})  # PatientName, PatientID
_PSEUDONYM: Final = re.compile(rb"RL-[A-Z2-7]{16} ?")
_DECLARATIONS: Final = frozenset({0x00120062, 0x00120064})
_SOP_INSTANCE, _META_INSTANCE = 0x00080018, 0x00020003
_TRAILING_PADDING: Final = 0xFFFCFFFC
_BUILDERS: Final = frozenset({0x00080070, 0x00081090})  # Manufacturer, its model name
# What a removed value is replaced by may have stood there before; it says nothing of anybody.
_NEUTRAL: Final = frozenset(
    {b"REMOVED", b"ANONYMOUS", b"ANON", b"UNKNOWN", b"NONE", b"19000101", b"000000", b"000D"}
    | {b"19000101000000", b"urn:removed", b"NO", b"YES", b"O", b"0", b"+0000"}
)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that should not be there.

    Attributes
    ----------
    rule : str
        What was broken: `name`, `identifier`, `uid`, `date`, `contact`, `table`, `private`,
        `declaration`, `trailing`, `file_name`.
    place : str
        The attribute's path of tags, or where in the file; never a value.
    """

    rule: str
    place: str


class SecondLook:
    """Looks at de-identified files of one patient.

    Parameters
    ----------
    profile : Profile
        By which they were de-identified.
    tokens : Tokens
        Of all files of the study, and of the patient's other studies.
    """

    def __init__(self, profile: Profile, tokens: Tokens) -> None:
        self._profile = profile
        self._tokens = tokens
        self._needles = Needles(tokens)
        self._reader = Reader()
        self._declared_by: tuple[list[Part], tuple[Finding, ...]] | None = None
        self._verdicts: dict[tuple[int, str, str, int, str], Verdict] = {}

    def look(self, path: Path, before: Before | None = None) -> tuple[Finding, ...]:
        """Return what is wrong with a file; nothing is how it should be.

        Parameters
        ----------
        path : Path
            The de-identified file.
        before : Before, optional
            The same instance as it was; with it, values are compared where they stood.

        Raises
        ------
        NotDicom
            When it cannot be parsed: a file that nobody can read is no clean file.
        """
        read = self._reader.read(path)
        values = [value for part in read.parts for value in part.values]
        iod = iod_of(str(read.ds.get("SOPClassUID", "")))
        findings = [*self._in_name(path), *self._in_bytes(read, values, iod)]
        findings += self._in_structure(values, iod, before or {})
        findings += self._declared(read)
        return tuple(dict.fromkeys(findings))

    def check(self, path: Path, before: Before | None = None) -> None:
        """Refuse a file with a finding.

        Raises
        ------
        IdentityLeft
            Naming rules and places.
        NotDicom
            When it cannot be parsed.
        """
        _refuse(self.look(path, before))

    def check_bytes(self, path: Path) -> None:
        """Refuse a file that was looked at before, when one of these tokens stands in it.

        Raises
        ------
        IdentityLeft
            Naming rules and places.
        NotDicom
            When it cannot be parsed.
        """
        read = self._reader.read(path)
        values = [value for part in read.parts for value in part.values]
        iod = iod_of(str(read.ds.get("SOPClassUID", "")))
        _refuse((*self._in_name(path), *self._in_bytes(read, values, iod)))

    def check_text(self, content: bytes) -> None:
        """Refuse a file that is no DICOM (a sidecar, a table) when a token stands in it.

        Raises
        ------
        IdentityLeft
        """
        for needle, _ in self._needles.hits(content):
            raise IdentityLeft(f"1 finding(s): {needle.rule} in a text")

    # --- the raw bytes --------------------------------------------------------------------------

    def _in_bytes(self, read: Read, values: list[Found], iod: str) -> Iterator[Finding]:
        """Search everything but pixel values."""
        meta, header, after = read.around_pixels()
        excused: _Excuses | None = None
        parts = (("meta", meta), ("header", header), ("after the pixels", after))
        for place, part in parts:
            for needle, count in self._needles.hits(part):
                excused = excused or self._excuses(values, iod)
                if not excused.covers(needle, count):
                    yield Finding(needle.rule, place)
        if read.content[:128].strip(b"\0"):
            yield Finding("trailing", "preamble")
        if after.strip(b"\0") and _TRAILING_PADDING not in read.ds:
            yield Finding("trailing", "after the pixels")

    def _in_name(self, path: Path) -> Iterator[Finding]:
        for needle, _ in self._needles.hits(path.name.encode()):
            yield Finding("file_name", needle.rule)

    # --- the structure --------------------------------------------------------------------------

    def _in_structure(self, values: list[Found], iod: str, before: Before) -> Iterator[Finding]:
        schemes: dict[str, bytes] | None = None
        for place, element, parent in values:
            tag = element.tag
            if tag >> 16 == 0x0002 or tag in PIXELS:
                continue
            verdict = self._verdict(element, iod, parent)
            action = verdict.action
            value = bytes(element.value or b"")
            if action in JUDGED and tag not in _PSEUDONYMS and tag >> 16 != 0x0012:
                unchanged = value == before.get(place)
                if action is not Action.CODE:
                    rightly = stays_rightly(
                        action, verdict.vr or element.VR, value, unchanged=unchanged
                    )
                else:
                    schemes = schemes_of(values) if schemes is None else schemes
                    scheme = schemes.get(place[: -len(tag_text(tag))])
                    rightly = is_rightly_coded(tag, value, scheme, unchanged=unchanged)
                if not rightly:
                    yield Finding("table", place)
                    continue
            if tag in _PSEUDONYMS and not parent:
                if not _PSEUDONYM.fullmatch(value):
                    yield Finding("table", place)
            elif tag >> 16 & 1 and action is Action.REMOVE:
                yield Finding("private", place)
            elif (
                action is Action.REMOVE
                or (action is Action.EMPTY and value.strip(b" \0"))
                or self._is_unchanged(value, before.get(place), action)
            ):
                yield Finding("table", place)
            elif element.VR == "UI" and action is not Action.RETAIN:  # a device's, by option
                yield from self._foreign_uids(place, value)

    def _excuses(self, values: list[Found], iod: str) -> _Excuses:
        dates: set[bytes] = set()
        harmless = []
        for _, element, parent in values:
            value = bytes(element.value or b"").lower()
            verdict = self._verdict(element, iod, parent)
            vr = verdict.vr or element.VR
            if vr in DATES:
                dates |= {part.strip()[:8] for part in value.split(b"\\")}
            declared = element.tag >> 16 == 0x0012 or element.tag in _BUILDERS
            if declared or vr == "CS" or verdict.action is Action.CODE:
                harmless.append(value)
        return _Excuses(frozenset(dates), b"\0".join(harmless))

    def _verdict(self, element: Value, iod: str, parent: int) -> Verdict:
        key = (element.tag, element.VR, iod, parent, element.creator)
        if key not in self._verdicts:
            self._verdicts[key] = self._profile.verdict(
                element.tag, element.VR, iod=iod, parent=parent, creator=element.creator
            )
        return self._verdicts[key]

    def _is_unchanged(self, value: bytes, before: bytes | None, action: Action) -> bool:
        if action in KEPT or value != before or not value.strip(b" \0"):
            return False
        if action is Action.DESCRIPTOR:
            text = value.decode("latin-1").strip()
            return clean_descriptor(text, identity=self._tokens.words) != text
        if action is Action.PSEUDONYM:
            return any(not is_registered(uid) for uid in split_values(value))
        if action is Action.SHIFT:
            return re.match(rb"\s*\d{8}", value) is not None  # a time of day stays
        return value.strip(b" \0") not in _NEUTRAL

    def _foreign_uids(self, place: str, value: bytes) -> Iterator[Finding]:
        if Option.RETAIN_UIDS in self._profile.options:
            return
        for uid in split_values(value):
            if uid and not is_registered(uid) and not uid.startswith("2.25."):
                yield Finding("uid", place)

    def _declared(self, read: Read) -> Iterator[Finding]:
        said = [part for part in read.parts if part.tag in _DECLARATIONS]
        if self._declared_by is None or self._declared_by[0] != said:
            self._declared_by = said, tuple(self._declarations(read.ds))
        yield from self._declared_by[1]
        meta = {int(tag): bytes_of(read.ds.file_meta._dict[tag]) for tag in read.ds.file_meta._dict}
        named = [bytes_of(part.element) for part in read.parts if part.tag == _SOP_INSTANCE]
        if [meta.get(_META_INSTANCE, b"").strip(b" \0")] != [uid.strip(b" \0") for uid in named]:
            yield Finding("uid", "(0002,0003)")
        for tag in meta:
            if tag & 0xFFFF > 0x0013:  # who sent it, and private information
                yield Finding("table", tag_text(tag))

    def _declarations(self, ds: Dataset) -> Iterator[Finding]:
        if ds.get("PatientIdentityRemoved") != "YES":
            yield Finding("declaration", "(0012,0062)")
        codes = {
            str(item.get("CodeValue", ""))
            for item in ds.get("DeidentificationMethodCodeSequence", [])
        }
        options = self._profile.options - PIXEL_OPTIONS
        wanted = {METHOD_CODES[option][0] for option in (None, *options)}
        if not wanted <= codes:
            yield Finding("declaration", "(0012,0064)")


def _refuse(findings: Sequence[Finding]) -> None:
    if findings:
        told = ", ".join(f"{one.rule} in {one.place}" for one in findings[:5])
        raise IdentityLeft(f"{len(findings)} finding(s): {told}")


# --- reading --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Excuses:
    """Where a token may stand without telling anything.

    A moved date may meet another date of the patient: dates in date attributes are compared where
    they stood. A name may be a word of the standard's own (HEAD, PRIMARY), an institution that of a
    manufacturer: coded values, and who built the device, name nobody.
    """

    dates: frozenset[bytes]
    harmless: bytes

    def covers(self, needle: Needle, count: int) -> bool:
        if needle.rule == "date":
            return needle.text in self.dates
        return needle.rule in ("name", "identifier") and needle.count(self.harmless) >= count
