"""Point a result back at the study that it was made for.

A result is made from de-identified images and refers to their pseudonyms. Before it is delivered,
every pseudonym becomes the original UID again, and patient and study read as in the original. What
cannot be traced stops the result: one that pointed at nothing, or at another patient, would be
worse than none.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy, deepcopy

from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag

from dicom.deid import Identity
from dicom.errors import SourceMismatch
from dicom.profile import identity_tags
from dicom.study import TYPE_2_KEYWORDS

_UTF_8 = "ISO_IR 192"
_STANDARD_UIDS = "1.2.840.10008."  # SOP classes and the like (PS3.6 Annex A)

# Patient and Clinical Trial Subject: whole groups, whatever the vault keeps of them. Group 0012
# also holds PatientIdentityRemoved and DeidentificationMethodCodeSequence.
_PATIENT_GROUPS = (0x0010, 0x0012)
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
    relinked = _translated(result, identity.uids, own, top=True)
    if hasattr(result, "file_meta"):
        relinked.file_meta = deepcopy(result.file_meta)
        relinked.preamble = b"\0" * 128
    _restore_patient_and_study(relinked, Dataset.from_json(dict(identity.attributes)))
    return relinked


def _translated(ds: Dataset, uids: Mapping[str, str], own: frozenset[str], *, top: bool) -> Dataset:
    """Return a copy whose UIDs are the originals, in every sequence."""
    translated = Dataset()
    for element in ds:
        if element.VR == "SQ":
            items = [_translated(item, uids, own, top=False) for item in element.value]
            translated.add(DataElement(element.tag, "SQ", items))
        elif element.VR == "UI" and element.value:
            refers = _is_reference(element.keyword, top=top)
            values = element.value if isinstance(element.value, MultiValue) else [element.value]
            originals = [_original(str(uid), uids, own, refers=refers) for uid in values]
            translated.add(DataElement(element.tag, "UI", originals))
        else:
            translated.add(copy(element))
    return translated


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
    if not all(str(element.value).isascii() for element in original.iterall()):
        ds.SpecificCharacterSet = _UTF_8


def _tells_of_patient_or_study(tag: BaseTag) -> bool:
    return tag.group in _PATIENT_GROUPS or tag in identity_tags() or tag == _DATES_SHIFTED
