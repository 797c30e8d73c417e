"""What is known of an instance before any of its attributes is decided on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dicom.deid.subject import Subject


@dataclass(frozen=True, slots=True)
class Facts:
    """What all decisions about an instance rest on, and the way back to patient and study.

    Parameters
    ----------
    syntax : str
        Transfer Syntax UID.
    iod : str
        From :func:`dicom.profile.iod_of`.
    subject : Subject
        Whose it is.
    original : Mapping
        See :class:`~dicom.deid.Identity`.
    """

    syntax: str
    iod: str
    subject: Subject
    original: Mapping[str, object]
