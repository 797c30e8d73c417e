"""SUVbw against the standard's formula, and silence where an input is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from dicom.volume import Volume, read_volume
from tests.enhanced import item, write_enhanced
from tests.series import write_series

SHAPE = (3, 6, 7)
HALF_LIFE_S = 6586.2  # F-18
DOSE_BQ = 370e6
WEIGHT_KG = 80.0
UPTAKE_S = 3600.0
AT_START = WEIGHT_KG * 1000 / (DOSE_BQ * 2 ** (-UPTAKE_S / HALF_LIFE_S))
AT_INJECTION = WEIGHT_KG * 1000 / DOSE_BQ

Edit = Callable[[Dataset], None]


def sound(ds: Dataset) -> None:
    ds.Units, ds.DecayCorrection, ds.CorrectedImage = "BQML", "START", ["DECY", "ATTN"]
    ds.PatientWeight = str(WEIGHT_KG)
    ds.SeriesDate = ds.AcquisitionDate = "20260102"
    ds.SeriesTime, ds.AcquisitionTime = "110000", "110000.000"
    ds.RadiopharmaceuticalInformationSequence = Items(
        [
            item(
                RadionuclideTotalDose=str(DOSE_BQ),
                RadionuclideHalfLife=str(HALF_LIFE_S),
                RadiopharmaceuticalStartTime="100000",
            )
        ]
    )


def read(folder: Path, *edits: Edit) -> Volume:
    def edit(k: int, ds: Dataset) -> None:
        for each in (sound, *edits):
            each(ds)
        if k and ds.get("AcquisitionTime"):  # later beds; the earliest counts
            ds.AcquisitionTime = f"11{3 * k:02d}00.000"

    return read_volume(write_series(folder, modality="PT", shape_kji=SHAPE, edit=edit))


def with_(**attributes: object) -> Edit:
    def edit(ds: Dataset) -> None:
        for keyword, value in attributes.items():
            target = ds if keyword in ds else ds.RadiopharmaceuticalInformationSequence[0]
            if value is None:
                delattr(target, keyword)
            else:
                setattr(target, keyword, value)

    return edit


def dated(ds: Dataset) -> None:
    drug = ds.RadiopharmaceuticalInformationSequence[0]
    del drug.RadiopharmaceuticalStartTime
    drug.RadiopharmaceuticalStartDateTime = "20260102100000"


@pytest.mark.parametrize(
    ("edit", "factor"),
    [
        (with_(), AT_START),
        (dated, AT_START),
        (with_(SeriesTime="150000"), AT_START),  # computed later: the acquisition counts
        (with_(DecayCorrection="ADMIN"), AT_INJECTION),
        (with_(Units="GML"), 1.0),
    ],
    ids=["start", "date and time", "computed later", "at injection", "an SUV already"],
)
def test_the_factor_of_the_standard(tmp_path: Path, edit: Edit, factor: float) -> None:
    volume = read(tmp_path, edit)
    assert volume.suv_factor == pytest.approx(factor, rel=1e-9)
    suv = volume.in_suv()
    assert (suv.unit, suv.voxels_kji.dtype) == ("SUVbw", np.float32)
    np.testing.assert_allclose(suv.voxels_kji, volume.voxels_kji * factor, rtol=1e-6)
    assert suv.in_suv().voxels_kji.max() == suv.voxels_kji.max()


def test_units_are_told_as_they_are(tmp_path: Path) -> None:
    assert read(tmp_path / "a").unit == "BQML"
    assert read(tmp_path / "b", with_(Units="GML")).unit == "SUVbw"
    assert read(tmp_path / "c", with_(Units="CNTS")).unit == "CNTS"


def lean(ds: Dataset) -> None:
    ds.Units, ds.SUVType = "GML", "LBM"


@pytest.mark.parametrize(
    "edit",
    [
        with_(PatientWeight=None),
        with_(PatientWeight="0"),
        with_(Units="CNTS"),
        lean,
        with_(DecayCorrection="NONE"),
        with_(DecayCorrection=None),
        with_(RadionuclideTotalDose=None),
        with_(RadionuclideTotalDose="370"),  # in MBq, which is wrong
        with_(RadionuclideHalfLife=None),
        with_(RadiopharmaceuticalStartTime=None),
        with_(RadiopharmaceuticalStartTime="120000"),  # after the scan
        with_(AcquisitionTime=None),
        with_(AcquisitionTime="late"),
        with_(RadiopharmaceuticalInformationSequence=Items([])),
    ],
    ids=[
        "no weight",
        "weight zero",
        "counts",
        "lean body mass",
        "not corrected",
        "correction not said",
        "no dose",
        "dose in MBq",
        "no half-life",
        "no injection",
        "injected after the scan",
        "no acquisition time",
        "a time that is none",
        "no radiopharmaceutical",
    ],
)
def test_nothing_is_guessed(tmp_path: Path, edit: Edit) -> None:
    volume = read(tmp_path, edit)
    assert volume.suv_factor is None
    assert volume.unit != "SUVbw"
    with pytest.raises(ValueError, match="SUVbw"):
        volume.in_suv()


def test_ct_has_no_uptake(tmp_path: Path) -> None:
    def as_pet(k: int, ds: Dataset) -> None:
        sound(ds)

    assert read_volume(write_series(tmp_path, shape_kji=SHAPE, edit=as_pet)).suv_factor is None


def test_enhanced_pet_names_the_time_that_it_is_corrected_to(tmp_path: Path) -> None:
    def enhanced(ds: Dataset) -> None:
        sound(ds)
        dated(ds)
        for keyword in ("Units", "DecayCorrection", "SeriesTime", "AcquisitionTime"):
            delattr(ds, keyword)
        ds.DecayCorrected, ds.DecayCorrectionDateTime = "YES", "20260102110000"
        unit = item(CodeValue="Bq/ml", CodingSchemeDesignator="UCUM", CodeMeaning="Bq/ml")
        ds.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence = Items(
            [item(MeasurementUnitsCodeSequence=Items([unit]))]
        )

    volume = read_volume(write_enhanced(tmp_path, modality="PT", shape_kji=SHAPE, edit=enhanced))
    assert volume.unit == "BQML"
    assert volume.suv_factor == pytest.approx(AT_START, rel=1e-9)
