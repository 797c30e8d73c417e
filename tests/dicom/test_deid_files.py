"""Files and folders: whole or not at all, and nothing in their names."""

from __future__ import annotations

import pytest
from pydicom import dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
)

from dicom.deid import Cleaned, Deidentifier, Quarantined
from dicom.profile import node_profile
from dicom.uids import pseudonym_uid
from tests.planted import (
    KEY,
    as_file,
    clean_file,
    slice_of_mr,
)


def test_the_same_file_gives_the_same_bytes(engine, tmp_path):
    source = as_file(slice_of_mr(), tmp_path / "a.dcm")
    first = clean_file(engine, source, tmp_path)[0].read_bytes()
    again = clean_file(Deidentifier(node_profile(), KEY), source, tmp_path)[0].read_bytes()
    assert first == again


def test_a_file_name_gives_nothing_away_and_nothing_half_written_stays(engine, tmp_path):
    source = as_file(slice_of_mr(), tmp_path / "WAGNER_JOHANNA.dcm")
    clean, _ = clean_file(engine, source, tmp_path)
    assert clean.name == pseudonym_uid(KEY, "1.2.826.77.1.1") + ".dcm"
    assert [path.name for path in clean.parent.iterdir()] == [clean.name]


def test_a_deflated_file_stays_deflated(engine, tmp_path):
    source = as_file(slice_of_mr(), tmp_path / "a.dcm", DeflatedExplicitVRLittleEndian)
    clean, _ = clean_file(engine, source, tmp_path)
    written = dcmread(clean)
    assert written.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian
    assert written.PixelData == slice_of_mr().PixelData
    assert written.PatientIdentityRemoved == "YES"


def test_a_folder_is_done_file_by_file_and_the_rest_is_quarantined(engine, tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    (source / "deep").mkdir(parents=True)
    as_file(slice_of_mr(), source / "a.dcm")
    as_file(slice_of_mr(), source / "b.dcm")  # the same instance again
    as_file(slice_of_mr(SOPInstanceUID="1.2.826.77.1.2"), source / "deep" / "c")
    as_file(slice_of_mr(BurnedInAnnotation="YES"), source / "d.dcm")
    (source / "notes.txt").write_text("Wagner, Johanna")
    (source / "empty.dcm").touch()
    outcomes = {path.source.name: path for path in engine.deidentify_folder(source, target)}
    done = [outcome for outcome in outcomes.values() if isinstance(outcome, Cleaned)]
    held = {
        name: outcome.error.code
        for name, outcome in outcomes.items()
        if isinstance(outcome, Quarantined)
    }
    assert held == {
        "b.dcm": "cannot_deidentify",
        "d.dcm": "burned_in_text",
        "notes.txt": "not_dicom",
        "empty.dcm": "not_dicom",
    }
    assert sorted(outcome.instance.path for outcome in done) == sorted(target.rglob("*.dcm"))
    ds = dcmread(done[0].instance.path)
    parts = done[0].instance.path.relative_to(target).parts
    assert parts[:3] == (ds.PatientID, ds.StudyInstanceUID, ds.SeriesInstanceUID)


def test_the_target_must_not_lie_in_the_source(engine, tmp_path):
    with pytest.raises(ValueError, match="within"):
        next(engine.deidentify_folder(tmp_path, tmp_path / "out"))
