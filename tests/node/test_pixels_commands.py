"""Text in pixels from the shell: masked by `deid --clean-pixels`, read by `verify --pixels`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from typer.testing import CliRunner

from dicom.burned_in import is_installed
from dicom.profile import Option
from node.cli import app
from node.engines import open_engine
from pipelines.projects import Project
from tests.dicom.test_burned_in import image, needs_fonts
from tests.drawn import background, stamp

pytestmark = [
    pytest.mark.skipif(not is_installed(), reason="needs rapidocr and onnxruntime"),
    needs_fonts,
]

MARKER, NAME = (slice(20, 80), slice(20, 70)), (slice(200, 260), slice(60, 400))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a secondary capture with a side marker and the patient's name in its pixels."""
    pixels = background("soft", 320, 440, np.random.default_rng(6))
    for where, text, height in ((MARKER, "L", 34), (NAME, "GRUENWALD ERIKA", 18)):
        ink = stamp(text, height, 0, "DejaVuSans-Bold.ttf")
        top, left = where[0].start + 8, where[1].start + 10
        part = pixels[top : top + ink.shape[0], left : left + ink.shape[1]]
        part[...] = part * (1 - ink) + 255 * ink
    ds = image(pixels, Modality="OT", PatientName="Gruenwald^Erika", PatientID="MRN-4711-0815")
    path = tmp_path_factory.mktemp("original") / "capture.dcm"
    ds.save_as(path, enforce_file_format=True)
    return path


def test_a_name_is_masked_and_no_longer_read(original: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke
    plain = run(app, ["deid", str(original), str(tmp_path / "plain")])
    assert plain.exit_code == 0, plain.output
    told = run(app, ["verify", str(original), str(tmp_path / "plain"), "--pixels"])
    assert told.exit_code == 3
    assert "name: pixels, frame 1" in told.output
    assert "GRUENWALD" not in told.output.upper()
    masked = run(app, ["deid", str(original), str(tmp_path / "clean"), "--clean-pixels"])
    assert masked.exit_code == 0, masked.output
    told = run(app, ["verify", str(original), str(tmp_path / "clean"), "--pixels"])
    assert told.exit_code == 0, told.output
    (path,) = (tmp_path / "clean").rglob("*.dcm")
    ds = dcmread(path)
    assert ds.BurnedInAnnotation == "NO"
    assert "113101" in {item.CodeValue for item in ds.DeidentificationMethodCodeSequence}


@pytest.mark.parametrize("kept", [False, True])
def test_a_project_says_whether_side_markers_stay(
    original: Path, tmp_path: Path, kept: bool
) -> None:
    project = Project("chest", options=(Option.CLEAN_PIXEL_DATA,), side_markers=kept)
    open_engine(project, bytes(32)).deidentify_file(original, tmp_path)
    (path,) = tmp_path.rglob("*.dcm")
    before, after = dcmread(original).pixel_array, dcmread(path).pixel_array
    assert (after[MARKER] == before[MARKER]).all() == kept
    assert (after[NAME] == after.min()).any()
