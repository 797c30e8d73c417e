"""Point a result back at the study that it was made for.

A result is made from de-identified images and refers to their pseudonyms. Before it is delivered,
every pseudonym becomes the original UID again, and patient and study read as in the original. What
cannot be traced stops the result: one that pointed at nothing, or at another patient, would be
worse than none.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from copy import copy, deepcopy
from functools import cache

from pydicom.datadict import keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag

from dicom.deid import Identity
from dicom.errors import SourceMismatch
from dicom.part10 import UNDEFINED_LENGTH
from dicom.profile import identity_tags
from dicom.study import TYPE_2_KEYWORDS

_UTF_8 = "ISO_IR 192"
_STANDARD_UIDS = "1.2.840.10008."  # SOP classes and the like (PS3.6 Annex A)

# Patient and Clinical Trial Subject: whole groups, whatever the vault keeps of them. Group 0012
# also holds PatientIdentityRemoved and DeidentificationMethodCodeSequence.
_PATIENT_GROUPS = (0x0010, 0x0012)
# Item, and elements of short and of long length (PS3.5 7.1.2, 7.5)
_ITEM = struct.Struct("<HHL")
_ITEM_TAG = (0xFFFE, 0xE000)
_SHORT = struct.Struct("<HH2sH")
_LONG = struct.Struct("<L")
_LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV"}) | frozenset(
    {b"UC", b"UN", b"UR", b"UT", b"UV"}
)
_EXPLICIT_LITTLE = (False, True)  # as pydicom says it
_DATES_SHIFTED = tag_for_keyword("LongitudinalTemporalInformationModified")


def relink(result: Dataset, identity: Identity, *, beside: frozenset[str] = frozenset()) -> Dataset:
    """Return the result with original UIDs, patient and study in place of pseudonyms.

    Parameters
    ----------
    result : Dataset
        An object made from one de-identified study; it is left as it is. Its own SOP instance and
        series, tracking and dimension UIDs are kept.
    identity : Identity
        Of that study: what de-identification took away.
    beside : frozenset of str
        SOP instance and series UIDs of other results of the same task, which this one may refer
        to: a report speaks of a segmentation. They stay.

    Raises
    ------
    SourceMismatch
        When the result belongs to another study, or refers to anything that `identity` does not
        know.
    """
    if result.get("StudyInstanceUID") != identity.study_pseudonym:
        raise SourceMismatch("the result belongs to another study than the identity")
    own = beside | {str(result.get("SOPInstanceUID")), str(result.get("SeriesInstanceUID"))}
    original = Dataset.from_json(dict(identity.attributes))
    ascii_only = all(str(element.value).isascii() for element in original.iterall())
    # where texts get another character set, those in sequences have to be read and written anew
    as_written = ascii_only or result.get("SpecificCharacterSet") == _UTF_8
    relinked = _translated(result, identity.uids, own, top=True, as_written=as_written)
    if hasattr(result, "file_meta"):
        file_meta = deepcopy(result.file_meta)
        if result.original_encoding == _EXPLICIT_LITTLE:  # said, so that bytes are written as such
            relinked = FileDataset("", relinked, is_implicit_VR=False, is_little_endian=True)
            relinked.set_original_encoding(*_EXPLICIT_LITTLE, result.original_character_set)
        relinked.file_meta, relinked.preamble = file_meta, b"\0" * 128
    _restore_patient_and_study(relinked, original)
    if not ascii_only:
        relinked.SpecificCharacterSet = _UTF_8
    return relinked


def _translated(
    ds: Dataset,
    uids: Mapping[str, str],
    own: frozenset[str],
    *,
    top: bool = False,
    as_written: bool = False,
) -> Dataset:
    """Return a copy whose UIDs are the originals, in every sequence.

    Parameters
    ----------
    as_written : bool
        Sequences that lie there as bytes may stay bytes: a segmentation has a group of items for
        each of hundreds of frames.
    """
    translated = Dataset()
    for tag in sorted(ds.keys()):
        raw = ds.get_item(tag)
        if as_written and isinstance(raw, RawDataElement) and _is_plain_sequence(raw):
            renamed = _translated_items(memoryview(raw.value or b""), uids, own)
            translated[tag] = raw._replace(value=renamed, length=len(renamed))
            continue
        element = ds[tag]
        if element.VR == "SQ":
            items = [_translated(item, uids, own) for item in element.value]
            translated.add(DataElement(element.tag, "SQ", items))
        elif element.VR == "UI" and element.value:
            refers = _is_reference(element.keyword, top=top)
            values = element.value if isinstance(element.value, MultiValue) else [element.value]
            originals = [_original(str(uid), uids, own, refers=refers) for uid in values]
            translated.add(DataElement(element.tag, "UI", originals))
        else:
            translated.add(copy(element))
    return translated


# --- sequences as they are written ----------------------------------------------------------------


def _is_plain_sequence(raw: RawDataElement) -> bool:
    """Return whether a sequence lies there unread, in Explicit VR Little Endian (PS3.5 7.5.2)."""
    return (
        raw.VR == "SQ"
        and raw.is_little_endian
        and not raw.is_implicit_VR
        and raw.length != UNDEFINED_LENGTH
        and isinstance(raw.value, bytes)
        and _has_lengths(memoryview(raw.value))
    )


def _has_lengths(value: memoryview) -> bool:
    """Return whether all items of a sequence, and of those in it, say how long they are."""
    at = 0
    while at < len(value):
        if len(value) - at < _ITEM.size:
            return False
        group, element, length = _ITEM.unpack_from(value, at)
        end = at + _ITEM.size + length
        if (group, element) != _ITEM_TAG or length == UNDEFINED_LENGTH or end > len(value):
            return False
        for _, _, vr, begin, stop in _elements(value[at + _ITEM.size : end]):
            if stop < 0 or (
                vr == b"SQ" and not _has_lengths(value[at + _ITEM.size : end][begin:stop])
            ):
                return False
        at = end
    return True


def _elements(item: memoryview) -> Iterator[tuple[int, int, bytes, int, int]]:
    """Yield tag, begin, VR, and where the value begins and ends; an end of -1 where it is none."""
    at = 0
    while at < len(item):
        if len(item) - at < _SHORT.size:
            yield 0, at, b"", at, -1
            return
        group, element, vr, length = _SHORT.unpack_from(item, at)
        begin = at + _SHORT.size
        if vr in _LONG_VRS:
            if len(item) - begin < _LONG.size:
                yield 0, at, vr, begin, -1
                return
            (length,) = _LONG.unpack_from(item, begin)
            begin += _LONG.size
        end = begin + length
        if length == UNDEFINED_LENGTH or end > len(item):
            yield 0, at, vr, begin, -1
            return
        yield group << 16 | element, at, vr, begin, end
        at = end


def _translated_items(value: memoryview, uids: Mapping[str, str], own: frozenset[str]) -> bytes:
    """Return a sequence's items with the original UIDs, their lengths made right."""
    made: list[bytes] = []
    at = 0
    while at < len(value):
        _, _, length = _ITEM.unpack_from(value, at)
        begin = at + _ITEM.size
        item = _translated_item(value[begin : begin + length], uids, own)
        made += (_ITEM.pack(*_ITEM_TAG, len(item)), item)
        at = begin + length
    return b"".join(made)


