"""Reports: valid, repeatable, and saying exactly what was measured of which segment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from dicom.codes import ARTIFICIAL_INTELLIGENCE, STRUCTURES, Code
from dicom.errors import InvalidReport
from dicom.measure import measure
from dicom.phantom import WrittenHead, write_head_study
from dicom.seg import Algorithm, Masks
from dicom.sr import (
    FindingFigures,
    ReportUids,
    SegmentFigures,
    check_report,
    decode_report,
    encode_report,
)
from dicom.uids import derived_uid
from dicom.volume import Volume, read_volume
from tests.segmentations import NOON, bytes_of, encoded, problems, segments_of, uids_of

ALGORITHM = Algorithm("organs", "1.2.0", "radloop", ARTIFICIAL_INTELLIGENCE)
UIDS = ReportUids(derived_uid("report", "series"), derived_uid("report", "sop"), "2.25.77")
NAMES = ("brain", "kidney_left", "liver")


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> WrittenHead:
    folder = tmp_path_factory.mktemp("head")
    return write_head_study(folder, slices=12, size=48, plane="axial")


@pytest.fixture(scope="module")
def volume(head: WrittenHead) -> Volume:
    return read_volume(head.series)


@pytest.fixture(scope="module")
def seg(volume: Volume) -> Dataset:
    labels_kji = np.zeros(volume.shape_kji, np.uint8)
    labels_kji[3:8, 10:30, 12:20] = 1
    labels_kji[4:6, 32:40, 5:9] = 2
    return encoded(labels_kji, volume, segments_of(*NAMES), uids=uids_of(len(NAMES)))


@pytest.fixture(scope="module")
def groups(volume: Volume, seg: Dataset) -> tuple[SegmentFigures, ...]:
    masks = [np.zeros(volume.shape_kji, bool) for _ in NAMES]
    masks[0][3:8, 10:30, 12:20] = True
    masks[1][4:6, 32:40, 5:9] = True
    return tuple(
        SegmentFigures(segment, measured, item.TrackingUID)
        for segment, measured, item in zip(
            segments_of(*NAMES), measure(Masks.of(masks), volume), seg.SegmentSequence, strict=True
        )
    )


def report_of(groups: tuple, volume: Volume, seg: Dataset | None, **changed: object) -> Dataset:
    arguments = {
        "segmentation": seg,
        "algorithm": ALGORITHM,
        "uids": UIDS,
        "series_number": 9101,
        "series_description": "AI: organs 1.2.0, measurements",
        "created": NOON,
    }
    return encode_report(groups, volume, **{**arguments, **changed})


def test_every_figure_refers_to_its_segment_and_reads_as_it_was_measured(
    groups: tuple[SegmentFigures, ...], volume: Volume, seg: Dataset
) -> None:
    report = report_of(groups, volume, seg)
    check_report(report, groups)
    read = decode_report(report)
    assert [group.segment_number for group in read] == [1, 2, 3]
    assert [group.tracking_uid for group in read] == [i.TrackingUID for i in seg.SegmentSequence]
    assert [group.tracking_id for group in read] == ["brain", "kidney left", "liver"]
    assert {group.segmentation_uid for group in read} == {seg.SOPInstanceUID}
    brain = {(f.concept, f.derivation): (f.value, f.unit) for f in read[0].figures}
    assert brain["118565006", ""] == (pytest.approx(groups[0].measured.volume_ml, rel=1e-6), "mL")
    assert brain["103339001", ""][1] == "mm"
    assert brain["110852", "373098007"] == (pytest.approx(groups[0].measured.mean, rel=1e-6), "1")
    assert {f.value for f in read[2].figures} == {0.0}  # looked for, not found


def test_codes_sides_and_the_algorithm_stand_in_each_group(
    groups: tuple[SegmentFigures, ...], volume: Volume, seg: Dataset
) -> None:
    text = str(report_of(groups, volume, seg))
    for wanted in ("Kidney", "Left", "organs", "1.2.0", "Artificial Intelligence"):
        assert wanted in text
    kidney = decode_report(report_of(groups, volume, seg))[1]
    assert kidney.finding.value == STRUCTURES["kidney_left"].type.value


def test_the_object_is_valid(
    groups: tuple[SegmentFigures, ...], volume: Volume, seg: Dataset, tmp_path: Path
) -> None:
    report_of(groups, volume, seg).save_as(tmp_path / "sr.dcm", enforce_file_format=True)
    assert problems("dciodvfy", tmp_path / "sr.dcm") == []
    again = dcmread(tmp_path / "sr.dcm")
    check_report(again, groups)
    assert again.SeriesDescription == "AI: organs 1.2.0, measurements"
    evidence = again.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert evidence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == seg.SOPInstanceUID


def test_the_same_figures_make_the_same_bytes(
    groups: tuple[SegmentFigures, ...], volume: Volume, seg: Dataset
) -> None:
    first, second = (bytes_of(report_of(groups, volume, seg)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("unit", ["HU", "SUVbw", "BQML", "", "CNTS"])
def test_values_are_in_the_unit_of_the_image(
    groups: tuple[SegmentFigures, ...], volume: Volume, seg: Dataset, unit: str
) -> None:
    some = (replace(groups[0], measured=replace(groups[0].measured, unit=unit)),)
    (group,) = decode_report(report_of(some, volume, seg))
    wanted = {"HU": "[hnsf'U]", "SUVbw": "{SUVbw}g/ml", "BQML": "Bq/ml"}.get(unit, "1")
    assert {f.unit for f in group.figures if f.derivation == "373098007"} == {wanted}


def test_a_report_that_says_something_else_is_seen(
    groups: tuple[SegmentFigures, ...], volume: Volume, seg: Dataset
) -> None:
    report = report_of(groups, volume, seg)
    first, second, third = groups
    bigger = replace(first.measured, volume_ml=(first.measured.volume_ml or 0) * 1.001)
    for wrong in (
        (second, first, third),
        (first, second),
        (replace(first, measured=bigger), second, third),
        (replace(first, tracking_uid="2.25.5"), second, third),
        (replace(first, segment=replace(first.segment, type=second.segment.type)), second, third),
        (replace(first, segment=replace(first.segment, number=2)), second, third),
    ):
        with pytest.raises(InvalidReport):
            check_report(report, wrong)


def test_segments_without_their_segmentation_are_refused(
    groups: tuple[SegmentFigures, ...], volume: Volume, seg: Dataset
) -> None:
    with pytest.raises(InvalidReport):
        report_of(groups, volume, None)
    foreign = replace(groups[0], segment=replace(groups[0].segment, number=9))
    with pytest.raises(InvalidReport):
        report_of((foreign,), volume, seg)
    with pytest.raises(InvalidReport):
        report_of((), volume, seg)


def test_what_is_no_report_of_measurements_is_refused(seg: Dataset) -> None:
    for wrong in (seg, Dataset()):
        with pytest.raises(InvalidReport):
            decode_report(wrong)


# --- findings without voxels ----------------------------------------------------------------------

CONTRAST = Code("385420005", "SCT", "Contrast agent")
NODULE = Code("27925004", "SCT", "Nodule")
LUNG = Code("39607008", "SCT", "Lung")


def test_findings_of_a_series_and_in_boxes_are_reported(volume: Volume, tmp_path: Path) -> None:
    groups = (
        FindingFigures(
            "contrast agent", Code("385420005", "SCT", "Contrast"), None, 0.93, "2.25.1"
        ),
        FindingFigures(
            "nodule", NODULE, LUNG, 0.71, "2.25.2", ((-10.0, 20.0, 30.0), (0.0, 25.0, 42.5))
        ),
    )
    report = report_of(groups, volume, None)
    check_report(report, groups)
    report.save_as(tmp_path / "sr.dcm", enforce_file_format=True)
    assert problems("dciodvfy", tmp_path / "sr.dcm") == []
    series, box = decode_report(report)
    assert series.figures[0].value == pytest.approx(0.93)
    assert series.segment_number is None
    assert box.finding == NODULE
    points = [
        np.reshape(item.GraphicData, (-1, 3))
        for item in report.iterall()
        if isinstance(item, Dataset) and "GraphicData" in item
    ] or [
        np.reshape(element.value, (-1, 3))
        for element in report.iterall()
        if element.keyword == "GraphicData"
    ]
    corners = np.concatenate(points)
    np.testing.assert_allclose(corners.min(axis=0), (-10, 20, 30))
    np.testing.assert_allclose(corners.max(axis=0), (0, 25, 42.5))
    assert len(points) == 6
    for face in points:  # flat, and closed
        assert (face[0] == face[-1]).all()
        assert np.ptp(face, axis=0).min() == 0
