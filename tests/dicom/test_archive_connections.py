"""The archive's client where the archive closes a connection at the wrong moment."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dicom.archive import Archive
from dicom.archive.values import ArchivedInstance, ArchivedSeries
from dicom.errors import PeerUnreachable
from tests.hanging_up import hanging_up

ANSWER = json.dumps({"ID": "an-id", "Last": 7}).encode()
INSTANCE = ArchivedInstance("an-id", "1.2.3", "1.2.840.10008.5.1.4.1.1.4", "a-file", len(ANSWER))


def stored(archive: Archive, _folder: Path) -> None:
    assert archive.store(b"a file") == "an-id"


def deleted(archive: Archive, _folder: Path) -> None:
    archive.delete("instances", "an-id")


def read(archive: Archive, _folder: Path) -> None:
    assert archive.file_of("an-id") == ANSWER


def fetched(archive: Archive, folder: Path) -> None:
    series = ArchivedSeries("a-series", "a-study", "1", "1.2", "MR", (INSTANCE,))
    (instance,) = archive.fetch(series, folder).instances
    assert instance.path.read_bytes() == ANSWER
    instance.path.unlink()


@pytest.mark.parametrize("does", [stored, deleted, read, fetched])
def test_what_met_a_closed_connection_is_sent_again(
    does: Callable[[Archive, Path], None], tmp_path: Path
) -> None:
    with hanging_up(ANSWER) as server, Archive(server.url, "user", "password") as archive:
        does(archive, tmp_path)
        does(archive, tmp_path)
        # The second request met a connection that was closed, and came again on a new one.
        assert len(server.heard) == 3
        assert len(server.answered) == 2
        assert len(set(server.heard)) == 1


def test_an_archive_that_is_gone_is_said_without_its_address() -> None:
    with hanging_up(ANSWER) as server, Archive(server.url, "user", "password") as archive:
        deleted(archive, Path())
    with pytest.raises(PeerUnreachable) as caught, Archive(server.url, "u", "p") as archive:
        archive.delete("instances", "an-id")
    assert "an-id" not in str(caught.value)
    assert caught.value.__cause__ is None
