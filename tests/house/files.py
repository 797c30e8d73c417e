"""The project's own files: what git knows, or would take."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def project_files() -> list[Path]:
    """Return every file of the project; skips where this is no git checkout."""
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(
            "this is no git checkout: nobody can say which files are the project's",
            allow_module_level=True,
        )
    return [path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def texts(paths: list[Path]) -> list[tuple[Path, str]]:
    """Return those files that are text, with it."""
    found = []
    for path in paths:
        content = path.read_bytes()
        if b"\0" not in content[:8192]:
            found.append((path.relative_to(ROOT), content.decode("utf-8", errors="replace")))
    return found
