"""Logs: no field, message or library can bring a name out."""

import json
import subprocess
import sys

import pytest

SECRET = "Kowalski^Jan"


def logged(code: str, *, level: str = "info") -> list[dict[str, object]]:
    """Run `code` in a process of its own, as the node's are; return the lines of its log."""
    program = (
        "import logging, threading, structlog\n"
        "from node import log\n"
        f"log.configure('worker', level={level!r}, json=True)\n"
        f"SECRET = {SECRET!r}\n"
        "logger = structlog.get_logger()\n" + code
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert SECRET not in done.stderr + done.stdout
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_a_line_is_one_event_with_its_facts():
    (line,) = logged("logger.info('step_done', job='j1', seconds=1.5)")
    assert line.pop("timestamp")
    assert line == {
        "event": "step_done",
        "job": "j1",
        "seconds": 1.5,
        "level": "info",
        "process": "worker",
    }


def test_a_field_that_is_not_known_to_be_safe_is_dropped_and_named():
    (line,) = logged("logger.info('seen', job='j1', patient=SECRET, PatientName=SECRET)")
    assert line["dropped"] == ["PatientName", "patient"]
    assert line["job"] == "j1"


def test_a_bound_field_is_judged_too():
    (line,) = logged(
        "structlog.contextvars.bind_contextvars(patient=SECRET, study='2.25.1')\n"
        "logger.bind(comment=SECRET).info('seen')"
    )
    assert (line["dropped"], line["study"]) == (["comment", "patient"], "2.25.1")


def test_an_exception_is_logged_by_its_frames():
    (line,) = logged(
        "def inner():\n"
        "    raise ValueError(SECRET)\n"
        "try:\n"
        "    try:\n"
        "        inner()\n"
        "    except ValueError as error:\n"
        "        raise KeyError(SECRET) from error\n"
        "except KeyError:\n"
        "    logger.exception('workflow_broke')\n"
    )
    trace = line["traceback"]
    assert isinstance(trace, list)
    assert [each for each in trace if ":" not in each] == ["KeyError", "ValueError"]
    assert any(each.endswith(" inner") for each in trace)


@pytest.mark.parametrize("level", ["warning", "error", "critical"])
def test_a_library_says_where_and_never_what(level):
    (line,) = logged(f"logging.getLogger('pynetdicom.acse').{level}('from %s', SECRET)")
    assert (line["event"], line["name"]) == ("library_warning", "pynetdicom.acse")


def test_a_library_that_logs_an_exception_gives_frames():
    (line,) = logged(
        "try:\n"
        "    raise RuntimeError(SECRET)\n"
        "except RuntimeError:\n"
        "    logging.getLogger('x').exception(SECRET)\n"
    )
    trace = line["traceback"]
    assert isinstance(trace, list)
    assert trace[0] == "RuntimeError"


def test_what_a_library_tells_below_a_warning_is_not_heard():
    assert logged("logging.getLogger('httpx').info('GET %s', SECRET)", level="debug") == []


def test_below_the_chosen_level_nothing_is_written():
    lines = logged("logger.info('a')\nlogger.warning('b')", level="warning")
    assert [line["event"] for line in lines] == ["b"]


def test_a_process_that_ends_by_a_mistake_says_so_without_its_message():
    (line,) = logged("raise RuntimeError(SECRET)")
    assert line["event"] == "crashed"
    assert line["traceback"][0] == "RuntimeError"  # type: ignore[index]  # a list by the test above


def test_a_thread_that_ends_by_a_mistake_says_so_without_its_message():
    (line,) = logged(
        "def run():\n"
        "    raise RuntimeError(SECRET)\n"
        "thread = threading.Thread(target=run)\n"
        "thread.start(); thread.join()\n"
    )
    assert line["event"] == "crashed"
