"""Projects from settings to the shell and the page."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
from pydicom import dcmread
from pydicom.uid import CTImageStorage
from typer.testing import CliRunner

from dicom.deid import Identity
from dicom.errors import ConflictingOptions, InvalidSettings, NotFound
from dicom.phantom import write_head_study
from dicom.profile import Option
from node import wiring
from node.app import create_app
from node.check import check
from node.cli import app
from node.keys import open_secrets
from node.settings import load_settings
from pipelines.identity import Vault
from pipelines.projects import Project
from pipelines.store import Database, SealedIdentities, Trail
from tests.node.front import Front, make_front
from tests.planted import as_file, slice_of_mr

SETTINGS = """
[[project]]
name = "stroke"
options = ["clean_descriptors", "retain_full_dates", "retain_patient_characteristics"]
heads = "keep"

[[project]]
name = "liver"
collect = false

[[route]]
name = "to-stroke"
project = "stroke"
"""


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """Undo that a command writes the log to its own standard error, which closes after it."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "radloop.toml"
    path.write_text(SETTINGS)
    return path


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_projects_are_read_from_the_settings(config: Path) -> None:
    settings = load_settings(config)
    assert [project.name for project in settings.project] == ["stroke", "liver"]
    assert Option.RETAIN_FULL_DATES in settings.project[0].profile.options
    assert settings.route[0].project == "stroke"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[[project]]\nname = "node"\n', "node"),
        ('[[project]]\nname = "a"\n[[project]]\nname = "a"\n', "twice"),
        ('[[project]]\nname = "a"\noptions = ["retain_everything"]\n', "retain_uids"),
        ('[[project]]\nname = "a"\nhaeds = "keep"\n', "did you mean heads"),
        ('[[route]]\nname = "r"\nproject = "a"\n', "no \\[\\[project"),
        (
            '[[project]]\nname = "a"\ncollect = false\n[[route]]\nname = "r"\nproject = "a"\n',
            "neith",
        ),
    ],
)
def test_a_project_that_makes_no_sense_is_told_in_plain_words(tmp_path, text, why) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(InvalidSettings, match=why):
        load_settings(path)


