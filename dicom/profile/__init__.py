"""The confidentiality profile as data: what shall happen to an attribute, and why (PS3.15 Annex E).

==============  =================================================================================
`options`       the options of PS3.15 E.3, their codes, which of them exclude each other
`table`         Table E.1-1, the safe private attributes, and what may stay besides
`iods`          which attributes an IOD has and requires (PS3.3)
`verdict`       what can happen to an attribute
`listing`       a profile attribute by attribute, for people
`profile`       :class:`Profile`: table, options, IOD and VR made into a verdict
==============  =================================================================================

It touches no data set; :mod:`dicom.deid` carries the verdicts out.
"""

from dicom.profile.iods import iod_of, known_iods, known_sop_classes
from dicom.profile.listing import Line, lines_of
from dicom.profile.options import (
    METHOD_CODES,
    NODE_OPTIONS,
    PIXEL_OPTIONS,
    ObjectType,
    Option,
    check_options,
)
from dicom.profile.profile import STRING_VRS, Profile, node_profile
from dicom.profile.table import (
    Rule,
    identity_tags,
    is_coded_term,
    is_public_scheme,
    is_safe_creator,
    safe_private,
    table_rules,
)
from dicom.profile.verdict import Action, Verdict

__all__ = [
    "METHOD_CODES",
    "NODE_OPTIONS",
    "PIXEL_OPTIONS",
    "STRING_VRS",
    "Action",
    "Line",
    "ObjectType",
    "Option",
    "Profile",
    "Rule",
    "Verdict",
    "check_options",
    "identity_tags",
    "iod_of",
    "is_coded_term",
    "is_public_scheme",
    "is_safe_creator",
    "known_iods",
    "known_sop_classes",
    "lines_of",
    "node_profile",
    "safe_private",
    "table_rules",
]
