"""From a folder of originals to a dataset, and the second look, as a researcher types it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from pydicom import dcmread
from typer.testing import CliRunner, Result

from dicom.errors import Conflict, IdentityLeft, InvalidRequest
from dicom.phantom import Person, write_head_study
from node.cli import app

SLICES = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with originals of two patients, and what `radloop deid` made of them."""
    folder = tmp_path_factory.mktemp("research")
    for seed in (1, 2):
        write_head_study(
            folder / "in" / str(seed),
            seed=seed,
            person=Person.drawn(seed),
            slices=SLICES,
            size=32,
        )
    assert radloop("deid", folder / "in", folder / "clean").exit_code == 0
    return folder


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """Undo that a command writes the log to its own standard error, which closes after it."""
    yield
    structlog.reset_defaults()


def radloop(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_the_second_look_compares_every_file_with_its_original(folder: Path):
    done = radloop("verify", folder / "in", folder / "clean", "--json")
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert found == {"clean": 2 * SLICES, "compared": 2 * SLICES, "findings": {}}


def test_the_second_look_tells_what_another_tool_left(folder: Path, tmp_path: Path):
    clean = next((folder / "clean").rglob("*.dcm"))
    ds = dcmread(clean)
    ds.StudyDescription = Person.drawn(1).name.split("^")[0]
    ds.save_as(tmp_path / "left.dcm")
    done = radloop("verify", folder / "in", tmp_path / "left.dcm", "--json")
    assert done.exit_code == 3
    assert json.loads(done.stdout)["findings"] == {"left.dcm": ["name: header"]}
    assert Person.drawn(1).name.split("^")[0] not in done.output
    (tmp_path / "notes.txt").write_text(f"patient {Person.drawn(2).patient_id}")
    (tmp_path / "broken.dcm").write_bytes(b"no DICOM")
    done = radloop("verify", folder / "in", tmp_path, "--json")
    assert set(json.loads(done.stdout)["findings"]) == {"left.dcm", "notes.txt", "broken.dcm"}


def test_an_export_is_written_checked_and_never_written_over(folder: Path, tmp_path: Path):
    words = ("export", folder / "clean", tmp_path / "out", "--name", "heads")
    words += ("--format", "dicom", "--format", "nifti", "--original", folder / "in")
    done = radloop(*words)
    assert done.exit_code == 0, done.output
    assert "2 cases" in done.output
    assert isinstance(radloop(*words).exception, Conflict)


@pytest.mark.parametrize("target", ["out", "out.zip"])
def test_an_export_is_compared_with_its_manifest(folder: Path, tmp_path: Path, target: str):
    home = tmp_path / target
    words = ("export", folder / "clean", home, "--name", "heads", "--format", "nifti")
    assert radloop(*words).exit_code == 0
    assert "as it was written" in radloop("check-export", home).output
    if home.is_file():
        shutil.unpack_archive(home, tmp_path / "unpacked")
        home = next((tmp_path / "unpacked").rglob("manifest.json")).parent
    assert radloop("check-export", home).exit_code == 0
    (home / "CARD.md").write_text("better than it was")
    (home / "more.txt").write_text("")
    next(home.rglob("*.nii.gz")).unlink()
    done = radloop("check-export", home)
    assert done.exit_code == 3
    assert "3 files differ" in done.output
    if target.endswith(".zip"):
        again = shutil.make_archive(str(tmp_path / "again"), "zip", home)
        assert "3 files differ" in radloop("check-export", again).output
    assert isinstance(radloop("check-export", folder / "clean").exception, InvalidRequest)


def test_an_export_of_originals_is_refused_and_leaves_nothing(folder: Path, tmp_path: Path):
    for kind in ("dicom", "nifti"):
        done = radloop(
            *("export", folder / "in", tmp_path / "out", "--name", "heads"),
            *("--format", kind, "--original", folder / "in"),
        )
        assert isinstance(done.exception, IdentityLeft)
        assert list(tmp_path.iterdir()) == []


def test_labels_are_needed_where_a_format_needs_them(folder: Path, tmp_path: Path):
    done = radloop(
        *("export", folder / "clean", tmp_path / "out.zip", "--name", "heads"),
        *("--format", "nnunet"),
    )
    assert isinstance(done.exception, InvalidRequest)
    assert list(tmp_path.iterdir()) == []
