"""Exports: other tools read what was written; what was stopped or refused never looks finished."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from monai.data import load_decathlon_datalist
from pydicom import dcmread

from dicom.deid import Deidentifier
from dicom.errors import Canceled, CannotDeidentify, Conflict, InvalidRequest
from dicom.folder import read_folder
from dicom.phantom import Person, head_mr, write_head_study
from dicom.profile import node_profile
from dicom.volume import read_volume
from pipelines.exporting import CARD, Exported, Order, check_manifest, export
from pipelines.exports import BUILT_IN, MANIFEST, Dataset, get_format
from pipelines.exports.cases import Shares, gather, split_patients
from pipelines.exports.nifti import kind_of
from tests.segmentations import encoded, segments_of, uids_of

PATIENTS, VISITS = 4, 2
SLICES, SIZE = 12, 48


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """De-identified heads of four patients, two visits each, all with a segmentation."""
    folder = tmp_path_factory.mktemp("studies")
    for patient in range(1, PATIENTS + 1):
        head = head_mr(patient, slices=SLICES, size=SIZE)
        person = Person.drawn(patient)
        for visit in range(1, VISITS + 1):
            write_head_study(
                folder / "original" / f"{patient}-{visit}",
                seed=patient,
                head=head,
                person=person,
                visit=visit,
            )
    engine = Deidentifier(node_profile(), b"k" * 32)
    list(engine.deidentify_folder(folder / "original", folder / "clean"))
    for study in read_folder(folder / "clean").studies:
        (series,) = study.series
        volume = read_volume(series)
        names = ("brain",) if study.study_uid < "2.25.2" else ("brain", "liver")
        seg = encoded(
            labels_of(volume.voxels_kji, len(names)),
            volume,
            segments_of(*names),
            uids=uids_of(len(names), study.study_uid),
        )
        seg.save_as(series.instances[0].path.with_name("seg.dcm"), enforce_file_format=True)
    return folder / "clean"


def labels_of(voxels_kji: np.ndarray, count: int) -> np.ndarray:
    """Return labels that no flip of the volume leaves as they are."""
    labels_kji = np.zeros(voxels_kji.shape, np.uint8)
    labels_kji[2:5, 10:30, 5:20] = 1
    if count == 2:
        labels_kji[6:8, 5:9, 30:44] = 2
    return labels_kji


@pytest.fixture(scope="module")
def dataset(clean: Path) -> Dataset:
    found, left_out = gather(
        "heads", read_folder(clean).studies, shares=Shares(validation=0.25, test=0.25)
    )
    assert left_out == ()
    return found


def run(dataset: Dataset, target: Path, *formats: str, **changed: object) -> Exported:
    order = Order(dataset, (), formats, "Basic Profile, 2026c", "0.0.test")
    return export(order, target, **{"gate": lambda path: None, **changed})  # type: ignore[arg-type]


# --- cases ----------------------------------------------------------------------------------------


def test_each_series_is_a_case_with_its_own_segmentation(dataset: Dataset) -> None:
    assert len(dataset.cases) == PATIENTS * VISITS
    assert all(case.seg is not None for case in dataset.cases)
    assert {case.session for case in dataset.cases} == {1, 2}
    assert [label.name for label in dataset.labels] == ["brain", "liver"]


def test_no_patient_is_in_two_splits(dataset: Dataset) -> None:
    split_of: dict[str, set[str]] = {}
    for case in dataset.cases:
        split_of.setdefault(case.patient, set()).add(case.split)
    assert len(split_of) == PATIENTS
    assert all(len(splits) == 1 for splits in split_of.values())
    assert {"train", "validation", "test"} == set().union(*split_of.values())


@pytest.mark.parametrize("count", [1, 2, 3, 10, 101])
def test_splits_are_the_same_each_time_and_leave_something_to_learn_from(count: int) -> None:
    patients = [f"RL-{number}" for number in range(count)]
    shares = Shares(validation=0.2, test=0.3)
    splits = split_patients(patients, shares)
    assert splits == split_patients(patients[::-1], shares)
    assert list(splits.values()).count("train") >= 1
    if count >= 10:
        assert list(splits.values()).count("test") == round(0.3 * count)
        assert splits != split_patients(patients, replace(shares, seed="other"))


def test_the_newest_segmentation_is_the_label(clean: Path, tmp_path: Path) -> None:
    study = read_folder(clean).studies[0]
    old = next(s for s in study.series if s.modality == "SEG").instances[0]
    ds = dcmread(old.path)
    ds.ContentTime = "235959"
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "2.25.99"
    ds.save_as(tmp_path / "newer.dcm")
    newer = read_folder(tmp_path / "newer.dcm").studies[0].series
    both = replace(study, series=(*study.series, *newer))
    found, _ = gather("one", [both])
    assert found.cases[0].seg is not None
    assert found.cases[0].seg.sop_instance_uid == "2.25.99"


def test_a_segmentation_without_its_series_is_left_out_and_said(clean: Path) -> None:
    first, second = read_folder(clean).studies[:2]
    stray = next(series for series in second.series if series.modality == "SEG")
    found, left_out = gather("one", [replace(first, series=(*first.series, stray))])
    assert len(found.cases) == 1
    assert [each.why for each in left_out] == ["a segmentation of a series that is not here"]


def test_nothing_to_export_and_a_bad_name_are_refused(clean: Path) -> None:
    with pytest.raises(InvalidRequest):
        gather("empty", [])
    with pytest.raises(InvalidRequest):
        gather("../up", read_folder(clean).studies)
    with pytest.raises(InvalidRequest):
        Shares(validation=0.5, test=0.5)


# --- formats --------------------------------------------------------------------------------------


def test_every_format_is_there() -> None:
    for name in BUILT_IN:
        each = get_format(name)
        assert callable(each.check) and callable(each.write) and callable(each.finish)


def test_nnunet_and_decathlon_hold_the_same_voxels_in_the_same_place(
    dataset: Dataset, tmp_path: Path
) -> None:
    run(dataset, tmp_path / "out", "nnunet", "decathlon", "nifti")
    home = tmp_path / "out" / "Dataset001_heads"
    about = json.loads((home / "dataset.json").read_text())
    assert about["labels"] == {"background": 0, "brain": 1, "liver": 2}
    assert about["channel_names"] == {"0": "MR"}
    images = sorted((home / "imagesTr").iterdir())
    assert about["numTraining"] == len(images) == len(list((home / "labelsTr").iterdir()))
    assert len(list((home / "imagesTs").iterdir())) == VISITS
    (fold,) = json.loads((home / "splits_final.json").read_text())
    assert len(fold["train"]) + len(fold["val"]) == len(images)
    for case in dataset.cases:
        volume = read_volume(case.series)
        part = "Ts" if case.split == "test" else "Tr"
        image = nibabel.load(home / f"images{part}" / f"heads_{case.number:04d}_0000.nii.gz")
        labels = nibabel.load(home / f"labels{part}" / f"heads_{case.number:04d}.nii.gz")
        np.testing.assert_array_equal(np.asarray(image.dataobj).T, volume.voxels_kji)
        centre_lps = (volume.affine_lps @ [1, 2, 3, 1])[:3]
        np.testing.assert_allclose((image.affine @ [3, 2, 1, 1])[:3] * [-1, -1, 1], centre_lps)
        np.testing.assert_array_equal(image.affine, labels.affine)
        count = 1 if case.study_uid < "2.25.2" else 2
        np.testing.assert_array_equal(
            np.asarray(labels.dataobj).T, labels_of(volume.voxels_kji, count)
        )
    datalist = tmp_path / "out" / "Task01_heads" / "dataset.json"
    training = load_decathlon_datalist(datalist, True, "training")
    assert training and all(Path(item["image"]).is_file() for item in training)
    assert all(Path(item["label"]).is_file() for item in training)
    assert len(load_decathlon_datalist(datalist, True, "test")) == VISITS
    nifti = sorted((tmp_path / "out" / "heads").rglob("*_dseg.nii.gz"))
    assert len(nifti) == len(dataset.cases)


def test_the_dicom_export_is_a_file_set_of_the_very_same_files(
    dataset: Dataset, tmp_path: Path
) -> None:
    run(dataset, tmp_path / "out", "dicom")
    home = tmp_path / "out" / "dicom"
    directory = dcmread(home / "DICOMDIR")
    referenced = {
        record.ReferencedSOPInstanceUIDInFile: home.joinpath(*record.ReferencedFileID)
        for record in directory.DirectoryRecordSequence
        if "ReferencedFileID" in record
    }
    assert len(referenced) == len(dataset.cases) * (SLICES + 1)
    for case in dataset.cases:
        for instance in (*case.series.instances, case.seg):
            assert instance is not None
            copy = referenced[instance.sop_instance_uid]
            assert copy.read_bytes() == instance.path.read_bytes()
    assert not list(tmp_path.joinpath("out").glob(".*"))


@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        ({"ScanningSequence": "SE", "EchoTime": 12, "RepetitionTime": 500}, ("anat", "T1w")),
        ({"ScanningSequence": "SE", "EchoTime": 90, "RepetitionTime": 4000}, ("anat", "T2w")),
        ({"ScanningSequence": "SE", "EchoTime": 12, "RepetitionTime": 3000}, ("anat", "PDw")),
        (
            {
                "ScanningSequence": ["SE", "IR"],
                "EchoTime": 90,
                "RepetitionTime": 9000,
                "InversionTime": 2500,
            },
            ("anat", "FLAIR"),
        ),
        (
            {
                "ScanningSequence": ["GR", "IR"],
                "EchoTime": 3,
                "RepetitionTime": 2300,
                "InversionTime": 900,
            },
            ("anat", "T1w"),
        ),
        ({"ScanningSequence": "GR", "EchoTime": 20, "RepetitionTime": 600}, ("other", "image")),
        ({"ScanningSequence": "SE"}, ("other", "image")),
        ({"Modality": "CT"}, ("ct", "ct")),
    ],
)
def test_a_contrast_is_told_by_its_parameters_or_not_at_all(
    attributes: dict[str, object], kind: tuple[str, str]
) -> None:
    from pydicom import Dataset as PydicomDataset

    header = PydicomDataset()
    header.Modality = "MR"
    for keyword, value in attributes.items():
        setattr(header, keyword, value)
    assert kind_of(header) == kind


def test_what_a_format_cannot_hold_is_refused_before_anything_is_written(
    dataset: Dataset, tmp_path: Path
) -> None:
    bare = replace(dataset, cases=tuple(replace(case, seg=None) for case in dataset.cases))
    for name in ("nnunet", "decathlon"):
        with pytest.raises(InvalidRequest):
            run(bare, tmp_path / "out", name)
    assert list(tmp_path.iterdir()) == []


# --- the whole ------------------------------------------------------------------------------------


def test_the_manifest_tells_every_change(dataset: Dataset, tmp_path: Path) -> None:
    done = run(dataset, tmp_path / "out", "nifti")
    assert check_manifest(tmp_path / "out") == []
    listed = json.loads((tmp_path / "out" / MANIFEST).read_text())["files"]
    assert done.files == len(listed)
    victim = next((tmp_path / "out").rglob("*_dseg.nii.gz"))
    victim.write_bytes(victim.read_bytes()[:-1] + b"x")
    (tmp_path / "out" / "more.txt").write_text("more")
    (tmp_path / "out" / CARD).unlink()
    wrong = check_manifest(tmp_path / "out")
    assert wrong == sorted(["more.txt", CARD, victim.relative_to(tmp_path / "out").as_posix()])


def test_the_card_counts_what_is_there(dataset: Dataset, tmp_path: Path) -> None:
    run(dataset, tmp_path / "out", "dicom")
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert card["patients"] == PATIENTS
    assert card["cases"] == card["with_labels"] == PATIENTS * VISITS
    assert card["images"] == PATIENTS * VISITS * SLICES
    assert sum(card["patients_by_split"].values()) == PATIENTS
    assert card["profile"] == "Basic Profile, 2026c"
    text = (tmp_path / "out" / CARD).read_text()
    assert f"{PATIENTS * VISITS} cases of {PATIENTS} patients" in text


def test_a_leak_in_one_file_refuses_all_of_it(dataset: Dataset, tmp_path: Path) -> None:
    seen = []

    def gate(path: Path) -> None:
        seen.append(path)
        if len(seen) == 5:
            raise CannotDeidentify("a token of the patient is in a file")

    with pytest.raises(CannotDeidentify):
        run(dataset, tmp_path / "out", "nifti", gate=gate)
    assert list(tmp_path.iterdir()) == []


def test_the_gate_sees_every_file(dataset: Dataset, tmp_path: Path) -> None:
    seen: set[str] = set()
    run(dataset, tmp_path / "out", "dicom", "nifti", gate=lambda path: seen.add(path.name))
    there = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    sources = {i.path.name for case in dataset.cases for i in (*case.series.instances, case.seg)}
    assert seen == (there - {MANIFEST}) | sources


def test_what_was_stopped_does_not_look_finished_and_goes_on(
    dataset: Dataset, tmp_path: Path
) -> None:
    steps: list[int] = []
    with pytest.raises(Canceled):
        run(
            dataset,
            tmp_path / "out",
            "nifti",
            progress=lambda done, total: steps.append(done),
            canceled=lambda: len(steps) == 3,
        )
    assert not (tmp_path / "out").exists()
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*_dseg.nii.gz")}
    assert len(written) == 3
    run(dataset, tmp_path / "out", "nifti")
    for path, when in written.items():
        kept = tmp_path / "out" / path.relative_to(tmp_path / ".out.part")
        assert kept.stat().st_mtime_ns == when
    assert check_manifest(tmp_path / "out") == []


def test_another_dataset_does_not_go_on_with_the_first_ones_files(
    dataset: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(Canceled):
        run(dataset, tmp_path / "out", "nifti", canceled=lambda: any(tmp_path.rglob("*.nii.gz")))
    other = replace(dataset, name="other", cases=dataset.cases[2:])
    run(other, tmp_path / "out", "nifti")
    assert not (tmp_path / "out" / "heads").exists()


def test_nothing_is_written_over(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(Conflict):
        run(dataset, tmp_path / "out", "nifti")


def test_a_zip_holds_the_same_folder(dataset: Dataset, tmp_path: Path) -> None:
    done = run(dataset, tmp_path / "heads.zip", "nifti", zipped=True)
    assert [path.name for path in tmp_path.iterdir()] == ["heads.zip"]
    zipfile.ZipFile(done.path).extractall(tmp_path)
    assert check_manifest(tmp_path / "heads") == []


def test_the_same_dataset_gives_the_same_bytes(dataset: Dataset, tmp_path: Path) -> None:
    for name in ("a", "b"):
        run(dataset, tmp_path / name, "nifti", "nnunet")
    listed = [json.loads((tmp_path / n / MANIFEST).read_text())["files"] for n in ("a", "b")]
    for files in listed:
        del files["card.json"], files[CARD]  # they hold the time
    assert listed[0] == listed[1]


def test_one_case_that_cannot_be_held_is_told_and_the_others_go(
    dataset: Dataset, tmp_path: Path
) -> None:
    first = dataset.cases[0]
    inner = read_volume(first.series).instances[SLICES // 2]
    rest = tuple(i for i in first.series.instances if i.sop_instance_uid != inner.sop_instance_uid)
    broken = replace(first, series=replace(first.series, instances=rest))
    some = replace(dataset, cases=(broken, *dataset.cases[1:]))
    done = run(some, tmp_path / "out", "nifti")
    assert [number for number, _, _ in done.refused] == [1]
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert card["cases"] == PATIENTS * VISITS - 1
    assert card["refused"][0]["code"] == done.refused[0][1]
