"""How an MR series was acquired, in numbers: what tells T1 from T2 where descriptions do not.

Read from one instance; every attribute is kept by the de-identification profile (PS3.3 C.8.3.1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom.errors import NotDicom
from dicom.part10 import PARSER_ERRORS, quiet_pydicom
from dicom.study import Series

TIMES = ("EchoTime", "RepetitionTime", "InversionTime", "FlipAngle")
"""Milliseconds, but for the angle, which has degrees."""

# PS3.3 C.8.13: where an enhanced image has them, in its functional groups, under other names.
_ENHANCED = {
    "EchoTime": ("MREchoSequence", "EffectiveEchoTime"),
    "RepetitionTime": ("MRTimingAndRelatedParametersSequence", "RepetitionTime"),
    "InversionTime": ("MRModifierSequence", "InversionTimes"),
    "FlipAngle": ("MRTimingAndRelatedParametersSequence", "FlipAngle"),
}


def read_sequence(series: Series) -> Mapping[str, float]:
    """Return those of :data:`TIMES` that a series states.

    Raises
    ------
    NotDicom
        When its first file cannot be read.
    """
    if not series.instances:
        return {}
    try:
        with quiet_pydicom():
            ds = dcmread(series.instances[0].path, stop_before_pixels=True)
            found = {keyword: _number(ds, keyword) for keyword in TIMES}
    except PARSER_ERRORS:
        raise NotDicom("a file of the series is no DICOM file, or damaged") from None
    return {keyword: number for keyword, number in found.items() if number is not None}


def _number(ds: Dataset, keyword: str) -> float | None:
    value = ds.get(keyword)
    if value is None and "SharedFunctionalGroupsSequence" in ds:
        sequence, name = _ENHANCED[keyword]
        shared = ds.SharedFunctionalGroupsSequence[0]
        frames = ds.get("PerFrameFunctionalGroupsSequence") or [Dataset()]
        group = (shared.get(sequence) or frames[0].get(sequence) or [Dataset()])[0]
        value = group.get(name)
    try:
        number = float(value if not isinstance(value, list) else value[0])
    except (TypeError, ValueError, IndexError):
        return None
    return number if math.isfinite(number) else None
