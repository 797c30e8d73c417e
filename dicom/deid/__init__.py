"""De-identification by PS3.15 Annex E; fails closed.

===============  ================================================================================
`decision`       what becomes of one attribute: a function of rules, place and bytes
`facts`          what is known of an instance before any attribute is decided on
`subject`        what is known of whose instance it is: shift, words of the identity, originals
`identity`       what was taken away: the way back
`original`       the part of it that says who the patient was
`declaration`    what the result says of itself
`pixels`         passes over the pixels, and which series may show a face
`engine`         one instance, by pydicom: the careful engine
`files`          files and folders
===============  ================================================================================

What cannot be judged stops the instance with :class:`~dicom.errors.CannotDeidentify`, and nothing
of it is written.
"""

from dicom.deid.decision import Decision, Fate, Place, Rules, carry_out, decide
from dicom.deid.declaration import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom.deid.engine import Deidentifier
from dicom.deid.facts import Facts
from dicom.deid.files import Clean, Cleaned, Engine, EngineName, Quarantined
from dicom.deid.identity import Identity
from dicom.deid.pixels import Heads, Passes, PixelPass, Undeclared
from dicom.deid.subject import Subject

__all__ = [
    "IMPLEMENTATION_CLASS_UID",
    "IMPLEMENTATION_VERSION_NAME",
    "Clean",
    "Cleaned",
    "Decision",
    "Deidentifier",
    "Engine",
    "EngineName",
    "Facts",
    "Fate",
    "Heads",
    "Identity",
    "Passes",
    "PixelPass",
    "Place",
    "Quarantined",
    "Rules",
    "Subject",
    "Undeclared",
    "carry_out",
    "decide",
]
