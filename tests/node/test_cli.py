"""The command line, as a person and a script use it: texts, exit codes, no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from pydicom import dcmread

from dicom.phantom import write_head_study
from tests.bundles import write_threshold_bundle
from tests.shell import as_said


def started(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Start Python anew for a command, as a shell does."""
    command = [sys.executable, "-m", "node", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=200)


def test_help_names_every_command(tmp_path: Path):
    done = started("--help", cwd=tmp_path)
    assert done.returncode == 0
    commands = "up worker migrate check send jobs deid predict demo routes token user"
    assert all(command in done.stdout for command in commands.split())


def test_a_misspelt_setting_is_named_without_a_traceback(tmp_path: Path):
    (tmp_path / "radloop.toml").write_text("[front]\nprot = 8000\n")
    done = started("jobs", cwd=tmp_path)
    assert done.returncode == 2
    assert "front.prot" in done.stderr
    assert "did you mean port" in done.stderr
    assert "Traceback" not in done.stderr


def test_check_says_what_is_wrong_and_exits_1(tmp_path: Path):
    (tmp_path / "bundles" / "broken").mkdir(parents=True)
    (tmp_path / "radloop.toml").write_text(
        """
[models]
folders = ["bundles"]
[[route]]
name = "nowhere"
bundle = "no_such_model"
[[peer]]
name = "pacs"
aet = "PACS"
host = "127.0.0.1"
port = 9
"""
    )
    done = as_said("check", cwd=tmp_path)
    assert done.returncode == 1
    for code in ("invalid_bundle", "unknown_bundle", "peer_unreachable"):
        assert code in done.stdout


def test_a_folder_without_its_identity(tmp_path: Path):
    written = write_head_study(tmp_path / "in", slices=3, size=32)
    (tmp_path / "in" / "notes.txt").write_text("no DICOM")
    done = as_said("deid", "in", "out", "--key", "key", cwd=tmp_path)
    assert done.returncode == 3  # the text file was held back
    assert "not_dicom" in done.stdout
    files = sorted((tmp_path / "out").rglob("*.dcm"))
    assert len(files) == 3
    assert dcmread(files[0]).PatientIdentityRemoved == "YES"
    assert str(written.person.patient_id) not in "".join(str(file) for file in files)
    assert "3 by the fast engine" in done.stdout
    again = as_said("deid", "in", "out2", "--key", "key", "--engine", "careful", cwd=tmp_path)
    assert again.returncode == 3
    assert "3 by the careful engine" in again.stdout
    for file in files:
        same = tmp_path / "out2" / file.relative_to(tmp_path / "out")
        assert same.read_bytes() == file.read_bytes()


def test_a_bundle_on_a_folder_and_on_nifti(tmp_path: Path):
    write_head_study(tmp_path / "in", slices=12, size=32)
    bundle = write_threshold_bundle(tmp_path)
    done = as_said("predict", bundle, "in", "out", "--device", "cpu", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    seg = dcmread(tmp_path / "out" / "series-1.seg.dcm")
    labels = nibabel.load(tmp_path / "out" / "series-1.labels.nii.gz")
    inside = int(np.asarray(labels.dataobj).astype(bool).sum())
    assert inside == int(np.unpackbits(np.frombuffer(seg.PixelData, np.uint8)).sum()) > 0

    image = nibabel.Nifti1Image(np.full((8, 9, 10), 200, np.int16), np.eye(4))
    nibabel.save(image, tmp_path / "image.nii.gz")
    done = as_said("predict", bundle, "image.nii.gz", "out", "--device", "cpu", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    made = nibabel.load(tmp_path / "out" / "image.labels.nii.gz")
    assert made.shape == (8, 9, 10)
    assert np.asarray(made.dataobj).min() == 1


@pytest.mark.parametrize(
    "words",
    [
        ("explain", "1.2.3"),
    ],
)
def test_an_unknown_study_is_said(tmp_path: Path, words: tuple[str, ...]):
    done = as_said("routes", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert "not_found" in done.stderr


def test_a_token_is_printed_once_and_listed_without_its_secret(tmp_path: Path):
    password = "long enough for this"
    added = as_said(
        "user", "add", "rita", "--role", "radiologist", "--password", password, cwd=tmp_path
    )
    assert added.returncode == 0, added.stderr
    made = as_said("token", "create", "script", "--user", "rita", cwd=tmp_path)
    secret = made.stdout.strip()
    assert len(secret) > 40
    listed = as_said("token", "list", cwd=tmp_path)
    assert "script" in listed.stdout
    assert secret not in listed.stdout
    assert as_said("token", "revoke", "script", cwd=tmp_path).returncode == 0
    assert "revoked" in as_said("token", "list", cwd=tmp_path).stdout
    assert as_said("token", "revoke", "nothing", cwd=tmp_path).returncode == 2
