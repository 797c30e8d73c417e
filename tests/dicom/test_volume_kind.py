"""What only looks like slices of a patient is told from them."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from dicom import errors
from dicom.volume import describe_series, read_grid, read_volume
from dicom.volume.report import report_series
from tests.enhanced import write_enhanced
from tests.series import write_series

SECONDARY = "1.2.840.10008.5.1.4.1.1.7"


def unplaced(ds: Dataset) -> None:
    del ds.ImagePositionPatient, ds.ImageOrientationPatient


CASES: dict[str, tuple[dict[str, object], str, type[errors.RadloopError] | None]] = {
    "original": ({"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"]}, "slices", None),
    "derived, but slices": ({"ImageType": ["DERIVED", "PRIMARY", "AXIAL"]}, "slices", None),
    "flat reformat": ({"ImageType": ["DERIVED", "SECONDARY", "MPR"]}, "reformat", None),
    "topogram": (
        {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]},
        "localiser",
        errors.Localiser,
    ),
    "named localiser": ({"SeriesDescription": "3-plane Localizer"}, "localiser", errors.Localiser),
    "projection": (
        {"ImageType": ["DERIVED", "SECONDARY", "MIP"]},
        "projection",
        errors.DerivedImages,
    ),
    "rendering": (
        {"ImageType": ["DERIVED", "SECONDARY", "VRT"]},
        "rendering",
        errors.DerivedImages,
    ),
    "curved reformat": (
        {"ImageType": ["DERIVED", "SECONDARY", "CPR"]},
        "rendering",
        errors.DerivedImages,
    ),
    "mosaic": (
        {"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]},
        "mosaic",
        errors.Mosaic,
    ),
    "screen save": (
        {"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]},
        "screen capture",
        errors.NoGeometry,
    ),
    "protocol page": (
        {"ImageType": ["DERIVED", "SECONDARY", "OTHER", "CT_SOM5 PROT"]},
        "dose report",
        errors.NoGeometry,
    ),
}


@pytest.mark.parametrize(("attributes", "kind", "error"), CASES.values(), ids=CASES.keys())
def test_a_series_is_told_by_its_image_type(
    tmp_path: Path,
    attributes: dict[str, object],
    kind: str,
    error: type[errors.RadloopError] | None,
) -> None:
    def edit(k: int, ds: Dataset) -> None:
        for keyword, value in attributes.items():
            setattr(ds, keyword, value)

    series = write_series(tmp_path, shape_kji=(3, 5, 6), edit=edit)
    assert describe_series(series).kind == kind
    if error is None:
        assert read_volume(series).shape_kji == (3, 5, 6)
        return
    for read in (read_volume, read_grid):
        with pytest.raises(error):
            read(series)


def test_captures_of_ct_and_dose_reports_have_no_place(tmp_path: Path) -> None:
    def capture(k: int, ds: Dataset) -> None:
        ds.SOPClassUID = SECONDARY
        unplaced(ds)

    def dose(k: int, ds: Dataset) -> None:
        ds.SeriesDescription = "Dose Report"
        capture(k, ds)

    for name, edit, kind in (("a", capture, "screen capture"), ("b", dose, "dose report")):
        series = write_series(tmp_path / name, shape_kji=(2, 5, 6), edit=edit)
        report = report_series(series)
        assert (report.kind, len(report.pictures), report.error) == (kind, 2, None)
        with pytest.raises(errors.NoGeometry, match=kind):
            read_volume(series)


@pytest.mark.parametrize(
    ("technique", "kind", "error"),
    [
        ("NONE", "slices", None),
        ("MPR", "reformat", None),
        ("MAX_IP", "projection", errors.DerivedImages),
        ("VOLUME_RENDER", "rendering", errors.DerivedImages),
    ],
)
def test_enhanced_images_say_how_they_were_computed(
    tmp_path: Path, technique: str, kind: str, error: type[errors.RadloopError] | None
) -> None:
    def edit(ds: Dataset) -> None:
        ds.VolumeBasedCalculationTechnique = technique

    series = write_enhanced(tmp_path, shape_kji=(3, 5, 6), edit=edit)
    assert describe_series(series).kind == kind
    if error is None:
        assert read_volume(series).shape_kji == (3, 5, 6)
    else:
        with pytest.raises(error):
            read_volume(series)
