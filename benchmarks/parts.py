"""A part of a benchmark in a process of its own, so that its memory is its own."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

Part = Callable[[Path, str, int], Callable[[], None]]
"""(folder, kind, segments) -> the work; what prepares it is not measured."""


def asked_part(parts: Mapping[str, Part]) -> bool:
    """Measure the part that the command line names, and print it; False when it names none."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--part", choices=sorted(parts))
    parser.add_argument("--kind", default="")
    parser.add_argument("--segments", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    if not asked.part:
        return False
    work = parts[asked.part](asked.folder, asked.kind, asked.segments)
    print(json.dumps(_measured(work, asked.rounds)))
    return True


def run_part(
    module: str, part: str, kind: str, segments: int, folder: Path, rounds: int
) -> dict[str, float]:
    """Measure one part of a benchmark module in a process of its own.

    Returns
    -------
    dict
        Of the best round `seconds` by the clock and `cpu_s` of the processor; `memory_mb`: the peak
        over what was held before, of all rounds.
    """
    command = [sys.executable, "-W", "ignore", "-m", module, "--part", part]
    command += ["--kind", kind, "--segments", str(segments), "--rounds", str(rounds)]
    done = subprocess.run(
        [*command, "--folder", str(folder)], check=True, capture_output=True, text=True
    )
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def memory_mb(name: str) -> float:
    """Return what this process holds now (VmRSS), or has held at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:"))


def _measured(work: Callable[[], None], rounds: int) -> dict[str, float]:
    # The peak begins anew here (Linux: proc(5), clear_refs).
    Path("/proc/self/clear_refs").write_text("5")
    before_mb, seconds, cpu_s = memory_mb("VmRSS"), [], []
    for _ in range(rounds):
        began, cpu = time.perf_counter(), time.process_time()
        work()
        seconds.append(time.perf_counter() - began)
        cpu_s.append(time.process_time() - cpu)
    peak_mb = max(1.0, memory_mb("VmHWM") - before_mb)
    return {"seconds": min(seconds), "cpu_s": min(cpu_s), "memory_mb": peak_mb}
