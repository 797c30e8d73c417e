"""A model in three lines, from a plain script without any server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Image
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom.errors import InvalidRequest, MissingInput, NotDicom, UnsuitableSeries
from dicom.folder import read_folder
from dicom.seg import decode_seg
from dicom.volume import read_grid, read_volume
from models import load
from models.model import Model, Result
from models.prediction import Image
from models.sources import Unfit
from tests.bundles import (
    BRAIN,
    CLEAR,
    LESION,
    NODULE,
    inference,
    metadata,
    steps,
    write_bundle,
    write_scripted_bundle,
    write_threshold_bundle,
)
from tests.networks import Above, Channel, Means
from tests.series import write_series

ROOT = Path(__file__).parents[2]


@pytest.fixture
def model(tmp_path: Path) -> Model:
    root = write_threshold_bundle(tmp_path, "head")
    path = root / "configs/metadata.json"
    document = json.loads(path.read_text())
    document["radloop"]["suits"] = {"modalities": ["MR"], "min_slices": 4}
    path.write_text(json.dumps(document))
    return load("head", folders=[tmp_path], device="cpu", threads=1)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A folder of three series: too few slices, CT, and a head that fits."""
    folder = tmp_path / "study"
    write_series(folder / "1", modality="MR", shape_kji=(3, 9, 9), name="1")
    write_series(folder / "2", modality="CT", name="2")
    write_series(folder / "3", modality="MR", shape_kji=(7, 12, 10), name="3")
    return folder


def test_the_series_that_fits_is_found_and_a_segmentation_written(
    model: Model, study: Path, tmp_path: Path
) -> None:
    result = model.predict(study, save_path=tmp_path / "out")
    (third,) = [s for f in read_folder(study / "3").studies for s in f.series]
    volume = read_volume(third)
    np.testing.assert_array_equal(result.labels_kji, volume.voxels_kji > 100)
    np.testing.assert_array_equal(result.affine_lps, volume.affine_lps)
    assert [path.suffix for path in result.files] == [".dcm", ".gz"]
    decoded = decode_seg(dcmread(result.files[0]), read_grid(third))
    np.testing.assert_array_equal(decoded.labels(), result.labels_kji)
    expected = (result.labels_kji == 1).sum() * np.prod(volume.spacing_kji) / 1000
    assert result.millilitres == {"Brain": pytest.approx(expected, abs=1e-3)}
    assert repr(result) == f"<Result {result.name}: Brain {result.millilitres['Brain']:g} ml>"


def test_every_other_series_says_why_not(model: Model, study: Path) -> None:
    results = list(model.predict_each(study))
    assert sorted(type(each) for each in results if isinstance(each, Result)) == [Result]
    reasons = sorted(each.error.message for each in results if isinstance(each, Unfit))
    assert len(reasons) == 2
    assert "3 slices are fewer" in reasons[0]
    assert "modality CT" in reasons[1]


def test_where_nothing_fits_the_reason_is_an_error(model: Model, study: Path) -> None:
    with pytest.raises(UnsuitableSeries, match="modality CT is not MR"):
        model.predict(study / "2")
    with pytest.raises(NotDicom):
        model.predict(ROOT / "docs")


def test_nifti_gives_nifti_on_its_own_grid(model: Model, tmp_path: Path) -> None:
    affine = np.array([[-2, 0, 0, 5], [0, 0, 3, 1], [0, 4, 0, -7], [0, 0, 0, 1.0]])
    voxels = np.random.default_rng(0).integers(0, 200, (5, 6, 7)).astype(np.int16)
    nibabel.save(Nifti1Image(voxels, affine), tmp_path / "Head.nii.gz")
    result = model.predict(tmp_path / "Head.nii.gz", save_path=tmp_path / "out")
    (file,) = result.files
    assert file.name == "Head.labels.nii.gz"
    made = nibabel.load(file)
    np.testing.assert_allclose(made.affine, affine)
    np.testing.assert_array_equal(np.asarray(made.dataobj), voxels > 100)


@pytest.mark.parametrize("kind", ["array", "with its affine", "image"])
def test_arrays_are_taken_with_and_without_a_place(model: Model, kind: str) -> None:
    voxels = np.random.default_rng(1).uniform(0, 200, (4, 5, 6))
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    source: Any = {
        "array": voxels,
        "with its affine": (voxels, affine),
        "image": Image(voxels, affine),
    }[kind]
    result = model.predict(source)
    np.testing.assert_array_equal(result.labels_kji, voxels > 100)
    np.testing.assert_array_equal(result.affine_lps, np.eye(4) if kind == "array" else affine)
    assert result.files == ()


def test_check_says_device_needs_and_fit(model: Model, study: Path) -> None:
    check = model.check(study)
    assert (check.device, check.fits, check.reasons) == ("cpu", True, ())
    assert check.needs == ("image: MR, at least 4 slices",)
    unfit = model.check(study / "2")
    assert unfit.fits is False
    assert "unsuitable_series" in unfit.reasons[0]
    assert "do not fit" in str(unfit)
    assert model.check().fits is None
    missing = load(model.bundle.root, device="cuda:99").check()
    assert missing.device == ""
    assert "missing_device" in missing.reasons[0]