def test_options_that_exclude_each_other_have_a_code_of_their_own(tmp_path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(
        '[[project]]\nname = "a"\noptions = ["retain_full_dates", "retain_modified_dates"]\n'
    )
    with pytest.raises(ConflictingOptions):
        load_settings(path)


def test_deid_goes_by_the_projects_profile_and_its_own_pseudonyms(config, tmp_path) -> None:
    source = as_file(slice_of_mr(), tmp_path / "a.dcm")
    key = tmp_path / "key"
    seen = {}
    for number, project in enumerate(("node", "stroke", "stroke")):
        out = tmp_path / f"out{number}"
        arguments = ("deid", source, out, "--key", key, "--project", project, "--config", config)
        assert run(*arguments)[0] == 0
        seen[number] = dcmread(next(out.rglob("*.dcm")))
    node, stroke, again = seen.values()
    assert stroke.StudyDate == "20240229" != node.StudyDate
    assert stroke.PatientAge == "090Y" and "PatientAge" not in node
    assert stroke.PatientID == again.PatientID != node.PatientID
    assert stroke.LongitudinalTemporalInformationModified == "UNMODIFIED"


def test_deid_with_a_project_that_refuses_heads_holds_them_back(config, tmp_path) -> None:
    source = as_file(slice_of_mr(), tmp_path / "a.dcm")
    code, said = run("deid", source, tmp_path / "out", "--project", "liver", "--config", config)
    assert code == 3 and "head_not_defaced" in said
    assert not list((tmp_path / "out").rglob("*.dcm"))
    with pytest.raises(NotFound):
        run("deid", source, tmp_path / "out", "--project", "heart", "--config", config)


@pytest.mark.parametrize(
    ("study", "changed"),
    [
        ("one slice", {}),
        ("CT", {"Modality": "CT", "SOPClassUID": str(CTImageStorage)}),
        ("another contrast", {"EchoTime": "90", "RepetitionTime": "4000"}),
    ],
)
def test_a_project_that_defaces_takes_no_head_that_it_cannot_deface(
    tmp_path: Path, study: str, changed: dict[str, str]
) -> None:
    """Defacing was measured on volumes of T1 alone: no brain is asked for, none is guessed."""
    config = tmp_path / "radloop.toml"
    config.write_text('[[project]]\nname = "faces"\nheads = "deface"\n')
    write_head_study(tmp_path / "in", seed=5, slices=1 if study == "one slice" else 12, size=32)
    for path in sorted((tmp_path / "in").rglob("*.dcm")):
        ds = dcmread(path)
        for keyword, value in changed.items():
            setattr(ds, keyword, value)
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
        ds.save_as(path)
    code, said = run(
        "deid", tmp_path / "in", tmp_path / "out", "--project", "faces", "--config", config
    )
    assert code == 3, said
    assert "cannot_deface" in said
    assert not list((tmp_path / "out").rglob("*.dcm"))


def test_a_full_disk_ends_the_command_and_leaves_nothing_half(tmp_path: Path) -> None:
    """The kernel's own refusal: no file of the command may be longer than the header is."""
    source = as_file(
        slice_of_mr(Rows=200, Columns=200, PixelData=bytes(80_000)), tmp_path / "a.dcm"
    )
    before = source.read_bytes()
    command = (sys.executable, "-m", "node", "deid", str(source), str(tmp_path / "out"))

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    done = subprocess.run(
        command, preexec_fn=limited, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode not in (0, 3), done.stdout
    assert "no room" in done.stderr and "Traceback" not in done.stderr
    assert source.read_bytes() == before
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


def test_the_shell_lists_what_happens_to_an_attribute_and_why(config) -> None:
    code, said = run("profile", "--project", "stroke", "--find", "0008,0020", "--config", config)
    assert code == 0
    said = " ".join(said.split())
    assert "Study Date" in said and "retain_full_dates: K" in said
    _, of_ct = run("profile", "--iod", "ct-image", "--find", "0018,1210", "--config", config)
    assert "technical text" in " ".join(of_ct.split())
    with pytest.raises(NotFound):
        run("profile", "--iod", "picture", "--config", config)


@pytest.fixture
def front(tmp_path: Path) -> Front:
    made = make_front(tmp_path)
    projects = (Project("stroke", (Option.RETAIN_UIDS,)),)
    parts = replace(made.parts, projects=projects)
    return Front(create_app(parts), parts)


def test_the_page_lists_every_attribute_of_each_project(front: Front) -> None:
    client = front.client("researcher")
    page = client.get("/profiles").text
    assert page.count("<tr>") > 650
    assert "UIDs replaced by their pseudonyms" in page
    stroke = client.get("/profiles", params={"project": "stroke", "find": "(0008,0018)"}).text
    assert stroke.count("<tr>") == 2  # its head, and one line
    assert "retain_uids: K" in stroke and "Retain UIDs Option" in stroke
    narrowed = client.get("/profiles", params={"iod": "ct-image", "find": "kernel"}).text
    assert "Convolution Kernel" in narrowed


def test_the_page_is_for_those_who_are_logged_in_and_asks_for_what_there_is(front: Front) -> None:
    assert front.client().get("/profiles").status_code in (303, 401)
    client = front.client("researcher")
    assert client.get("/profiles", params={"project": "heart"}).status_code == 404
    assert client.get("/profiles", params={"iod": "picture"}).status_code == 404
    echoed = client.get("/profiles", params={"find": "<script>"}).text
    assert "<script>" not in echoed


def test_the_second_look_goes_by_the_projects_profile(config, tmp_path) -> None:
    source, out = as_file(slice_of_mr(), tmp_path / "a.dcm"), tmp_path / "out"
    assert run("deid", source, out, "--project", "stroke", "--config", config)[0] == 0
    assert run("verify", source, out, "--project", "stroke", "--config", config)[0] == 0
    assert run("verify", source, out, "--config", config)[0] == 3  # the node keeps no ages


def test_the_check_says_which_projects_can_be_carried_out(config, tmp_path) -> None:
    found = {one.what: one.error for one in check(load_settings(config, data=tmp_path))}
    assert found["project stroke"] is None and found["project liver"] is None


def test_a_rotation_seals_the_identities_of_every_project_anew(config, tmp_path) -> None:
    settings = load_settings(config, data=tmp_path / "node")
    settings.data.mkdir()
    secrets = open_secrets(settings)
    database = Database(wiring.database_url(settings))
    database.migrate()
    ring, trail = wiring.key_ring(secrets, database), Trail(database, secrets.audit_key)
    for name in ("node", "stroke"):
        identity = Identity(f"2.25.{len(name)}", {f"2.25.{len(name)}": "1.2.840.77"}, {})
        Vault(ring, SealedIdentities(database), trail, project=name).seal(identity)
    database.close()
    code, said = run("vault", "rotate", "--config", config, "--data", settings.data)
    assert code == 0 and "2 identities" in said