def _translated_item(item: memoryview, uids: Mapping[str, str], own: frozenset[str]) -> bytes:
    made: list[bytes | memoryview] = []
    for tag, at, vr, begin, end in _elements(item):
        if vr == b"SQ":
            content = _translated_items(item[begin:end], uids, own)
            made += (_SHORT.pack(tag >> 16, tag & 0xFFFF, vr, 0), _LONG.pack(len(content)), content)
        elif vr == b"UI" and end > begin:
            content = _translated_value(tag, bytes(item[begin:end]), uids, own)
            made += (_SHORT.pack(tag >> 16, tag & 0xFFFF, vr, len(content)), content)
        else:
            made.append(item[at:end])
    return b"".join(made)


def _translated_value(
    tag: int, value: bytes, uids: Mapping[str, str], own: frozenset[str]
) -> bytes:
    refers = _is_reference(_keyword(tag), top=False)
    originals = [
        _original(uid.rstrip("\0 "), uids, own, refers=refers)
        for uid in value.decode("ascii", "replace").split("\\")
    ]
    content = "\\".join(originals).encode("ascii", "replace")
    return content + b"\0" * (len(content) % 2)


@cache
def _keyword(tag: int) -> str:
    return keyword_for_tag(tag)


def _is_reference(keyword: str, *, top: bool) -> bool:
    """Tell an attribute that points at something from one that names a thing of the result's."""
    if "SOPClass" in keyword or "TransferSyntax" in keyword:
        return False
    if keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        return not top  # at the top they are the result's own names
    return (
        keyword.startswith(("Referenced", "Source"))
        or "FrameOfReferenceUID" in keyword
        or keyword == "StudyInstanceUID"
    )


def _original(uid: str, uids: Mapping[str, str], own: frozenset[str], *, refers: bool) -> str:
    if uid in uids:
        return uids[uid]
    if refers and uid not in own and not uid.startswith(_STANDARD_UIDS):
        raise SourceMismatch("the result refers to something that was not in its study")
    return uid


def _restore_patient_and_study(ds: Dataset, original: Dataset) -> None:
    """Put the original patient- and study-level attributes in place of all that are there."""
    for tag in [tag for tag in ds.keys() if _tells_of_patient_or_study(tag)]:  # noqa: SIM118 - tags
        del ds[tag]
    for element in original:
        if _tells_of_patient_or_study(element.tag):
            ds.add(copy(element))
    for keyword in TYPE_2_KEYWORDS:
        if keyword not in ds:
            setattr(ds, keyword, None)


def _tells_of_patient_or_study(tag: BaseTag) -> bool:
    return tag.group in _PATIENT_GROUPS or tag in identity_tags() or tag == _DATES_SHIFTED
