"""Standardised uptake values from the standard's attributes (PS3.3 C.8.9.1.1.3, C.8.9.2).

SUVbw is activity concentration times body weight over the injected dose, decayed to the time that
the images are corrected to. Vendors' private scales are not used.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import replace

from dicom.header import Header
from dicom.volume.planes import Plane

_LONGEST_UPTAKE = dt.timedelta(hours=24)
"""Longer between injection and scan: a date is wrong, or was shifted apart from the other."""


def suv_factor(planes: Sequence[Plane]) -> float | None:
    """Return what the rescaled values of a PET series are multiplied with to give SUVbw in g/ml.

    Parameters
    ----------
    planes : sequence of Plane
        Of one series; the earliest acquisition among them counts.

    Returns
    -------
    float or None
        None where an attribute is missing, contradicts another, or Units is not BQML (activity
        concentration) or GML (already an SUV): nothing is guessed.
    """
    if not planes:
        return None
    first = planes[0]
    units = unit_of_pet(first)
    if units == "GML":  # PS3.3 C.8.9.1.1.3: SUVType tells which, BW where it is absent
        return 1.0 if first.text("SUVType") in (None, "BW") else None
    weight_kg = first.number("PatientWeight")
    if units != "BQML" or weight_kg is None or not 0.2 < weight_kg < 700:
        return None
    dose_bq = _dose_at_reference(planes)
    return None if dose_bq is None else weight_kg * 1000.0 / dose_bq


def unit_of_pet(plane: Plane) -> str:
    """Return PET's Units; of an enhanced image the code of its real world values, in their words.

    Empty where none is said.
    """
    units = plane.text("Units")
    if units is None and plane.enhanced:
        group = plane.where("MeasurementUnitsCodeSequence")
        for item in group.items("MeasurementUnitsCodeSequence"):
            units = replace(group, ds=item).text("CodeValue")
    return {"Bq/ml": "BQML", "g/ml{SUVbw}": "GML"}.get(units or "", units or "")


def _dose_at_reference(planes: Sequence[Plane]) -> float | None:
    """Return the injected dose in Bq, decayed to the time that the values are corrected to."""
    first = planes[0]
    radiopharmaceutical = _radiopharmaceutical(first.header)
    if radiopharmaceutical is None:
        return None
    dose_bq = radiopharmaceutical.number("RadionuclideTotalDose")
    half_life_s = radiopharmaceutical.number("RadionuclideHalfLife")
    if dose_bq is None or not 1e3 < dose_bq < 1e12:  # in MBq, as some write it, it is no dose
        return None
    correction = first.text("DecayCorrection")
    if correction == "ADMIN":
        return dose_bq
    corrected = correction == "START" or first.text("DecayCorrected") == "YES"  # enhanced PET
    if not corrected or half_life_s is None or not half_life_s > 0:
        return None
    injected, scanned = _injection(radiopharmaceutical, first), _reference(planes)
    if injected is None or scanned is None:
        return None
    uptake = scanned - injected
    if not dt.timedelta(0) <= uptake <= _LONGEST_UPTAKE:
        return None
    decayed = dose_bq * math.exp2(-uptake.total_seconds() / half_life_s)
    return decayed if decayed > 0 else None


def _radiopharmaceutical(header: Header) -> Header | None:
    items = header.items("RadiopharmaceuticalInformationSequence")
    return replace(header, ds=items[0]) if len(items) == 1 else None


def _injection(radiopharmaceutical: Header, plane: Plane) -> dt.datetime | None:
    moment = _moment(radiopharmaceutical.text("RadiopharmaceuticalStartDateTime"))
    if moment is not None:
        return moment
    date = plane.text("SeriesDate") or plane.text("AcquisitionDate")
    return _joined(date, radiopharmaceutical.text("RadiopharmaceuticalStartTime"))


def _reference(planes: Sequence[Plane]) -> dt.datetime | None:
    """Return the start that values are corrected to: the series', unless it began before that.

    Enhanced PET names it.

    PS3.3 C.8.9.1.1.3 says acquisition of the series. SeriesTime is that, or, in a series that was
    computed later, the time of the computing; the earliest AcquisitionTime is then the start.
    """
    named = _moment(planes[0].text("DecayCorrectionDateTime"))
    if named is not None:
        return named
    started = _joined(planes[0].text("SeriesDate"), planes[0].text("SeriesTime"))
    acquired = [
        _joined(plane.text("AcquisitionDate"), plane.text("AcquisitionTime")) for plane in planes
    ]
    known = [moment for moment in acquired if moment is not None]
    if len(known) < len(planes):
        return None
    earliest = min(known)
    return started if started is not None and started <= earliest else earliest


def _joined(date: str | None, time: str | None) -> dt.datetime | None:
    return _moment(date + time) if date and time and len(date) == 8 else None


def _moment(text: str | None) -> dt.datetime | None:
    """Return a DT, or a DA and TM written together, without its offset from UTC (PS3.5 6.2)."""
    if not text:
        return None
    digits, _, fraction = text.partition("&")[0].partition("+")[0].partition(".")
    try:
        whole = dt.datetime.strptime(digits, "%Y%m%d%H%M%S")  # noqa: DTZ007 - one clock, the scanner's
    except ValueError:
        return None
    microseconds = int(fraction[:6].ljust(6, "0")) if fraction[:6].isdigit() else 0
    return whole.replace(microsecond=microseconds)
