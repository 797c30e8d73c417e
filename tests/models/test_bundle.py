"""A bundle is read whole or refused with the file and the field that are wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dicom.codes import Code
from dicom.errors import InvalidBundle
from dicom.volume import SeriesFacts
from models.bundle import read_bundle, version_key
from models.tasks import Segmentation
from tests.bundles import BRAIN, write_threshold_bundle

FACTS = SeriesFacts(
    modality="MR",
    sop_class_uid=None,
    body_part="HEAD",
    description=None,
    protocol=None,
    manufacturer=None,
    image_type=("ORIGINAL", "PRIMARY"),
    contrast_agent=False,
    slice_count=160,
    spacing_mm=1.0,
    pixel_spacing_mm=(1.0, 1.0),
    orientation="axial",
)


def change(root: Path, edit: Callable[[dict[str, Any]], object], file: str = "metadata") -> None:
    path = root / "configs" / f"{file}.json"
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))


def test_a_bundle_says_what_it_makes_and_what_for(tmp_path: Path) -> None:
    bundle = read_bundle(write_threshold_bundle(tmp_path, "head", "1.2.3"))
    assert bundle.identity == "head@1.2.3"
    (segment,) = bundle.segments
    assert (segment.number, segment.label) == (1, "Brain")
    assert segment.type == Code("12738006", "SCT", "Brain")
    assert segment.rgb == (236, 152, 62)
    assert bundle.task == Segmentation(bundle.segments, (0, 1))
    assert bundle.algorithm.version == "1.2.3"
    assert bundle.algorithm.family.value == "123110"


def test_the_hash_follows_weights_and_configuration_only(tmp_path: Path) -> None:
    first = read_bundle(write_threshold_bundle(tmp_path / "a", threshold=100))
    again = read_bundle(write_threshold_bundle(tmp_path / "b", threshold=100))
    other_weights = read_bundle(write_threshold_bundle(tmp_path / "c", threshold=101))
    other_configuration = read_bundle(write_threshold_bundle(tmp_path / "d", window=(8, 8, 8)))
    (again.root / "docs/README.md").write_text("Better words.")
    assert read_bundle(again.root).sha256 == first.sha256
    assert len({first.sha256, other_weights.sha256, other_configuration.sha256}) == 3


def test_suits_says_why_not(tmp_path: Path) -> None:
    root = write_threshold_bundle(tmp_path)
    suits = {"modalities": ["MR"], "min_slices": 20, "orientations": ["axial", "sagittal"]}
    change(root, lambda document: document["radloop"].update(suits=suits))
    bundle = read_bundle(root)
    assert bundle.suits(FACTS) is None
    assert "CT" in str(bundle.suits(replace(FACTS, modality="CT")))
    assert "19" in str(bundle.suits(replace(FACTS, slice_count=19)))
    assert "oblique" in str(bundle.suits(replace(FACTS, orientation="oblique")))


@pytest.mark.parametrize(
    "file",
    [
        "configs/metadata.json",
        "configs/inference.json",
        "models/model.pt",
        "docs/README.md",
        "LICENSE",
    ],
)
def test_a_missing_file_is_named(tmp_path: Path, file: str) -> None:
    root = write_threshold_bundle(tmp_path, "head")
    (root / file).unlink()
    with pytest.raises(InvalidBundle, match=f"bundle head: .*{file}") as raised:
        read_bundle(root)
    assert raised.value.code == "invalid_bundle"
    assert str(tmp_path) not in raised.value.message


def segments(document: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = document["radloop"]["segments"]
    return found


def channels(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["network_data_format"]["outputs"]["pred"]
    return found


@pytest.mark.parametrize(
    ("edit", "names"),
    [
        (lambda d: d.update(version="1.0"), "version"),
        (lambda d: d.update(version="latest"), "version"),
        (lambda d: d.pop("version"), "version"),
        (lambda d: d.pop("authors"), "authors"),
        (lambda d: d.pop("radloop"), "radloop"),
        (lambda d: d["radloop"].update(colour="red"), "radloop.colour"),
        (lambda d: d["radloop"].update(segments=[]), "radloop.segments"),
        (lambda d: segments(d)[0].pop("type"), r"radloop.segments.0.type"),
        (lambda d: segments(d)[0].pop("category"), r"radloop.segments.0.category"),
        (lambda d: segments(d)[0]["type"].pop("scheme"), r"segments.0.type.scheme"),
        (lambda d: segments(d)[0]["type"].update(value="1" * 17), r"segments.0.type"),
        (lambda d: segments(d)[0].update(number=0), r"segments.0.number"),
        (lambda d: segments(d)[0].update(number=256), r"segments.0.number"),
        (lambda d: segments(d)[0].update(rgb=[0, 0, 256]), r"segments.0.rgb.2"),
        (lambda d: segments(d).append({**BRAIN, "number": 2}), "the same label"),
        (lambda d: segments(d).append({**BRAIN, "label": "Liver"}), "the same number"),
        (lambda d: segments(d)[0].update(label="Liver"), r"channel_def.1: 'brain' has no entry"),
        (
            lambda d: segments(d).append({**BRAIN, "label": "Liver", "number": 2}),
            "no channel for the segment 'Liver'",
        ),
        (lambda d: channels(d)["channel_def"].update({"3": "brain"}), "not numbered 0, 1, 2"),
        (lambda d: channels(d)["channel_def"].update({"2": "Brain"}), "num_channels"),
        (
            lambda d: channels(d).update(
                num_channels=3, channel_def={"0": "background", "1": "brain", "2": "Brain"}
            ),
            "two channels of one name",
        ),
        (lambda d: channels(d)["channel_def"].update(one="brain"), "channel_def"),
        (
            lambda d: d["network_data_format"]["inputs"]["image"].update(num_channels=2),
            r"inputs.image.num_channels",
        ),
        (lambda d: d["radloop"]["suits"].update(modalities=[]), "suits.modalities"),
        (lambda d: d["radloop"]["suits"].update(orientations=["upright"]), "suits.orientations.0"),
    ],
)
def test_a_wrong_field_is_named(
    tmp_path: Path, edit: Callable[[dict[str, Any]], object], names: str
) -> None:
    root = write_threshold_bundle(tmp_path, "head")
    change(root, edit)
    with pytest.raises(InvalidBundle, match=f"bundle head: configs/metadata.json: .*{names}"):
        read_bundle(root)


@pytest.mark.parametrize("section", ["preprocessing", "network_def", "inferer", "postprocessing"])
def test_a_missing_section_is_named(tmp_path: Path, section: str) -> None:
    root = write_threshold_bundle(tmp_path)
    # nothing may refer to it either: that is another complaint
    change(root, lambda document: document.pop(section), "inference")
    with pytest.raises(InvalidBundle, match=f"configs/inference.json: {section} is missing"):
        read_bundle(root)


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe", b"[1]", b"null", b'{"a":' * 9999])
@pytest.mark.parametrize("file", ["metadata", "inference"])
def test_broken_text_is_refused(tmp_path: Path, file: str, content: bytes) -> None:
    root = write_threshold_bundle(tmp_path)
    (root / f"configs/{file}.json").write_bytes(content)
    with pytest.raises(InvalidBundle, match=f"configs/{file}.json"):
        read_bundle(root)


def test_of_two_kinds_of_weights_the_state_dict_is_used_where_a_network_is_described(
    tmp_path: Path,
) -> None:
    root = write_threshold_bundle(tmp_path)
    (root / "models/model.ts").write_bytes(b"")
    assert read_bundle(root).weights.name == "model.pt"
    change(root, lambda document: document.pop("network_def"), "inference")
    assert read_bundle(root).weights.name == "model.ts"


def test_the_folder_may_name_the_version_and_must_be_right(tmp_path: Path) -> None:
    root = write_threshold_bundle(tmp_path, "head@0.2.0", version="0.2.0")
    assert read_bundle(root).identity == "head@0.2.0"
    wrong = write_threshold_bundle(tmp_path, "head@0.3.0", version="0.2.0")
    with pytest.raises(InvalidBundle, match="version"):
        read_bundle(wrong)


def test_versions_sort_by_age() -> None:
    shuffled = ["1.0.0", "0.10.0", "1.0.1", "0.9.0", "1.0.0-rc1"]
    versions = ["0.9.0", "0.10.0", "1.0.0-rc1", "1.0.0", "1.0.1"]
    assert sorted(shuffled, key=version_key) == versions


def test_whoever_only_asks_does_not_load_torch() -> None:
    code = (
        "import sys, models.bundle, models.registry, models.process;"
        "heavy = {'torch', 'monai'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        cwd=Path(__file__).parents[2],
        env=dict(os.environ),
    )
