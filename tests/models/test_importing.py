"""Models from elsewhere become bundles that predict, or are refused by name with nothing left."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dicom.errors import (
    CannotImport,
    CodeRefused,
    InvalidBundle,
    MissingCodes,
    RadloopError,
    UnknownLicence,
    WrongHash,
)
from models.bundle import read_bundle
from models.code import ALLOWED
from models.importing.draft import read_provenance
from models.importing.model import Wish, import_meshnet, import_model
from models.predictor import Predictor
from models.registry import Registry
from tests.bundles import threshold_state, write_threshold_bundle

torch.set_num_threads(1)

AFFINE_LPS = np.array([[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])


def image(shape: tuple[int, int, int] = (20, 22, 24)) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 200, shape).astype(np.int16)


def zoo_bundle(folder: Path, name: str = "spleen", **changes: Any) -> Path:
    """A bundle as the model zoo has them: its classes named, no codes, no table of ours."""
    root = write_threshold_bundle(folder, name)
    document = json.loads((root / "configs/metadata.json").read_text())
    del document["radloop"]
    image_format = document["network_data_format"]["inputs"]["image"]
    image_format["modality"] = "CT"
    output = document["network_data_format"]["outputs"]["pred"]
    output["channel_def"] = {"0": "background", "1": "spleen"}
    document.update(changes)
    (root / "configs/metadata.json").write_text(json.dumps(document))
    (root / "LICENSE").write_text("Apache License, Version 2.0, January 2004")
    return root


def left_behind(site: Path) -> list[str]:
    return sorted(path.name for path in site.iterdir()) if site.is_dir() else []


# --- MONAI bundles ------------------------------------------------------------------------------


def test_a_bundle_of_the_zoo_gets_codes_hashes_and_provenance(tmp_path: Path) -> None:
    bundle = import_model(zoo_bundle(tmp_path), tmp_path / "site")
    assert bundle.root == tmp_path / "site/spleen@0.1.0"
    (segment,) = bundle.segments
    assert (segment.label, segment.type.value) == ("spleen", "78961009")
    assert bundle.modalities == ("CT",)
    facts = read_provenance(bundle.root)
    assert facts["licence"] == "Apache-2.0"
    assert facts["source"] == "MONAI bundle: spleen"
    assert facts["imported_at"].endswith("+00:00")
    table = json.loads((bundle.root / "configs/radloop.json").read_text())
    assert {"models/model.pt", "LICENSE", "configs/metadata.json"} <= table["files"].keys()
    voxels = image()
    found = Predictor(bundle, device="cpu").predict(voxels, AFFINE_LPS)
    assert np.array_equal(found.labels_kji, voxels > 100)


def test_a_file_that_changes_after_the_import_is_found_out(tmp_path: Path) -> None:
    bundle = import_model(zoo_bundle(tmp_path), tmp_path / "site")
    torch.save(threshold_state(101), bundle.root / "models/model.pt")
    with pytest.raises(WrongHash, match=r"models/model\.pt"):
        read_bundle(bundle.root)


def test_a_zip_archive_is_unpacked(tmp_path: Path) -> None:
    root = zoo_bundle(tmp_path / "made")
    archive = shutil.make_archive(str(tmp_path / "spleen"), "zip", root.parent, root.name)
    assert import_model(Path(archive), tmp_path / "site").identity == "spleen@0.1.0"


@pytest.mark.parametrize("name", ["../evil.txt", "/evil.txt", "a/../../evil.txt"])
def test_an_archive_that_leads_out_of_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(name, "x")
    with pytest.raises(CannotImport, match="leads out"):
        import_model(tmp_path / "x.zip", tmp_path / "site")
    assert not (tmp_path / "evil.txt").exists()


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"no zip")
    with pytest.raises(CannotImport, match="cannot be read"):
        import_model(tmp_path / "x.zip", tmp_path / "site")


def test_a_wrong_hash_of_the_file_is_refused(tmp_path: Path) -> None:
    root = zoo_bundle(tmp_path / "made")
    archive = shutil.make_archive(str(tmp_path / "spleen"), "zip", root.parent, root.name)
    with pytest.raises(WrongHash, match=r"spleen\.zip"):
        import_model(Path(archive), tmp_path / "site", Wish(sha256="0" * 64))
    assert left_behind(tmp_path / "site") == []


def test_a_list_of_hashes_is_compared(tmp_path: Path) -> None:
    root = zoo_bundle(tmp_path)
    (root / "SHA256SUMS").write_text(f"{'0' * 64}  models/model.pt\n")
    with pytest.raises(WrongHash, match=r"model\.pt"):
        import_model(root, tmp_path / "site")
    (root / "SHA256SUMS").write_text(f"{'0' * 64}  models/absent.pt\n")
    with pytest.raises(CannotImport, match=r"absent\.pt is missing"):
        import_model(root, tmp_path / "site")


def refused(tmp_path: Path, root: Path, kind: type[RadloopError], named: str, **wish: Any) -> None:
    with pytest.raises(kind, match=named):
        import_model(root, tmp_path / "site", Wish(**wish))
    assert left_behind(tmp_path / "site") == []


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    root = zoo_bundle(tmp_path)
    (root / "models/model.pt").unlink()
    refused(tmp_path, root, InvalidBundle, r"models/model\.pt")


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    root = zoo_bundle(tmp_path)
    torch.save(threshold_state(100, kernel=3), root / "models/model.pt")
    refused(tmp_path, root, InvalidBundle, "cannot be loaded")


def test_an_unknown_transform_is_refused_by_name(tmp_path: Path) -> None:
    root = zoo_bundle(tmp_path)
    document = json.loads((root / "configs/inference.json").read_text())
    document["preprocessing"]["transforms"].append(
        {"_target_": "NoSuchTransformd", "keys": "image"}
    )
    (root / "configs/inference.json").write_text(json.dumps(document))
    refused(tmp_path, root, InvalidBundle, "NoSuchTransformd")


def test_a_call_of_the_system_is_refused_by_name(tmp_path: Path) -> None:
    root = zoo_bundle(tmp_path)
    document = json.loads((root / "configs/inference.json").read_text())
    document["preprocessing"]["transforms"].append({"_target_": "os.system", "command": "true"})
    (root / "configs/inference.json").write_text(json.dumps(document))
    refused(tmp_path, root, InvalidBundle, r"os\.system")


def test_code_needs_a_person(tmp_path: Path) -> None:
    root = zoo_bundle(tmp_path)
    (root / "scripts").mkdir()
    (root / "scripts/extra.py").write_text(
        "from monai.transforms import MapTransform\n"
        "class Twice(MapTransform):\n"
        "    def __call__(self, data):\n"
        "        return {**data, 'image': data['image'] * 2}\n"
    )
    document = json.loads((root / "configs/inference.json").read_text())
    steps = document["preprocessing"]["transforms"]
    steps.append({"_target_": "scripts.extra.Twice", "keys": "image"})
    (root / "configs/inference.json").write_text(json.dumps(document))
    refused(tmp_path, root, CodeRefused, r"scripts/extra\.py")
    bundle = import_model(root, tmp_path / "site", Wish(allow_code=True))
    assert bundle.code_sha256 in (tmp_path / "site" / ALLOWED).read_text()
    voxels = image()
    found = Predictor(bundle, device="cpu").predict(voxels, AFFINE_LPS)
    assert np.array_equal(found.labels_kji, voxels > 50)


def test_a_licence_must_be_known_or_said(tmp_path: Path) -> None:
    root = zoo_bundle(tmp_path)
    (root / "LICENSE").unlink()
    refused(tmp_path, root, UnknownLicence, "LICENSE")
    bundle = import_model(root, tmp_path / "site", Wish(licence="CC-BY-4.0"))
    assert read_provenance(bundle.root)["licence"] == "CC-BY-4.0"
    assert "CC-BY-4.0" in (bundle.root / "LICENSE").read_text()


def test_classes_without_codes_are_listed(tmp_path: Path) -> None:
    root = zoo_bundle(tmp_path)
    document = json.loads((root / "configs/metadata.json").read_text())
    names = {"0": "background", "1": "flocculus pendens"}
    document["network_data_format"]["outputs"]["pred"]["channel_def"] = names
    (root / "configs/metadata.json").write_text(json.dumps(document))
    refused(tmp_path, root, MissingCodes, "flocculus pendens")
    codes = tmp_path / "codes.json"
    lesion = {"value": "52988006", "scheme": "SCT", "meaning": "Lesion"}
    structure = {"value": "49755003", "scheme": "SCT", "meaning": "Morphologically Abnormal"}
    entry = {"label": "Flap", "category": structure, "type": lesion}
    codes.write_text(json.dumps({"Flocculus Pendens": entry}))
    (segment,) = import_model(root, tmp_path / "site", Wish(codes=codes)).segments
    assert (segment.label, segment.type.value) == ("Flap", "52988006")


def test_a_misspelt_file_of_codes_is_refused(tmp_path: Path) -> None:
    codes = tmp_path / "codes.json"
    codes.write_text(json.dumps({"spleen": "splean"}))
    refused(tmp_path, zoo_bundle(tmp_path), CannotImport, "splean", codes=codes)


def test_the_same_model_twice_is_said_and_another_is_refused(tmp_path: Path) -> None:
    site = tmp_path / "site"
    import_model(zoo_bundle(tmp_path / "a"), site)
    with pytest.raises(CannotImport, match="with the same content"):
        import_model(tmp_path / "a/spleen", site)
    other = zoo_bundle(tmp_path / "b", description="another")
    with pytest.raises(CannotImport, match=r"another spleen@0\.1\.0 is installed"):
        import_model(other, site)
    assert left_behind(site) == ["spleen@0.1.0"]
    assert import_model(other, site, Wish(name="spleen2")).name == "spleen2"


def test_a_bundle_of_ours_keeps_its_table(tmp_path: Path) -> None:
    bundle = import_model(write_threshold_bundle(tmp_path), tmp_path / "site", Wish(licence="MIT"))
    assert [segment.label for segment in bundle.segments] == ["Brain"]
    assert bundle.modalities == ("MR", "CT")
    again = import_model(bundle.root, tmp_path / "other")
    assert again.sha256 == bundle.sha256


def test_a_folder_that_is_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CannotImport, match=r"metadata\.json"):
        import_model(tmp_path / "empty", tmp_path / "site")


def test_a_registry_sees_no_draft(tmp_path: Path) -> None:
    import_model(zoo_bundle(tmp_path / "a"), tmp_path / "site")
    (tmp_path / "site/.incoming-x/half@1.0.0").mkdir(parents=True)
    assert len(Registry([tmp_path / "site"]).bundles) == 1
    assert Registry([tmp_path / "site"]).broken == ()


# --- single files -------------------------------------------------------------------------------


def description(**changes: Any) -> dict[str, Any]:
    own = {
        "name": "lungs",
        "version": "2.0.0",
        "licence": "MIT",
        "modalities": ["CT"],
        "classes": ["background", "lung_left", "lung_right"],
        "axes": "RAS",
        "spacing_mm": [1.0, 1.0, 1.0],
        "intensity": {"from": [0, 200], "to": [0, 1]},
    }
    return {**own, **changes}


class Bands(torch.nn.Module):
    """Left lung between 0.25 and 0.5, right lung above."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.full_like(x, 0.25), x, 2 * x - 0.5], dim=1)


