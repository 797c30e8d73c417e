"""What a de-identified object says of itself (PS3.15 E.1.1, PS3.3 C.7.1.1, C.12.1)."""

from __future__ import annotations

from typing import Final

from pydicom import Dataset
from pydicom.dataelem import DataElement
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

from dicom.elements import empty_like, made, text_of
from dicom.profile import METHOD_CODES, PIXEL_OPTIONS, Option, Profile

IMPLEMENTATION_CLASS_UID: Final = "2.25.197311418519527153024104962915391836421"
IMPLEMENTATION_VERSION_NAME: Final = "RADLOOP_1"

_SOP_CLASS, _SOP_INSTANCE = 0x00080016, 0x00080018
_CONTENT_SEQUENCE, _GRAPHIC_ANNOTATIONS = 0x0040A730, 0x00700001

DEPENDS_ON: Final = frozenset({_CONTENT_SEQUENCE, _GRAPHIC_ANNOTATIONS})
"""Attributes whose presence changes what :func:`declare` writes; all else is the profile's."""


def named(pseudonym: str) -> tuple[tuple[int, str, bytes], ...]:
    """Return tag, VR and value of the attributes that say whose an object is now."""
    value = pseudonym.encode("ascii")
    value += b" " * (len(value) % 2)
    return (0x00100010, "PN", value), (0x00100020, "LO", value)


def declare(
    clean: Dataset,
    profile: Profile,
    *,
    little: bool,
    done: frozenset[Option] = frozenset(),
) -> None:
    """Write into `clean` what was done to it.

    Parameters
    ----------
    clean : Dataset
        The de-identified instance; it is changed. What it holds does not matter, but for the
        presence of :data:`DEPENDS_ON`.
    profile : Profile
        By which it was done.
    little : bool
        The byte order of `clean`.
    done : frozenset of Option
        Those of :data:`dicom.profile.PIXEL_OPTIONS` whose pass this instance went through.
    """
    options = (profile.options - PIXEL_OPTIONS) | done
    if _CONTENT_SEQUENCE in clean:
        options |= {Option.CLEAN_STRUCTURED_CONTENT}
    if _GRAPHIC_ANNOTATIONS in clean:
        options |= {Option.CLEAN_GRAPHICS}
    codes = [METHOD_CODES[None], *(METHOD_CODES[option] for option in options)]
    method = f"radloop\\PS3.15 {profile.edition} Basic Profile\\" + "\\".join(
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
    put(0x00280303, "CS", _temporal(profile))  # LongitudinalTemporalInformationModified
    if Option.CLEAN_PIXEL_DATA in done:
        put(0x00280301, "CS", "NO")  # BurnedInAnnotation: nobody else's word is taken for it
    if Option.CLEAN_RECOGNIZABLE_VISUAL_FEATURES in done:
        put(0x00280302, "CS", "NO")  # RecognizableVisualFeatures


def _temporal(profile: Profile) -> str:
    if Option.RETAIN_FULL_DATES in profile.options:
        return "UNMODIFIED"
    return "MODIFIED" if Option.RETAIN_MODIFIED_DATES in profile.options else "REMOVED"


def file_meta(clean: Dataset, syntax: str) -> FileMetaDataset:
    """Return new file meta information: nothing of the source's goes in (PS3.10 7.1)."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = UID(text_of(clean, _SOP_CLASS))
    meta.MediaStorageSOPInstanceUID = UID(text_of(clean, _SOP_INSTANCE))
    meta.TransferSyntaxUID = UID(syntax)
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    return meta