def test_loading_a_model_does_not_load_torch(model: Model) -> None:
    code = (
        "import sys; from models import load; load(sys.argv[1]);"
        "heavy = {'torch', 'monai', 'SimpleITK'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code, model.bundle.root], check=True, cwd=ROOT)


def test_several_inputs_come_from_one_study_or_by_name(tmp_path: Path) -> None:
    inputs = [{"name": "T1", "description": "t1"}, {"name": "T2", "description": "t2"}]
    root = write_scripted_bundle(
        tmp_path,
        "two",
        Channel(1),
        table={"inputs": inputs},
        in_channels=2,
        preprocessing=steps(),
    )
    folder = tmp_path / "study"

    def named(description: str, brighter: int) -> Any:
        def edit(k: int, ds: Dataset) -> None:
            ds.StudyInstanceUID, ds.FrameOfReferenceUID = "2.25.7", "2.25.8"
            ds.SeriesDescription = description
            ds.stored = ds.stored + brighter

        return edit

    for number, (description, brighter) in enumerate([("T1", 0), ("T2 tse", 40)]):
        write_series(
            folder / str(number),
            modality="MR",
            name=str(number),
            edit=named(description, brighter),
        )
    (study,) = read_folder(folder).studies
    second = next(s for s in study.series if "T2" in dcmread(s.instances[0].path).SeriesDescription)
    expected = read_volume(second).voxels_kji > 100
    two = load(root, device="cpu")
    np.testing.assert_array_equal(two.predict(folder).labels_kji, expected)
    by_name = two.predict({"T1": folder / "0", "T2": folder / "1"})
    np.testing.assert_array_equal(by_name.labels_kji, expected)
    with pytest.raises(MissingInput, match="T2"):
        two.predict({"T1": folder / "0"})
    with pytest.raises(InvalidRequest, match="T9"):
        two.predict({"T1": folder / "0", "T9": folder / "1"})
    with pytest.raises(MissingInput, match="T1, T2"):
        two.predict(np.zeros((3, 3, 3)))
    with pytest.raises(MissingInput, match="no series of the study is a T2"):
        two.predict(folder / "0")


def test_findings_are_written_with_their_codes(tmp_path: Path) -> None:
    root = write_scripted_bundle(
        tmp_path,
        "classes",
        Means(),
        table={"task": "classification", "findings": [NODULE, CLEAR]},
        channels=("nodule", "clear"),
        postprocessing=steps(),
    )
    result = load(root, device="cpu").predict(np.full((3, 4, 5), 25.0), save_path=tmp_path / "out")
    (file,) = result.files
    document = json.loads(file.read_text())
    assert document["bundle"] == "classes@0.1.0"
    assert document["findings"][0]["code"]["value"] == "27925004"
    assert [each["probability"] for each in document["findings"]] == pytest.approx([0.25, 0.75])
    assert result.millilitres == {}


def test_overlapping_segments_and_instances_reach_dicom_whole(tmp_path: Path) -> None:
    series = write_series(tmp_path / "series", modality="MR")
    voxels = read_volume(series).voxels_kji
    low, high = np.percentile(voxels, [50, 90])
    overlap = write_scripted_bundle(
        tmp_path,
        "overlap",
        Above(float(low), float(high)),
        # numbers as a bundle may have them; a Segmentation counts 1, 2
        table={"segments": [{**LESION, "number": 7}, {**BRAIN, "number": 3}], "overlapping": True},
        channels=("brain", "lesion"),
        postprocessing=steps({"_target_": "Activationsd", "keys": "pred", "sigmoid": True}),
    )
    result = load(overlap, device="cpu").predict(tmp_path / "series", save_path=tmp_path / "out")
    decoded = decode_seg(dcmread(result.files[0]), read_grid(series))
    assert [segment.label for segment in decoded.segments] == ["Lesion", "Brain"]
    np.testing.assert_array_equal(decoded.mask(1), voxels > high)
    np.testing.assert_array_equal(decoded.mask(2), voxels > low)

    table = {"task": "instances", "instances": {"min_voxels": 1}}
    single = write_scripted_bundle(
        tmp_path, "single", Above(float(high), background=True), table=table
    )
    result = load(single, device="cpu").predict(tmp_path / "series", save_path=tmp_path / "out2")
    decoded = decode_seg(dcmread(result.files[0]), read_grid(series))
    assert decoded.segments[0].label == "Brain 1"
    np.testing.assert_array_equal(np.asarray(decoded.labels()) > 0, voxels > high)


def test_a_slice_model_takes_pictures_that_have_no_place(tmp_path: Path) -> None:
    document = metadata()
    document["radloop"]["dimensions"] = "2d"
    document["radloop"]["suits"] = {"modalities": ["CR"], "min_slices": 1}
    configuration = inference()
    configuration["network_def"]["_target_"] = "torch.nn.Conv2d"
    import torch

    state = {"weight": torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1)}
    state["bias"] = torch.tensor([0.0, -100.0])
    root = write_bundle(tmp_path, "flat", document, configuration, state)

    def as_picture(k: int, ds: Dataset) -> None:
        ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"  # Computed Radiography
        ds.Modality = "CR"
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID"):
            delattr(ds, keyword)

    series = write_series(
        tmp_path / "cr", modality="MR", shape_kji=(1, 20, 30), name="cr", edit=as_picture
    )
    result = load(root, device="cpu").predict(tmp_path / "cr", save_path=tmp_path / "out")
    pixels = dcmread(series.instances[0].path).pixel_array
    np.testing.assert_array_equal(result.labels_kji[0], pixels > 100)
    assert [path.name for path in result.files] == ["series-1.labels.nii.gz"]
