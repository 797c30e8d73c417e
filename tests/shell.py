"""Commands of the shell, run in this process: ten starts of Python take longer than all they do."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from subprocess import CompletedProcess
from unittest.mock import patch

import structlog
import torch
from typer.testing import CliRunner, Result

from node.cli import app, main


def radloop(*words: str, cwd: Path) -> Result:
    """Run a command in a folder; what it raises is in the result."""
    with _in(cwd):
        return CliRunner().invoke(app, words)


def as_said(*words: object, cwd: Path) -> CompletedProcess[str]:
    """Run a command line as a person sees it: what is printed, and the code that it ends with."""
    line = ["radloop", *(str(word) for word in words)]
    said, wrong, code = io.StringIO(), io.StringIO(), 0
    with _in(cwd), patch.object(sys, "argv", line), redirect_stdout(said), redirect_stderr(wrong):
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
    return CompletedProcess(line, code, said.getvalue(), wrong.getvalue())


@contextmanager
def _in(folder: Path) -> Iterator[None]:
    """Be in a folder; undo what a command does to its process: its log, its threads."""
    before, threads = Path.cwd(), torch.get_num_threads()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
        structlog.reset_defaults()
        torch.set_num_threads(threads)
