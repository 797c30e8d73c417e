"""The options of PS3.15 E.3, their codes, and which of them exclude each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

from dicom.errors import ConflictingOptions


class Option(Enum):
    """The options of PS3.15 E.3; those with a column in the table are called by it."""

    RETAIN_SAFE_PRIVATE = "retain_safe_private"
    RETAIN_UIDS = "retain_uids"
    RETAIN_DEVICE_IDENTITY = "retain_device_identity"
    RETAIN_INSTITUTION_IDENTITY = "retain_institution_identity"
    RETAIN_PATIENT_CHARACTERISTICS = "retain_patient_characteristics"
    RETAIN_FULL_DATES = "retain_full_dates"
    RETAIN_MODIFIED_DATES = "retain_modified_dates"
    CLEAN_DESCRIPTORS = "clean_descriptors"
    CLEAN_STRUCTURED_CONTENT = "clean_structured_content"
    CLEAN_GRAPHICS = "clean_graphics"
    CLEAN_PIXEL_DATA = "clean_pixel_data"
    CLEAN_RECOGNIZABLE_VISUAL_FEATURES = "clean_recognizable_visual_features"


class ObjectType(Enum):
    """Objects whose content no rule judges: refused unless a project allows them."""

    DOCUMENT = "document"
    VIDEO = "video"
    WAVEFORM = "waveform"


NODE_OPTIONS: Final = frozenset({Option.RETAIN_MODIFIED_DATES, Option.CLEAN_DESCRIPTORS})
"""Of the node itself: what a route can match on has to stay."""

PIXEL_OPTIONS: Final = frozenset(
    {Option.CLEAN_PIXEL_DATA, Option.CLEAN_RECOGNIZABLE_VISUAL_FEATURES}
)
"""Passes over the pixels: their codes are set on the objects that went through them, no others."""

# PS3.16 CID 7050 De-identification Method: the code that each option is declared by.
METHOD_CODES: Final[Mapping[Option | None, tuple[str, str]]] = MappingProxyType(
    {
        None: ("113100", "Basic Application Confidentiality Profile"),
        Option.CLEAN_PIXEL_DATA: ("113101", "Clean Pixel Data Option"),
        Option.CLEAN_RECOGNIZABLE_VISUAL_FEATURES: (
            "113102",
            "Clean Recognizable Visual Features Option",
        ),
        Option.CLEAN_GRAPHICS: ("113103", "Clean Graphics Option"),
        Option.CLEAN_STRUCTURED_CONTENT: ("113104", "Clean Structured Content Option"),
        Option.CLEAN_DESCRIPTORS: ("113105", "Clean Descriptors Option"),
        Option.RETAIN_FULL_DATES: (
            "113106",
            "Retain Longitudinal Temporal Information Full Dates Option",
        ),
        Option.RETAIN_MODIFIED_DATES: (
            "113107",
            "Retain Longitudinal Temporal Information Modified Dates Option",
        ),
        Option.RETAIN_PATIENT_CHARACTERISTICS: ("113108", "Retain Patient Characteristics Option"),
        Option.RETAIN_DEVICE_IDENTITY: ("113109", "Retain Device Identity Option"),
        Option.RETAIN_UIDS: ("113110", "Retain UIDs Option"),
        Option.RETAIN_SAFE_PRIVATE: ("113111", "Retain Safe Private Option"),
        Option.RETAIN_INSTITUTION_IDENTITY: ("113112", "Retain Institution Identity Option"),
    }
)

# What cannot be promised at once: the first of each pair would undo the second.
_EXCLUSIVE: Final = (
    (
        Option.RETAIN_FULL_DATES,
        Option.RETAIN_MODIFIED_DATES,
        "dates either stay or are moved",  # PS3.15 E.3.6
    ),
    (
        Option.RETAIN_UIDS,
        Option.RETAIN_MODIFIED_DATES,
        "an original UID often holds the date that is to be moved, and leads back to it",
    ),
)


def check_options(options: Iterable[Option]) -> None:
    """Refuse options that exclude each other.

    Raises
    ------
    ConflictingOptions
        Naming both, and why.
    """
    chosen = frozenset(options)
    for one, other, why in _EXCLUSIVE:
        if {one, other} <= chosen:
            raise ConflictingOptions(f"{one.value} and {other.value}: {why}")
