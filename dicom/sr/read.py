"""A TID 1500 report of this or another program to its measurement groups."""

from __future__ import annotations

from typing import Final

from pydicom import Dataset

from dicom.codes import Code
from dicom.errors import InvalidReport
from dicom.sr.values import Figure, ReadGroup

_OF_THE_TEMPLATE: Final = frozenset(
    {
        ("121071", "DCM"),  # finding
        ("276214006", "SCT"),  # its category
        ("363698007", "SCT"),  # its site
        ("370129005", "SCT"),  # measurement method
        ("111000", "DCM"),  # algorithm family
    }
)
"""Codes of a group that are no evaluation."""


def decode_report(report: Dataset) -> tuple[ReadGroup, ...]:
    """Return a report's measurement groups, from this or another program.

    Raises
    ------
    InvalidReport
        When it is no TID 1500 report, or a group lacks what the template requires.
    """
    try:
        containers = [
            group
            for item in report.ContentSequence
            if _concept(item) == ("126010", "DCM")
            for group in item.ContentSequence
            if _concept(group) == ("125007", "DCM")
        ]
        return tuple(_read_group(group) for group in containers)
    except (AttributeError, IndexError, KeyError, ValueError, TypeError) as error:
        raise InvalidReport("the report does not follow TID 1500") from error


def _concept(item: Dataset) -> tuple[str, str]:
    name = item.ConceptNameCodeSequence[0]
    return str(name.CodeValue), str(name.CodingSchemeDesignator)


def _read_group(group: Dataset) -> ReadGroup:
    children = {_concept(item): item for item in reversed(group.ContentSequence)}
    segment = next(
        (
            item.ReferencedSOPSequence[0]
            for item in group.ContentSequence
            if _concept(item) == ("121191", "DCM")
        ),
        None,
    )
    number = None if segment is None else segment.ReferencedSegmentNumber
    if number is not None and not isinstance(number, int):
        number = number[0]
    return ReadGroup(
        tracking_id=str(children["112039", "DCM"].TextValue),
        tracking_uid=str(children["112040", "DCM"].UID),
        finding=Code.from_dataset(children["121071", "DCM"].ConceptCodeSequence[0]),
        segmentation_uid="" if segment is None else str(segment.ReferencedSOPInstanceUID),
        segment_number=None if number is None else int(number),
        figures=tuple(_read_figure(i) for i in group.ContentSequence if i.ValueType == "NUM"),
        evaluations=tuple(
            (
                Code.from_dataset(item.ConceptNameCodeSequence[0]),
                Code.from_dataset(item.ConceptCodeSequence[0]),
            )
            for item in group.ContentSequence
            if item.ValueType == "CODE" and _concept(item) not in _OF_THE_TEMPLATE
        ),
    )


def _read_figure(item: Dataset) -> Figure:
    value = item.MeasuredValueSequence[0]
    derivation = next(
        (
            str(child.ConceptCodeSequence[0].CodeValue)
            for child in item.get("ContentSequence", [])
            if _concept(child) == ("121401", "DCM")
        ),
        "",
    )
    return Figure(
        concept=_concept(item)[0],
        derivation=derivation,
        value=float(value.NumericValue),
        unit=str(value.MeasurementUnitsCodeSequence[0].CodeValue),
    )
