"""What was measured or found, as coded numbers: concept, derivation, value and unit."""

from __future__ import annotations

from typing import Final

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as PydicomCode

from dicom.codes import Code
from dicom.sr.values import FindingFigures, SegmentFigures

_ML: Final = PydicomCode("mL", "UCUM", "milliliter")
_RATIO: Final = PydicomCode("{ratio}", "UCUM", "ratio")
_PROBABILITY: Final = PydicomCode("probability", "99RADLOOP", "Probability given by the model")
_COUNT: Final = PydicomCode("count", "99RADLOOP", "Number of them that were found")
_SCORE: Final = PydicomCode("score", "99RADLOOP", "Score given by the model")
# What the values are, and their unit, by the unit of the volume.
_QUANTITY: Final = {
    "HU": (codes.DCM.AttenuationCoefficient, codes.UCUM.HounsfieldUnit),
    "SUVbw": (
        codes.DCM.StandardizedUptakeValue,
        PydicomCode("{SUVbw}g/ml", "UCUM", "Standardized Uptake Value body weight"),
    ),
    "BQML": (
        PydicomCode("110821", "DCM", "Nuclear Medicine Tomographic Activity"),
        codes.UCUM.BecquerelsPerMilliliter,
    ),
}
_SIGNAL: Final = (codes.DCM.MRSignalIntensity, codes.UCUM.NoUnits)
_PIXEL: Final = (PydicomCode("pixel_value", "99RADLOOP", "Value of the pixels"), codes.UCUM.NoUnits)
_SIGNIFICANT: Final = 7  # digits; what a DS of 16 characters holds in any case


def figures_of(
    each: SegmentFigures | FindingFigures,
) -> list[tuple[PydicomCode, PydicomCode | None, float, PydicomCode]]:
    """Return (concept, derivation, value, unit) of what is known."""
    if isinstance(each, FindingFigures):
        if each.is_absent:
            return [(_COUNT, None, 0.0, codes.UCUM.NoUnits)]
        concept = _SCORE if each.is_boxed else _PROBABILITY
        return [(concept, None, _rounded(each.probability), _RATIO)]
    measured = each.measured
    quantity, unit = _QUANTITY.get(measured.unit, _SIGNAL if not measured.unit else _PIXEL)
    mm = codes.UCUM.Millimeter
    rows: list[tuple[PydicomCode, PydicomCode | None, float | None, PydicomCode]] = [
        (codes.SCT.Volume, None, measured.volume_ml, _ML),
        (codes.SCT.Area, None, measured.area_mm2, codes.UCUM.SquareMillimeter),
        (codes.SCT.LongAxis, None, measured.axial_diameter_mm, mm),
        (codes.SCT.Diameter, codes.SCT.Maximum, measured.diameter_mm, mm),
        (quantity, codes.SCT.Mean, measured.mean, unit),
        (quantity, codes.SCT.StandardDeviation, measured.sd, unit),
        (quantity, codes.SCT.Minimum, measured.minimum, unit),
        (quantity, codes.SCT.Maximum, measured.maximum, unit),
    ]
    return [
        (concept, derivation, _rounded(value), unit)
        for concept, derivation, value, unit in rows
        if value is not None
    ]


def _rounded(value: float) -> float:
    return float(f"{value:.{_SIGNIFICANT}g}")


def pydicom_code(code: Code) -> PydicomCode:
    """Return a code as pydicom and highdicom have it."""
    return PydicomCode(code.value, code.scheme, code.meaning)
