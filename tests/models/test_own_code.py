"""A bundle's own code runs where exactly this code was allowed, and only in the child."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dicom.errors import CodeRefused, InvalidBundle, WrongHash
from models.bundle import read_bundle
from models.code import allow_code, code_hash
from models.predictor import Predictor
from models.process import PredictorProcess
from models.registry import Registry
from tests.bundles import inference, metadata, write_bundle, write_threshold_bundle

NETWORK = """
import torch
from scripts.parts.numbers import THRESHOLD

class Above(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        from .late import added  # imported while it predicts
        return torch.cat([torch.zeros_like(x), x - THRESHOLD - added()], 1)
"""


def write_own(folder: Path, name: str = "own", threshold: float = 100.0) -> Path:
    """Write a bundle whose network is its own code, in a package with modules of its own."""
    configuration: dict[str, Any] = {**inference()}
    configuration["network_def"] = {"_target_": "scripts.network.Above"}
    root = write_bundle(folder, name, metadata(), configuration, {"weight": torch.zeros(1)})
    (root / "scripts/parts").mkdir(parents=True)
    (root / "scripts/__init__.py").write_text("")
    (root / "scripts/network.py").write_text(NETWORK)
    (root / "scripts/late.py").write_text(f"def added():\n    return {threshold / 2}\n")
    (root / "scripts/parts/numbers.py").write_text(f"THRESHOLD = {threshold / 2}\n")
    return root


VOXELS = np.random.default_rng(4).uniform(0, 300, (4, 5, 6)).astype(np.float32)


def test_code_that_nobody_allowed_is_refused_by_its_hash(tmp_path: Path) -> None:
    root = write_own(tmp_path)
    with pytest.raises(CodeRefused, match=f"bundle own: .*{code_hash(root)}"):
        read_bundle(root)
    assert read_bundle(root, allow_code=[code_hash(root)]).code_sha256 == code_hash(root)
    (broken,) = Registry([tmp_path]).broken
    assert broken.error.code == "code_refused"


def scripts_modules() -> set[str]:
    return {name for name in sys.modules if name.partition(".")[0] == "scripts"}


def test_code_that_was_allowed_runs(tmp_path: Path) -> None:
    root = write_own(tmp_path)
    allow_code(root)
    before = scripts_modules()
    labels_kji = Predictor(read_bundle(root), device="cpu").predict(VOXELS, np.eye(4)).labels_kji
    np.testing.assert_array_equal(labels_kji, VOXELS > 100)
    assert scripts_modules() == before  # the bundle's own went again


def test_two_bundles_keep_their_code_apart(tmp_path: Path) -> None:
    predictors = []
    for name, threshold in (("low", 50.0), ("high", 200.0)):
        root = write_own(tmp_path, name, threshold)
        allow_code(root)
        predictors.append((Predictor(read_bundle(root), device="cpu"), threshold))
    for predictor, threshold in (*predictors, *predictors):
        labels_kji = predictor.predict(VOXELS, np.eye(4)).labels_kji
        np.testing.assert_array_equal(labels_kji, threshold < VOXELS)


@pytest.mark.parametrize("file", ["network.py", "parts/numbers.py", "added.py", "data.bin"])
def test_a_change_of_the_code_needs_another_allowance(tmp_path: Path, file: str) -> None:
    root = write_own(tmp_path)
    allow_code(root)
    before = read_bundle(root)
    path = root / "scripts" / file
    path.write_text((path.read_text() if path.exists() else "") + "\nx = 1\n")
    with pytest.raises(CodeRefused):
        read_bundle(root)
    allow_code(root)
    assert read_bundle(root).sha256 != before.sha256


def test_compiled_code_beside_the_source_is_not_run(tmp_path: Path) -> None:
    import py_compile

    root = write_own(tmp_path)
    allow_code(root)
    source = root / "scripts/late.py"
    kept = source.read_text()
    source.write_text("def added():\n    return 1e9\n")
    compiled = Path(
        py_compile.compile(
            str(source), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
        )
        or ""
    )
    assert compiled.is_file()
    source.write_text(kept)
    labels_kji = Predictor(read_bundle(root), device="cpu").predict(VOXELS, np.eye(4)).labels_kji
    np.testing.assert_array_equal(labels_kji, VOXELS > 100)


def test_a_link_among_the_code_is_refused(tmp_path: Path) -> None:
    root = write_own(tmp_path)
    (root / "scripts/elsewhere.py").symlink_to(tmp_path / "elsewhere.py")
    with pytest.raises(InvalidBundle, match="holds a link"):
        read_bundle(root)


def test_code_runs_in_the_child(tmp_path: Path) -> None:
    allow_code(write_own(tmp_path))
    with PredictorProcess([tmp_path], device="cpu", threads=1) as process:
        labels_kji = process.predict("own", VOXELS, np.eye(4)).labels_kji
    np.testing.assert_array_equal(labels_kji, VOXELS > 100)


def test_code_that_is_not_called_needs_no_allowance(tmp_path: Path) -> None:
    root = write_threshold_bundle(tmp_path)
    (root / "scripts").mkdir()
    (root / "scripts/train.py").write_text("raise SystemExit")
    assert read_bundle(root).code_sha256 == ""


def test_a_file_with_another_hash_than_it_was_installed_with_is_refused(tmp_path: Path) -> None:
    import hashlib

    root = write_threshold_bundle(tmp_path)
    path = root / "configs/metadata.json"
    document = json.loads(path.read_text())
    weights = root / "models/model.pt"
    listed = {"models/model.pt": hashlib.sha256(weights.read_bytes()).hexdigest()}
    document["radloop"]["files"] = listed
    path.write_text(json.dumps(document))
    assert read_bundle(root).name == "threshold"
    torch.save({"weight": torch.zeros(2, 1, 1, 1, 1), "bias": torch.zeros(2)}, weights)
    with pytest.raises(WrongHash, match=r"bundle threshold: models/model\.pt"):
        read_bundle(root)
    document["radloop"]["files"] = {"models/none.pt": "0" * 64}
    path.write_text(json.dumps(document))
    with pytest.raises(InvalidBundle, match=r"models/none\.pt is missing"):
        read_bundle(root)
