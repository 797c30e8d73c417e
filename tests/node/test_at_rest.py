"""What front and worker have in memory while nobody asks them for anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
HEAVY = (
    "highdicom",  # with the standard's terms 20 MB: loaded by who writes a segmentation
    "pydicom.sr._concepts_dict",
    "torch",
    "monai",
    "SimpleITK",
)


def test_front_and_worker_load_what_is_heavy_when_it_is_needed() -> None:
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, node.front, node.worker, node.house; print(*sys.modules)",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(told.stdout.split())
    assert "node.front" in loaded
    assert not loaded.intersection(HEAVY)
