"""The floors hold, and each contract would notice when they did not."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIGURATION = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
PACKAGES = CONFIGURATION["root_packages"]
CONTRACTS = [contract["name"] for contract in CONFIGURATION["contracts"]]

# What somebody might write in a hurry, for each contract: a module, and its line.
HURRIED = {
    "floors": ("dicom/study.py", "import models.bundle"),
    "the ground floor knows DICOM only": ("dicom/study.py", "import torch"),
    "models see arrays: no network, no database, no identity": ("models/bundle.py", "import httpx"),
    "one room knows the durable engine": ("pipelines/intake.py", "import dbos"),
    "two rooms speak SQL": ("pipelines/intake.py", "import sqlalchemy"),
    "no circles": ("dicom/study.py", "import dicom.volume"),
    "the plugin stands alone inside Orthanc": (
        "node/plugin/radloop_plugin.py",
        "import node.settings",
    ),
}


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the four packages' code, to break."""
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package,
            tmp_path / package,
            ignore=lambda folder, names: [
                name
                for name in names
                if name == "bundles" or (Path(folder) / name).suffix not in ("", ".py")
            ],
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def broken(house: Path) -> set[str]:
    """Return the names of the contracts that do not hold."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=house,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Contracts:" in done.stdout, done.stdout + done.stderr
    found = {name for name in CONTRACTS if f"{name} BROKEN" in " ".join(done.stdout.split())}
    assert (done.returncode != 0) == bool(found)
    return found


def test_every_contract_has_somebody_who_breaks_it():
    assert set(HURRIED) == set(CONTRACTS)


def test_the_house_stands(house):
    assert broken(house) == set()


@pytest.mark.parametrize("contract", CONTRACTS)
def test_a_contract_notices(house, contract):
    module, line = HURRIED[contract]
    with (house / module).open("a") as file:
        file.write(f"\n{line}\n")
    assert contract in broken(house)
