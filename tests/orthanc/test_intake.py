"""Intake on a real archive: when a series counts as quiet, and what is asked for ahead of that."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dicom.archive import Archive
from dicom.dimse import store
from dicom.phantom import WrittenHead, write_head_study
from dicom.uids import derived_uid
from pipelines.intake import Intake
from pipelines.store import Database, Jobs, SeriesView, Studies
from tests.node.front import migrated_database
from tests.orthanc.servers import SENDER_AET, RunningOrthanc

pytestmark = pytest.mark.orthanc

SLICES, QUIET_S = 6, 0.5


@pytest.fixture
def head(tmp_path: Path) -> WrittenHead:
    return write_head_study(tmp_path / "head", slices=SLICES, size=32, plane="axial")


@pytest.fixture
def archive(clinical: RunningOrthanc) -> Iterator[Archive]:
    with clinical.archive() as archive:
        yield archive


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return migrated_database(tmp_path / "rows.db")


@pytest.fixture
def intake(archive: Archive, database: Database) -> Intake:
    return made_intake(archive, database)


def made_intake(archive: Archive, database: Database, *, quiet_s: float = QUIET_S) -> Intake:
    return Intake(
        archive,
        Studies(database),
        Jobs(database),
        pseudonym=lambda uid: derived_uid("p", uid),
        quiet_s=quiet_s,
    )


def send(clinical: RunningOrthanc, head: WrittenHead, part: slice) -> None:
    files = [instance.path for instance in head.series.instances][part]
    store(clinical.peer, files, calling_aet=SENDER_AET)


def received(database: Database) -> SeriesView:
    (one,) = Studies(database).receiving()
    return one


def stored_files(archive: Archive, head: WrittenHead, folder: Path) -> list[Path]:
    (series_id,) = archive.lookup("series", head.series.series_uid)
    return [i.path for i in archive.fetch(archive.series(series_id), folder).instances]


def test_quiet_begins_when_the_last_slice_was_stored_not_when_it_is_seen(
    clinical: RunningOrthanc, head: WrittenHead, intake: Intake, database: Database
) -> None:
    intake.look()
    send(clinical, head, slice(0, SLICES))
    sent = datetime.now(UTC)
    time.sleep(QUIET_S)
    intake.look()  # sees it for the first time, and that it has been quiet long enough
    assert Studies(database).receiving() == []
    (job,) = Jobs(database).jobs()
    (series,) = Studies(database).series_of(job.study_id)
    assert series.changed_at <= sent
    assert series.instance_count == SLICES


def test_a_storage_whose_clock_is_late_does_not_cut_the_quiet_time(
    clinical: RunningOrthanc,
    head: WrittenHead,
    archive: Archive,
    database: Database,
    tmp_path: Path,
) -> None:
    intake = made_intake(archive, database, quiet_s=600)  # however slow this machine is
    intake.look()
    looked = datetime.now(UTC)
    send(clinical, head, slice(0, SLICES))
    long_ago = (looked - timedelta(hours=1)).timestamp()
    for path in stored_files(archive, head, tmp_path):
        os.utime(path, (long_ago, long_ago))
    before = datetime.now(UTC)
    intake.look()
    assert looked - timedelta(minutes=1) <= received(database).changed_at <= before


def test_each_slice_that_comes_makes_another_state(
    clinical: RunningOrthanc,
    head: WrittenHead,
    archive: Archive,
    intake: Intake,
    database: Database,
    tmp_path: Path,
) -> None:
    send(clinical, head, slice(0, 2))
    intake.look()
    first = received(database).changed_at
    send(clinical, head, slice(2, 4))
    for path in stored_files(archive, head, tmp_path):
        os.utime(path, (first.timestamp() - 60,) * 2)
    intake.look()
    assert received(database).changed_at > first


@pytest.mark.parametrize("late", [False, True])
def test_digests_that_were_asked_for_ahead_are_those_of_the_content(
    clinical: RunningOrthanc,
    head: WrittenHead,
    archive: Archive,
    intake: Intake,
    database: Database,
    late: bool,
) -> None:
    first = SLICES - 1 if late else SLICES
    send(clinical, head, slice(0, first))
    intake.look()
    time.sleep(QUIET_S / 3)
    intake.look_ahead()
    send(clinical, head, slice(first, SLICES))
    deadline = time.monotonic() + 20
    while not Jobs(database).jobs():
        assert time.monotonic() < deadline
        intake.look()
        time.sleep(0.05)
    (job,) = Jobs(database).jobs()
    (series,) = Studies(database).series_of(job.study_id)
    (orthanc_id,) = archive.lookup("series", head.series.series_uid)
    assert series.fingerprint == archive.fingerprint(archive.series(orthanc_id))


def test_of_a_sender_that_goes_on_digests_are_asked_for_once_they_are_many(
    clinical: RunningOrthanc,
    head: WrittenHead,
    intake: Intake,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipelines.intake._MANY", 4)
    monkeypatch.setattr(intake, "_quiet_s", 600.0)  # nothing seems to pause here
    known = []
    for part in (slice(0, 3), slice(3, 4), slice(4, 5)):
        send(clinical, head, part)
        intake.look()
        intake.look_ahead()
        known.append([len(one) for one in intake._digests.values()])
    assert known == [[0], [4], [4]]


def test_a_slice_that_is_deleted_meanwhile_is_not_in_the_digest(
    clinical: RunningOrthanc,
    head: WrittenHead,
    archive: Archive,
    intake: Intake,
    database: Database,
) -> None:
    send(clinical, head, slice(0, SLICES))
    intake.look()
    time.sleep(QUIET_S / 3)
    intake.look_ahead()
    (instance_id,) = archive.lookup("instances", head.series.instances[0].sop_instance_uid)
    archive.delete("instances", instance_id)
    time.sleep(QUIET_S)
    intake.look()
    (job,) = Jobs(database).jobs()
    (series,) = Studies(database).series_of(job.study_id)
    (orthanc_id,) = archive.lookup("series", head.series.series_uid)
    left = archive.series(orthanc_id)
    assert len(left.instances) == SLICES - 1
    assert series.fingerprint == archive.fingerprint(left)