def exported(folder: Path, kind: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "lungs.json").write_text(json.dumps(description()))
    file = folder / f"lungs.{kind}"
    example = torch.zeros(1, 1, 8, 9, 10)
    if kind == "ts":
        torch.jit.trace(Bands(), example).save(str(file))
    else:
        axes = {0: "b", 2: "i", 3: "j", 4: "k"}
        torch.onnx.export(
            Bands(),
            (example,),
            file,
            input_names=["image"],
            output_names=["pred"],
            dynamic_axes={"image": axes, "pred": axes},
            dynamo=False,
        )
    return file


@pytest.mark.parametrize("kind", ["ts", "onnx"])
def test_a_single_file_becomes_a_bundle_that_predicts(tmp_path: Path, kind: str) -> None:
    if kind == "onnx":
        pytest.importorskip("onnx")
    bundle = import_model(exported(tmp_path / "made", kind), tmp_path / "site")
    assert bundle.weights.name == f"model.{kind}"
    assert [s.laterality.meaning for s in bundle.segments if s.laterality] == ["Left", "Right"]
    voxels = image()
    voxels[:, :, 0] = 50  # on the edge of two classes the first one wins
    found = Predictor(bundle, device="cpu").predict(voxels, AFFINE_LPS)
    value = voxels.astype(np.float32) / np.float32(200)
    expected = np.stack([np.full_like(value, 0.25), value, 2 * value - 0.5]).argmax(0)
    assert np.array_equal(found.labels_kji, expected)


