"""What is known of an instance before any of its attributes is decided on."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom import Dataset

from dicom.deid.decision import Rules
from dicom.deid.subject import Subject, original_attributes
from dicom.elements import text_of
from dicom.profile import iod_of
from dicom.refusal import refuse_what_no_rule_judges, transfer_syntax_of

_SOP_CLASS = 0x00080016


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
    original : dict
        See :class:`~dicom.deid.Identity`.
    """

    syntax: str
    iod: str
    subject: Subject
    original: dict[str, object]

    @classmethod
    def of(cls, ds: Dataset, rules: Rules) -> Facts:
        """Return what is known of an instance, or refuse it.

        Raises
        ------
        CannotDeidentify, NotDicom, UnsupportedTransferSyntax
            See :meth:`dicom.deid.Deidentifier.deidentify`.
        """
        syntax = transfer_syntax_of(ds)
        refuse_what_no_rule_judges(ds)
        subject = Subject.of(ds, rules.key)
        return cls(syntax, iod_of(text_of(ds, _SOP_CLASS)), subject, original_attributes(ds))
