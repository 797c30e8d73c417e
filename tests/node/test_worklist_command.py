"""The worklist as it is asked for in the shell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner, Result

from dicom.errors import InvalidRequest
from node.cli import app
from tests.node.front import complete, make_front

STUDY = "2.25.4711"


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """Undo that a command writes the log to its own standard error, which closes after it."""
    yield
    structlog.reset_defaults()


def radloop(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["worklist", *words, "--data", str(folder)])


def test_the_next_case_is_told_with_its_reason_and_held_when_asked(tmp_path: Path) -> None:
    front = make_front(tmp_path)
    complete(front.parts, STUDY)
    content = {f"{STUDY}.1": "f"}
    front.parts.jobs.schedule(STUDY, complete=content, as_of={}, job_id=None, new={})
    told = radloop(tmp_path, "next", "--reader", "rita", "--claim")
    assert told.exit_code == 0, told.output
    assert STUDY in told.output and "the oldest of priority routine" in told.output
    assert front.parts.reading.worklist.case(STUDY).holder == "rita"
    assert "rita" in radloop(tmp_path, "list").output
    nothing = radloop(tmp_path, "next", "--reader", "admin", "--by", "uncertainty")
    assert nothing.exit_code == 1 and "Nothing waits" in nothing.output


def test_only_who_reads_has_a_next_case(tmp_path: Path) -> None:
    make_front(tmp_path)
    for words in (("--reader", "rob"), ("--reader", "rita", "--by", "size")):
        refused = radloop(tmp_path, "next", *words)
        assert isinstance(refused.exception, InvalidRequest)
