"""Commands of the shell, run in this process: ten starts of Python take longer than all they do."""

from __future__ import annotations

import os
from pathlib import Path

import structlog
import torch
from typer.testing import CliRunner, Result

from node.cli import app


def radloop(*words: str, cwd: Path) -> Result:
    """Run a command in a folder, and undo what it does to its process: its log, its threads."""
    before, threads = Path.cwd(), torch.get_num_threads()
    os.chdir(cwd)
    try:
        return CliRunner().invoke(app, words)
    finally:
        os.chdir(before)
        structlog.reset_defaults()
        torch.set_num_threads(threads)
