"""What may leave for a cluster: arrays without a patient, and nothing else."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dicom.errors import UnfitForCluster
from models.learning.cases import file_sha256, read_dataset, write_dataset
from models.learning.graph import read_graph
from models.learning.orders import PackOrder, TrainOrder
from models.learning.packing import PACKED, pack
from pipelines.launching.shipment import Shipment
from tests.images import written
from tests.learning import blobs, small_plan

_NAMES = (b"MUELLER", b"mueller", b"Ward 7", b'"p3"', b'"c2"', b"1.2.840.113619.2.55.3")


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what is packed of a dataset whose every word says too much."""
    folder = tmp_path_factory.mktemp("packed")
    made = blobs(folder / "data")
    tags = {"scanner": "7", "author": "MUELLER", "series": "1.2.840.113619.2.55.3.1"}
    cases = tuple(case.model_copy(update={"tags": tags}) for case in made.dataset.cases)
    dataset = made.dataset.model_copy(update={"cases": cases, "source": "Ward 7", "licence": "-"})
    write_dataset(made.root, dataset)
    graph = read_graph(
        {
            "node": [
                {"name": "images", "kind": "source", "tags": {"scanner": "7"}},
                {"name": "train", "kind": "sink", "from": ["images"]},
            ]
        }
    )
    order = TrainOrder(
        dataset=made.root,
        cache=folder / "cache",
        bundles=folder,
        plan=small_plan(why={"patch": "Ward 7"}),
        name="mueller",
        version="1.0.0",
        description="of Ward 7",
        graph=graph.model_dump(mode="json", by_alias=True),
    )
    pack(PackOrder(train=order, into=folder / "packed"))
    return folder / "packed"


def test_what_is_packed_can_be_learnt_from_and_says_nothing_of_anybody(packed: Path):
    shipment = Shipment.open(packed)
    dataset = read_dataset(packed / "dataset").dataset
    assert [case.split for case in dataset.cases] == ["train"] * 3 + ["validation"]
    assert [case.id for case in dataset.cases] == ["case-1", "case-2", "case-3", "case-4"]
    assert {tuple(case.tags) for case in dataset.cases} == {("scanner",)}  # the graph asks for it
    assert len([name for name in shipment.files if name.endswith(".npy")]) == 12
    for path in (one for one in packed.rglob("*") if one.is_file()):
        said = path.read_bytes()
        assert not [name for name in _NAMES if name in said], path.name


def _array(folder: Path) -> Path:
    return sorted((folder / "arrays").iterdir())[0]


def _as_manifest_says(folder: Path, path: Path) -> None:
    """Let the manifest name a file as it is now."""
    manifest = json.loads((folder / PACKED).read_text())
    name = path.relative_to(folder).as_posix()
    manifest["files"][name] = {"size": path.stat().st_size, "sha256": file_sha256(path)}
    (folder / PACKED).write_text(json.dumps(manifest))


def _dicom_beside(folder: Path) -> None:
    written(folder / "arrays" / "a.dcm", bytes(64), PatientName="DOE^JOHN")


def _dicom_as_array(folder: Path) -> None:
    path = folder / "arrays" / f"{7:032x}.npy"
    written(path, bytes(64), PatientName="DOE^JOHN")
    _as_manifest_says(folder, path)


def _nifti(folder: Path) -> None:
    (folder / "arrays" / "a.nii").write_bytes(b"\x5c\x01\0\0 DOE^JOHN")
    _as_manifest_says(folder, folder / "arrays" / "a.nii")


def _another_byte(folder: Path) -> None:
    with _array(folder).open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")


def _behind_an_array(folder: Path) -> None:
    with _array(folder).open("ab") as file:
        file.write(b"DOE^JOHN")
    _as_manifest_says(folder, _array(folder))


def _objects(folder: Path) -> None:
    np.save(_array(folder), np.array([{"name": "DOE^JOHN"}], object), allow_pickle=True)
    _as_manifest_says(folder, _array(folder))


def _words(folder: Path) -> None:
    np.save(_array(folder), np.array(["DOE^JOHN"]))
    _as_manifest_says(folder, _array(folder))


def _link(folder: Path) -> None:
    elsewhere = folder.with_name("elsewhere.npy")
    shutil.move(_array(folder), elsewhere)
    name = next(n for n in json.loads((folder / PACKED).read_text())["files"] if "arrays" in n)
    (folder / name).symlink_to(elsewhere)


def _in_the_dataset(**change: object) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / "dataset" / "dataset.json"
        said = json.loads(path.read_text())
        for key, value in change.items():
            (said if key in said else said["cases"][0])[key] = value
        path.write_text(json.dumps(said))
        _as_manifest_says(folder, path)

    return spoil


def _order_of_more(folder: Path) -> None:
    path = folder / "run" / "order.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "bundles": "/home/mueller"}))
    _as_manifest_says(folder, path)


def _no_manifest(folder: Path) -> None:
    (folder / PACKED).unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_dicom_beside, "does not name it"),
        (_dicom_as_array, "called an array"),
        (_nifti, "neither an array"),
        (_another_byte, "hash"),
        (_behind_an_array, "behind"),
        (_objects, "numbers"),
        (_words, "numbers"),
        (_link, "link"),
        (_in_the_dataset(id="MUELLER"), "name"),
        (_in_the_dataset(patient="4711"), "name"),
        (_in_the_dataset(split="test"), "test set"),
        (_in_the_dataset(tags={"author": "MUELLER"}), "asks for"),
        (_in_the_dataset(tags={"scanner": "1.2.840.113619.2.55.3"}), "UID"),
        (_in_the_dataset(source="Ward 7"), "where it is from"),
        (_in_the_dataset(PatientName="DOE^JOHN"), "more than it may"),
        (_order_of_more, "more than it may"),
        (_no_manifest, "no manifest"),
    ],
)
def test_anything_else_does_not_leave(packed: Path, tmp_path: Path, spoil, said: str):
    folder = tmp_path / "packed"
    shutil.copytree(packed, folder)
    spoil(folder)
    with pytest.raises(UnfitForCluster, match=said):
        Shipment.open(folder)
