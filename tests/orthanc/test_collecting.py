"""Collecting for a project: its own copy in the research archive, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom.archive import Archive
from dicom.deid import Deidentifier, Heads
from dicom.errors import IdentityLeft
from dicom.profile import Option
from pipelines.collecting import Collector
from pipelines.identity import Vault
from pipelines.keyring import KeyRing
from pipelines.projects import NODE, Project
from pipelines.store import Database, SealedIdentities, Trail
from tests.orthanc import servers
from tests.planted import as_file, slice_of_mr

pytestmark = pytest.mark.orthanc

RING = KeyRing((bytes(range(32)),))


@pytest.fixture
def research(tmp_path: Path) -> Iterator[Archive]:
    with (
        servers.running(servers.research_config(tmp_path / "research")) as (orthanc,),
        orthanc.archive() as archive,
    ):
        yield archive


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'radloop.db'}")
    database.migrate()
    yield database
    database.close()


def collector(project: Project, database: Database, research: Archive) -> Collector:
    key = RING.pseudonym_key(project.name)
    trail = Trail(database, b"audit key")
    return Collector(
        project=project,
        engine_for=lambda _: Deidentifier(project.profile, key, heads=project.heads),
        key=key,
        vault=Vault(RING, SealedIdentities(database), trail, project=project.name),
        research=research,
        trail=trail,
        others_of=partial(node_vault(database).others_of, actor="worker", reason="second look"),
    )


def node_vault(database: Database) -> Vault:
    return Vault(RING, SealedIdentities(database), Trail(database, b"audit key"))


def series(folder: Path, **attributes: str) -> list[Path]:
    folder.mkdir()
    return [
        as_file(slice_of_mr(SOPInstanceUID=f"1.2.826.77.1.{n}", **attributes), folder / f"{n}.dcm")
        for n in range(3)
    ]


def test_a_project_gets_its_own_copy_and_the_way_back(database, research, tmp_path):
    sources = series(tmp_path / "in")
    project = Project("stroke", heads=Heads.KEEP)
    one = collector(project, database, research)
    for _ in range(2):  # a step that was interrupted runs again
        assert one.collect("2.25.7", sources, tmp_path / "copies") == 3
    assert not (tmp_path / "copies").exists()
    engine = Deidentifier(project.profile, RING.pseudonym_key("stroke"))
    expected, _ = engine.deidentify(dcmread(sources[0]))
    (stored,) = research.lookup("series", expected.SeriesInstanceUID)
    fetched = research.fetch(research.series(stored), tmp_path / "fetched")
    assert len(fetched.instances) == 3
    assert dcmread(fetched.instances[0].path).PatientID == expected.PatientID
    back = one.vault.unseal(expected.StudyInstanceUID, actor="test", reason="test")
    assert back.uids[expected.StudyInstanceUID] == "1.2.826.77.2"


def test_what_a_project_refuses_is_not_stored_and_is_written_down(database, research, tmp_path):
    sources = series(tmp_path / "in")
    assert (
        collector(Project("liver"), database, research).collect(
            "2.25.7", sources, tmp_path / "copies"
        )
        == 0
    )
    assert research.lookup("series", "1.2.826.77.3") == ()
    events = Trail(database, b"audit key").events(limit=5)
    (event,) = [event for event in events if event.action == "collect"]
    assert (event.outcome, event.object) == ("head_not_defaced", "2.25.7")
    assert "liver" in event.reason
    assert not SealedIdentities(database).any()


def test_where_uids_are_kept_the_vaults_rows_still_have_pseudonyms(database, research, tmp_path):
    project = Project("trial", (Option.RETAIN_UIDS,), heads=Heads.KEEP)
    one = collector(project, database, research)
    assert one.collect("2.25.7", series(tmp_path / "in"), tmp_path / "copies") == 3
    assert len(research.lookup("series", "1.2.826.77.3")) == 1
    (row,) = SealedIdentities(database).every_sealed()
    assert row.study_id.startswith("2.25.")
    back = one.vault.unseal(row.study_id, actor="test", reason="test")
    assert back.uids[row.study_id] == "1.2.826.77.2"


def test_a_name_that_only_another_study_of_the_patient_gives_away_is_found(
    database, research, tmp_path
):
    """The device wrote it; nothing in this series says that somebody is called so."""
    project = Project("stroke", heads=Heads.KEEP)
    one = collector(project, database, research)
    sources = series(tmp_path / "in", SoftwareVersions="FEVERFEW 3")
    assert one.collect("2.25.7", sources, tmp_path / "copies") == 3
    (stored,) = research.lookup("patients", one.vault.pseudonym("MRN-4711", "St. Elsewhere"))
    research.delete("patients", stored)
    _, older = Deidentifier(NODE.profile, RING.pseudonym_key()).deidentify(
        slice_of_mr(StudyInstanceUID="1.2.826.77.9", ReferringPhysicianName="Feverfew^Ann")
    )
    node_vault(database).seal(older)
    with pytest.raises(IdentityLeft):
        one.take("2.25.7", sources, tmp_path / "copies")
    assert research.lookup("patients", one.vault.pseudonym("MRN-4711", "St. Elsewhere")) == ()
    told = Trail(database, b"audit key").events(limit=5)
    assert {event.outcome for event in told} >= {"identity_left", "ok"}
    assert "identity.compare" in {event.action for event in told}
