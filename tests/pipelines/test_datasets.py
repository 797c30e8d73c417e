"""Datasets from the layouts that people have: what is read, what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dicom.errors import (
    Conflict,
    InvalidDataset,
    InvalidRequest,
    InvalidSettings,
    LabelsDoNotMatch,
    NotFound,
    RadloopError,
)
from models.learning.cases import DatasetFolder
from models.learning.deriving import Derivation
from pipelines.datasets import LAYOUTS, Shelf, Wanted, get_layout
from pipelines.exports.cases import Shares
from pipelines.exports.volumes import write_nifti

AFFINE = np.array([[0, 0, 0.8, -20.0], [0, 0.8, 0, 30.0], [2.5, 0, 0, 5.0], [0, 0, 0, 1]])


def volume(seed: int, shape=(4, 10, 12)) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    label = np.zeros(shape, np.uint8)
    label[1:3, 2:6, 3:8] = 1
    label[2, 7:9, 2:5] = 2
    return draw.integers(-100, 1000, shape).astype(np.int16), label


def write_pairs(folder: Path, *, cases=5, pictures=False) -> Path:
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for number in range(cases):
        stem = f"P{number // 2:02d}_{number}"
        if pictures:
            pixels = np.random.default_rng(number).integers(0, 255, (20, 30, 3)).astype(np.uint8)
            mask = np.zeros((20, 30), np.uint8)
            mask[5:9, 6:20] = 255
            Image.fromarray(pixels).save(folder / "images" / f"{stem}.png")
            Image.fromarray(mask).save(folder / "labels" / f"{stem}.png")
            continue
        image, label = volume(number)
        write_nifti(folder / "images" / f"{stem}.nii.gz", image, AFFINE)
        write_nifti(folder / "labels" / f"{stem}.nii.gz", label, AFFINE)
    return folder


def freeze(tmp_path: Path, layout: str, folder: Path, **wanted: object) -> DatasetFolder:
    fields = {"name": "set", "classes": {1: "One", 2: "Two"}, **wanted}
    return Shelf(tmp_path / "shelf").freeze(get_layout(layout), folder, Wanted(**fields))


class TestPairs:
    def test_volumes_keep_voxels_place_and_patients(self, tmp_path: Path):
        folder = freeze(
            tmp_path,
            "pairs",
            write_pairs(tmp_path / "in"),
            patient=r"(P\d+)",
            shares=Shares(validation=0.34, test=0.34),
        )
        dataset = folder.dataset
        assert dataset.identity == "set@1"
        assert {case.patient for case in dataset.cases} == {"P00", "P01", "P02"}
        assert {case.split for case in dataset.cases} == {"train", "validation", "test"}
        case = dataset.cases[0]
        image, label = volume(0)
        assert (folder.image(case)[0] == image).all()
        assert (folder.label(case) == label).all()
        assert np.allclose(case.affine_lps, AFFINE, atol=1e-5)
        assert case.spacing_kji == pytest.approx((2.5, 0.8, 0.8), rel=1e-6)
        folder.check()

    def test_pictures_in_colour_with_black_and_white_masks(self, tmp_path: Path):
        source = write_pairs(tmp_path / "in", pictures=True)
        folder = freeze(tmp_path, "pairs", source, classes={1: "Vessel"})
        case = folder.dataset.cases[0]
        assert folder.dataset.channels == ("red", "green", "blue")
        assert folder.dataset.dimensions == 2
        assert folder.image(case).shape == (3, 1, 20, 30)
        pixels = np.asarray(Image.open(source / "images" / "P00_0.png"))
        assert (folder.image(case)[:, 0] == pixels.transpose(2, 0, 1)).all()
        assert folder.label(case).sum() == 4 * 14
        assert case.affine_lps is None

    def test_splits_of_ones_own(self, tmp_path: Path):
        splits = {"P00": "test", "P01": "train", "P02": "validation"}
        source = write_pairs(tmp_path / "in")
        folder = freeze(tmp_path, "pairs", source, patient=r"(P\d+)", splits=splits)
        assert {case.patient: case.split for case in folder.dataset.cases} == splits
        with pytest.raises(InvalidDataset, match="1 patients are in no split, such as P02"):
            freeze(
                tmp_path, "pairs", source, patient=r"(P\d+)", splits={"P00": "test", "P01": "train"}
            )

    @pytest.mark.parametrize(
        ("damage", "error", "what"),
        [
            (lambda f: (f / "labels" / "P00_0.nii.gz").unlink(), InvalidDataset, "no partner"),
            (lambda f: (f / "images" / "x.png").write_bytes(b"none"), InvalidDataset, "no partner"),
            (lambda f: (f / "labels").rename(f / "masks"), InvalidDataset, "no labels/"),
            (
                lambda f: write_nifti(f / "labels" / "P00_0.nii.gz", volume(0)[1][:3], AFFINE),
                LabelsDoNotMatch,
                "P00_0: files of",
            ),
            (
                lambda f: write_nifti(
                    f / "labels" / "P00_0.nii.gz", volume(0)[1], AFFINE + np.eye(4, k=3) * 2
                ),
                LabelsDoNotMatch,
                "different places",
            ),
            (
                lambda f: write_nifti(f / "labels" / "P00_0.nii.gz", volume(0)[1] * 3, AFFINE),
                LabelsDoNotMatch,
                "value 3 is no class",
            ),
            (
                lambda f: write_nifti(
                    f / "labels" / "P00_0.nii.gz", volume(0)[1].astype(np.float32) / 2, AFFINE
                ),
                LabelsDoNotMatch,
                "no whole numbers",
            ),
            (
                lambda f: write_nifti(
                    f / "images" / "P01_3.nii.gz",
                    np.full((4, 10, 12), np.nan, np.float32),
                    AFFINE,
                ),
                RadloopError,
                "finite|numbers",
            ),
        ],
    )
    def test_what_does_not_match_is_refused_and_nothing_is_kept(
        self, tmp_path: Path, damage, error: type[RadloopError], what: str
    ):
        source = write_pairs(tmp_path / "in")
        damage(source)
        with pytest.raises(error, match=what):
            freeze(tmp_path, "pairs", source)
        assert not list((tmp_path / "shelf").rglob("*.npy"))
        assert Shelf(tmp_path / "shelf").names() == []

    @pytest.mark.parametrize(
        ("pattern", "error"),
        [("(", InvalidSettings), ("P", InvalidSettings), ("(Q)", InvalidDataset)],
    )
    def test_a_pattern_for_patients_that_does_not_work(self, tmp_path: Path, pattern, error):
        with pytest.raises(error, match="pattern"):
            freeze(tmp_path, "pairs", write_pairs(tmp_path / "in"), patient=pattern)

    def test_classes_that_nobody_names_are_numbered(self, tmp_path: Path):
        dataset = freeze(tmp_path, "pairs", write_pairs(tmp_path / "in"), classes={}).dataset
        assert dataset.classes == {1: "Class 1", 2: "Class 2"}
        assert {row.type.meaning for row in dataset.segments} == {"Body structure"}

    def test_labels_of_nothing_or_of_parts_of_numbers_are_no_classes(self, tmp_path: Path):
        folder = write_pairs(tmp_path / "in", cases=1)
        (label,) = (folder / "labels").iterdir()
        for values, error in ((np.zeros, InvalidDataset), (_halves, LabelsDoNotMatch)):
            write_nifti(label, values((4, 10, 12)), AFFINE)
            with pytest.raises(error):
                freeze(tmp_path, "pairs", folder, classes={})


def _halves(shape: tuple[int, ...]) -> np.ndarray:
    return np.full(shape, 0.5, np.float32)


def write_nnunet(folder: Path, *, channels=1) -> Path:
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for number in range(3):
        for channel in range(channels):
            image, label = volume(10 * channel + number)
            path = folder / "imagesTr" / f"liver_{number:03d}_{channel:04d}.nii.gz"
            write_nifti(path, image, AFFINE)
        write_nifti(folder / "labelsTr" / f"liver_{number:03d}.nii.gz", label, AFFINE)
    names = {str(at): name for at, name in enumerate(("T1", "T2")[:channels])}
    description = {
        "channel_names": names,
        "labels": {"background": 0, "liver": 1, "tumour": 2},
        "numTraining": 3,
        "file_ending": ".nii.gz",
        "licence": "CC-BY-SA 4.0",
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


class TestNnunet:
    def test_it_is_read_with_its_channels_and_classes(self, tmp_path: Path):
        folder = freeze(tmp_path, "nnunet", write_nnunet(tmp_path / "in", channels=2))
        dataset = folder.dataset
        assert dataset.classes == {1: "liver", 2: "tumour"}
        assert dataset.channels == ("T1", "T2")
        assert dataset.licence == "CC-BY-SA 4.0"
        case = dataset.cases[1]
        assert case.id == "liver_001"
        assert (folder.image(case)[1] == volume(11)[0]).all()

    def test_what_is_missing_is_told(self, tmp_path: Path):
        source = write_nnunet(tmp_path / "in", channels=2)
        (source / "imagesTr" / "liver_001_0001.nii.gz").unlink()
        with pytest.raises(InvalidDataset, match="case liver_001 has not 2 files"):
            freeze(tmp_path, "nnunet", source)
        (source / "dataset.json").write_text("{")
        with pytest.raises(InvalidDataset, match="no JSON"):
            freeze(tmp_path, "nnunet", source)


def write_decathlon(folder: Path) -> Path:
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    items = []
    for number in range(3):
        image, label = volume(number)
        write_nifti(folder / "imagesTr" / f"a_{number}.nii.gz", image, AFFINE)
        write_nifti(folder / "labelsTr" / f"a_{number}.nii.gz", label, AFFINE)
        items.append(
            {"image": f"./imagesTr/a_{number}.nii.gz", "label": f"./labelsTr/a_{number}.nii.gz"}
        )
    description = {
        "name": "Spleen",
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "spleen", "2": "cyst"},
        "training": items[:2],
        "validation": items[2:],
        "test": ["./imagesTs/b.nii.gz"],
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


class TestDecathlon:
    def test_it_keeps_the_splits_that_are_listed(self, tmp_path: Path):
        dataset = freeze(tmp_path, "decathlon", write_decathlon(tmp_path / "in")).dataset
        splits = [case.split for case in dataset.cases]
        assert splits == ["train", "train", "validation"]
        assert dataset.modalities == ("CT",)
        assert dataset.classes[2] == "cyst"

    def test_a_list_that_leads_out_of_the_folder_is_refused(self, tmp_path: Path):
        source = write_decathlon(tmp_path / "in")
        description = json.loads((source / "dataset.json").read_text())
        description["training"][0]["image"] = "../../secret.nii.gz"
        (source / "dataset.json").write_text(json.dumps(description))
        with pytest.raises(InvalidDataset, match="outside"):
            freeze(tmp_path, "decathlon", source)


class TestShelf:
    def test_versions_follow_each_other_and_the_same_is_no_new_one(self, tmp_path: Path):
        source = write_pairs(tmp_path / "in")
        shelf = Shelf(tmp_path / "shelf")
        first = freeze(tmp_path, "pairs", source)
        with pytest.raises(Conflict, match="set@1 is the same"):
            freeze(tmp_path, "pairs", source)
        second = freeze(tmp_path, "pairs", source, licence="CC0")
        assert second.dataset.identity == "set@2"
        assert shelf.names() == ["set@1", "set@2"]
        assert shelf.get("set").dataset == second.dataset
        assert shelf.get("set@1").dataset == first.dataset
        for missing in ("other", "set@3"):
            with pytest.raises(NotFound):
                shelf.get(missing)

    @pytest.mark.parametrize("name", ["No name!", "../elsewhere", "a" * 65, ""])
    def test_a_name_that_is_no_folders_is_refused_and_nothing_is_written(
        self, tmp_path: Path, name: str
    ):
        source = write_pairs(tmp_path / "in")
        with pytest.raises(InvalidRequest, match="a dataset's name begins"):
            freeze(tmp_path, "pairs", source, name=name)
        whole = freeze(tmp_path, "pairs", source)
        with pytest.raises(InvalidRequest, match="a dataset's name begins"):
            Shelf(tmp_path / "shelf").derive(whole, name, Derivation())
        assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "shelf"]
        assert [path.name for path in (tmp_path / "shelf").iterdir()] == ["set@1"]

    def test_every_layout_is_there_and_no_other(self):
        for name in LAYOUTS:
            layout = get_layout(name)
            assert callable(layout.outline)
            assert callable(layout.read)
        with pytest.raises(InvalidRequest, match="pairs, nnunet"):
            get_layout("guess")
