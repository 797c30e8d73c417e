"""Logs that let no PHI out: one event a line, facts as fields, and an allow-list of fields.

A field that is not known to be free of PHI is dropped, and its name is kept under `dropped`, so
that a developer sees what is missing. Third-party loggers (HTTP clients write URLs with UIDs,
pynetdicom writes names) are held to warnings, and their free text is cut.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any

import structlog

SAFE_FIELDS = frozenset(
    {
        "action",
        "actor",
        "advice",
        "attempt",
        "bundle",
        "bytes",
        "changes",
        "child",
        "code",
        "count",
        "cursor",
        "delay_s",
        "destination",
        "device",
        "dropped",
        "event",
        "exit_code",
        "file",
        "job",
        "level",
        "line",
        "log_file",
        "message",
        "method",
        "name",
        "pause_s",
        "peer",
        "pid",
        "port",
        "priority",
        "process",
        "reason",
        "reference",
        "route",
        "seconds",
        "series",
        "setting",
        "signal",
        "status",
        "step",
        "study",
        "task",
        "timestamp",
        "traceback",
        "user",
        "version",
        "worker",
    }
)
"""Names of fields that hold no PHI; `study` and `series` are pseudonyms by contract."""


def drop_unknown(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Drop every field that is not in `SAFE_FIELDS`; a structlog processor."""
    unknown = sorted(set(event) - SAFE_FIELDS)
    for name in unknown:
        del event[name]
    if unknown:
        event["dropped"] = unknown
    return event


def configure(process: str, *, level: str = "info", json: bool | None = None) -> None:
    """Send logs to standard error: coloured lines on a terminal, JSON elsewhere.

    Parameters
    ----------
    process : str
        `up`, `front` or `worker`: a field of every line.
    level : str
        The lowest level that is written.
    json : bool, optional
        Force JSON or lines; by default JSON when standard error is no terminal.
    """
    as_json = not sys.stderr.isatty() if json is None else json

    def name_process(
        _logger: object, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        event["process"] = process
        return event

    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        name_process,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _frames_only,
        drop_unknown,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(
        level=logging.WARNING, handlers=[_ToStructlog()], force=True, format="%(message)s"
    )
    sys.excepthook = _log_crash
    threading.excepthook = lambda crash: _log_crash(
        crash.exc_type, crash.exc_value, crash.exc_traceback
    )


def _log_crash(
    kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
) -> None:
    """Log what ends a process or thread, by its frames: Python would print its message too."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error or kind(), trace)
        return
    structlog.get_logger().critical("crashed", exc_info=error or kind())


def _frames_only(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Turn `exc_info` into file, line and type of each frame: messages may quote a header."""
    info = event.pop("exc_info", None)
    error = sys.exc_info()[1] if info is True else info
    if isinstance(error, BaseException):
        event["traceback"] = _frames(error)
    return event


def _frames(error: BaseException) -> list[str]:
    lines = []
    seen: BaseException | None = error
    while seen is not None:
        lines.append(type(seen).__qualname__)
        trace = seen.__traceback__
        while trace is not None:
            code = trace.tb_frame.f_code
            lines.append(f"{code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno} {code.co_name}")
            trace = trace.tb_next
        seen = seen.__cause__ or seen.__context__
    return lines


class _ToStructlog(logging.Handler):
    """Libraries' warnings, without their text: it may quote headers or URLs with UIDs."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.WARNING:
            return
        structlog.get_logger().warning(
            "library_warning",
            name=record.name,
            file=record.filename,
            line=record.lineno,
            traceback=_frames(record.exc_info[1]) if record.exc_info and record.exc_info[1] else [],
        )
