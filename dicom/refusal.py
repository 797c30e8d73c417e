"""What de-identification refuses: objects whose content no rule judges.

Documents, video, waveforms and raw data may hold anything (a project may take the first three all
the same); text may be burned into pixels, or an overlay hidden in their unused bits. Such an object
is stopped before any more of it is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.uid import UID

from dicom.elements import Attributes, bytes_of, text_of
from dicom.errors import BurnedInText, CannotDeidentify, NotDicom, UnsupportedTransferSyntax
from dicom.profile import ObjectType, known_sop_classes

# Objects whose content no rule judges, by the beginning of their SOP Class UID.
_UNJUDGED: Final[Mapping[str, tuple[str, ObjectType | None]]] = {
    "1.2.840.10008.5.1.4.1.1.104.": ("an encapsulated document", ObjectType.DOCUMENT),
    "1.2.840.10008.5.1.4.1.1.9.": ("a waveform", ObjectType.WAVEFORM),
    "1.2.840.10008.5.1.4.1.1.66": ("raw data", None),
    "1.2.840.10008.5.1.4.1.1.77.1.1.1": ("a video", ObjectType.VIDEO),
    "1.2.840.10008.5.1.4.1.1.77.1.2.1": ("a video", ObjectType.VIDEO),
    "1.2.840.10008.5.1.4.1.1.77.1.4.1": ("a video", ObjectType.VIDEO),
}
_JUDGED_WITHIN: Final = ("1.2.840.10008.5.1.4.1.1.66.",)  # registration, SEG ... beside raw data
_VIDEO_SYNTAXES: Final = tuple(f"1.2.840.10008.1.2.4.{n}" for n in range(100, 109))
_PIXELS_ELSEWHERE: Final = ("1.2.840.10008.1.2.4.94", "1.2.840.10008.1.2.4.95")  # JPIP
_SOP_CLASS: Final = 0x00080016
_OVERLAY_PLANES: Final = tuple(  # Overlay Bit Position and Overlay Data of each
    (group << 16 | 0x0102, group << 16 | 0x3000) for group in range(0x6000, 0x6100, 2)
)
_NEEDED: Final = (0x00080018, 0x0020000D, 0x0020000E)  # SOP Instance, Study, Series Instance UID


def refuse_what_no_rule_judges(
    ds: Attributes,
    *,
    allowed: frozenset[ObjectType] = frozenset(),
    masked: bool = False,
) -> None:
    """Refuse an object that must not be passed on whatever is done to its header.

    Parameters
    ----------
    ds : Attributes
        The original.
    allowed : frozenset of ObjectType
        Objects that a project takes although nobody looks into them.
    masked : bool
        Whether text in the pixels has been masked, or released by a person who looked at it.

    Raises
    ------
    CannotDeidentify
        For documents, waveforms, video, raw data, objects of no known storage class or without
        their UIDs, burned-in annotation, pixels kept elsewhere or with an overlay in their bits.
    """
    sop_class = text_of(ds, _SOP_CLASS)
    if not sop_class:
        raise CannotDeidentify("the object does not say what it is (no SOP Class UID)")
    if not sop_class.startswith(_JUDGED_WITHIN):
        for beginning, (what, kind) in _UNJUDGED.items():
            if sop_class.startswith(beginning) and kind not in allowed:
                raise CannotDeidentify(f"the object is {what}")
    if sop_class not in known_sop_classes():
        raise CannotDeidentify("the object's SOP class is private, retired or not of a study")
    for tag in _NEEDED:
        if not text_of(ds, tag):
            raise CannotDeidentify("the object lacks an instance, series or study UID")
    if text_of(ds, 0x00280301) == "YES" and not masked:
        raise BurnedInText("text is burned into the pixels (BurnedInAnnotation is YES)")
    if 0x00287FE0 in ds:
        raise CannotDeidentify("the pixels are kept elsewhere (Pixel Data Provider URL)")
    if 0x00420011 in ds and ObjectType.DOCUMENT not in allowed:
        raise CannotDeidentify("the object holds an encapsulated document")
    if 0x54000100 in ds and ObjectType.WAVEFORM not in allowed:
        raise CannotDeidentify("the object holds a waveform")
    _refuse_overlay_in_pixels(ds)


def _refuse_overlay_in_pixels(ds: Attributes) -> None:
    """Refuse a retired overlay in unused bits of the pixels: they are copied untouched."""
    for position, data in _OVERLAY_PLANES:
        if position in ds and data not in ds and not _is_zero(ds.get_item(position)):
            raise CannotDeidentify("an overlay is hidden in the bits of the pixels")


def _is_zero(element: object) -> bool:
    """Return whether a number is absent or 0, in any order of bytes."""
    if not isinstance(element, RawDataElement):
        return isinstance(element, DataElement) and element.value in (None, "", 0)
    return not bytes_of(element).strip(b"\0")


def transfer_syntax_of(syntax: object, *, allowed: frozenset[ObjectType] = frozenset()) -> str:
    """Return the transfer syntax of a readable object.

    Parameters
    ----------
    syntax : object
        As the file meta information has it; None where it has none.
    allowed : frozenset of ObjectType
        As for :func:`refuse_what_no_rule_judges`.

    Raises
    ------
    NotDicom, UnsupportedTransferSyntax, CannotDeidentify
        Without one; with a private one; with one that carries video or no pixels.
    """
    uid = str(syntax or "").strip("\0 ")
    if not uid:
        raise NotDicom("the file does not name its transfer syntax")
    if uid in _VIDEO_SYNTAXES and ObjectType.VIDEO not in allowed:
        raise CannotDeidentify("the object is a video")
    if uid in _PIXELS_ELSEWHERE:
        raise CannotDeidentify("the pixels are kept elsewhere (JPIP)")
    if UID(uid).type != "Transfer Syntax":
        raise UnsupportedTransferSyntax("the transfer syntax is private or newer than this engine")
    return uid