def test_a_file_without_its_description_is_refused(tmp_path: Path) -> None:
    file = exported(tmp_path / "made", "ts")
    file.with_suffix(".json").unlink()
    with pytest.raises(CannotImport, match=r"lungs\.json is missing"):
        import_model(file, tmp_path / "site")


def test_a_misspelt_description_is_refused(tmp_path: Path) -> None:
    file = exported(tmp_path / "made", "ts")
    file.with_suffix(".json").write_text(json.dumps(description(axes="RRS")))
    with pytest.raises(CannotImport, match=r"lungs\.json: axes"):
        import_model(file, tmp_path / "site")


# --- brainchop ----------------------------------------------------------------------------------

BRAINCHOP = Path(__file__).parents[3] / "shared/data/weights/brainchop_tfjs_MIT"
needs_brainchop = pytest.mark.skipif(not BRAINCHOP.is_dir(), reason=f"{BRAINCHOP} is not here")


@needs_brainchop
@pytest.mark.parametrize(
    ("name", "count"),
    [("mindgrab", 1), ("model18cls", 17), ("model20chan3cls", 2), ("model21_104class", 103)],
)
def test_brainchops_folders_become_bundles(tmp_path: Path, name: str, count: int) -> None:
    bundle = import_meshnet(BRAINCHOP / name, tmp_path / "site")
    assert len(bundle.segments) == count
    assert read_provenance(bundle.root)["licence"] == "MIT"
    sides = {segment.laterality.meaning for segment in bundle.segments if segment.laterality}
    assert sides == ({"Left", "Right"} if count == 103 else set())


@needs_brainchop
def test_classes_without_names_are_refused_until_a_person_names_them(tmp_path: Path) -> None:
    folder = BRAINCHOP / "model11_gw_ae"
    with pytest.raises(MissingCodes, match="class 1, class 2"):
        import_meshnet(folder, tmp_path / "site")
    codes = tmp_path / "codes.json"
    codes.write_text(json.dumps({"class 1": "white_matter", "class 2": "grey_matter"}))
    bundle = import_meshnet(folder, tmp_path / "site", Wish(codes=codes))
    assert [segment.label for segment in bundle.segments] == ["White matter", "Grey matter"]
