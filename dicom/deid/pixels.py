"""Passes over the pixels: text that is masked, faces that are taken off.

This package does not look at pixels itself. A pass is handed in as a callable, so that a network
may do the work without being known here; its option's code is declared only on the objects that
went through it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from pydicom import Dataset

from dicom.descriptors import words_of
from dicom.elements import Attributes, text_of
from dicom.profile import Option


@dataclass(frozen=True, slots=True)
class Undeclared:
    """What a pass has painted on, and does not vouch for: its option is not declared."""

    ds: Dataset


PixelPass = Callable[[Dataset], Dataset | Undeclared | None]
"""Takes a whole original with its pixels; gives it back with what it found painted over (itself,
where there was nothing), or None where the pass is not for such an object. Raises an InputError
where the pixels cannot be judged."""

Passes = Mapping[Option, PixelPass]
"""The pass of each option of :data:`dicom.profile.PIXEL_OPTIONS`."""

_PIXEL_TAGS: Final = (0x7FE00008, 0x7FE00009, 0x7FE00010)
_MODALITIES: Final = frozenset({"MR", "CT", "PT", "NM"})
_BODY_PART, _DESCRIPTIONS = 0x00180015, (0x0008103E, 0x00181030, 0x00081030)
_HEAD_PARTS: Final = frozenset(
    {"HEAD", "BRAIN", "SKULL", "FACE", "ORBIT", "EYE", "JAW", "MAXILLA", "MANDIBLE", "NOSE", "EAR"}
    | {"SINUS", "TMJOINT", "IAC", "PITUITARY", "HEADNECK", "WHOLEBODY", "SELLA", "ZYGOMA"}
)
_HEAD_WORDS: Final = frozenset(
    {"head", "brain", "skull", "face", "facial", "cranial", "cerebral", "cerebrum", "neuro"}
    | {"mprage", "orbit", "orbits", "orbita", "sinus", "sinuses", "sella", "pituitary", "iac"}
    | {"hippocampus", "kopf", "schaedel", "hirn", "wholebody", "neck"}
)
_OTHER_PARTS: Final = re.compile(
    r"CHEST|THORAX|LUNG|HEART|CARDIAC|BREAST|ABDOMEN|LIVER|KIDNEY|PANCREAS|PELVIS|PROSTATE|UTERUS|HIP"
    r"|KNEE|ANKLE|FOOT|LEG|FEMUR|TIBIA|FIBULA|ARM|HAND|WRIST|ELBOW|SHOULDER|HUMERUS|SPINE|AORTA|BLADDER"
    r"|COLON|BOWEL|SACRUM|COCCYX|EXTREMITY|FINGER|TOE|CLAVICLE|SCAPULA|STERNUM|RIB|UTERUS|OVARY|PHANTOM"
)


class Heads(Enum):
    """What becomes of volumes of the head, from which a face could be rendered."""

    REFUSE = "refuse"
    DEFACE = "deface"
    KEEP = "keep"


def has_pixels(ds: Dataset) -> bool:
    """Return whether an object has pixel data."""
    return any(tag in ds for tag in _PIXEL_TAGS)


def may_show_a_face(ds: Attributes) -> bool:
    """Return whether slices of this series may add up to a face; in doubt they may.

    CT, MR, PET and NM whose body part or descriptions speak of a head, or of no part of the body at
    all. An object that says that it holds no recognisable features is believed: it was defaced.

    Parameters
    ----------
    ds : Attributes
        The original header.
    """
    if text_of(ds, 0x00080060) not in _MODALITIES or text_of(ds, 0x00280302) == "NO":
        return False
    part = re.sub(r"[^A-Z]", "", text_of(ds, _BODY_PART).upper())
    words: frozenset[str] = frozenset()
    for tag in _DESCRIPTIONS:
        words |= words_of(text_of(ds, tag))
    if part in _HEAD_PARTS or not words.isdisjoint(_HEAD_WORDS):
        return True
    named = part + " " + " ".join(words).upper()
    return _OTHER_PARTS.search(named) is None
