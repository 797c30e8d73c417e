"""Fronts in processes of their own that end by SIGKILL at a chosen moment of a save.

``python -m tests.orthanc.dying`` reads a line of JSON for each front (`folder`, `database`,
`archive`, `port`, `dies`), forks it, and prints its process id. What it serves and does is the
real thing; at the chosen step it kills itself, as the kernel or a power cut would.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import uvicorn

from dicom.archive import Archive
from pipelines.corrections import Desk
from pipelines.store import Corrections, Database, Drafts
from tests.node.front import make_front

MOMENTS: dict[str, tuple[type, str, bool]] = {
    "the labels were judged": (Desk, "_work", True),
    "the draft was kept": (Drafts, "put", True),
    "the row was begun": (Corrections, "begin", True),
    "the SEG was written": (Archive, "store", False),
    "the archive has it": (Archive, "store", True),
    "it was noted as stored": (Corrections, "stored", True),
}
"""Where a front dies: in which method, and whether after it (else before)."""


def main() -> None:
    """Fork a front for each line until there is no more."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries them
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what it logs is no answer
            _serve(json.loads(line))
            os._exit(0)
        print(pid, flush=True)  # noqa: T201 - to the test


def _serve(wish: dict[str, Any]) -> None:
    if wish["dies"]:
        _die_at(*MOMENTS[wish["dies"]])
    front = make_front(
        Path(wish["folder"]),
        clinical=Archive(**wish["archive"]),
        database=Database(wish["database"]),
    )
    uvicorn.run(front.app, host="127.0.0.1", port=wish["port"], log_config=None, access_log=False)


def _die_at(owner: type, name: str, afterwards: bool) -> None:
    real = getattr(owner, name)

    def dying(*arguments: Any, **more: Any) -> Any:
        answer = real(*arguments, **more) if afterwards else None
        os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(owner, name, dying)


if __name__ == "__main__":
    main()
