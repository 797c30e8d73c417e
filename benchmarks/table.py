"""Rows of a benchmark: printed for people, written as JSON for machines."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was measured, beside a peer where there is one.

    `ratio` is ours over the peer's; `target` says in words what is wanted of value or ratio. What
    could not be measured has no value of ours, and says in `what` why.
    """

    what: str
    unit: str
    ours: float | None
    peer: str = ""
    peer_value: float | None = None
    ratio: float | None = None
    target: str = ""
    met: bool | None = None


def machine() -> dict[str, object]:
    """Return what this machine is: figures mean little without it."""
    models = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
    }


def publish(name: str, rows: Sequence[Row], about: dict[str, object]) -> None:
    """Print the rows, and write them to `benchmarks/results/<name>.json`."""
    table = Table(title=name, box=None, title_justify="left")
    for column in ("what", "ours", "unit", "peer", "its value", "ratio", "target", "met"):
        table.add_column(column)
    for row in rows:
        met = "" if row.met is None else ("yes" if row.met else "[red]no[/]")
        table.add_row(
            row.what,
            "" if row.ours is None else f"{row.ours:.2f}",
            row.unit,
            row.peer,
            "" if row.peer_value is None else f"{row.peer_value:.2f}",
            "" if row.ratio is None else f"{row.ratio:.2f}",
            row.target,
            met,
        )
    Console(width=140).print(table)
    RESULTS.mkdir(exist_ok=True)
    content = {"machine": about, "rows": [asdict(row) for row in rows]}
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
