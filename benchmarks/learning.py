"""How good what is learnt is, how fast it is learnt, and whether the loop closes.

``make bench B=learning`` measures everything, ``make bench B=learning PART=retina`` one part. PART
may name several. Each part's rows are published as they come, and replace its older ones: what was
interrupted keeps what it had measured. ``FOLDER`` keeps runs, so that a part goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path

import torch

from benchmarks.lessons import chest, loop, retina, speed, wait
from benchmarks.lessons.common import THREADS
from benchmarks.table import RESULTS, Row, machine, publish

NAME = "learning"
PARTS: Mapping[str, Callable[[Path], Iterator[Row]]] = {
    "retina": retina.rows,
    "view": chest.view_rows,
    "lungs": chest.lungs_rows,
    "marker": chest.marker_rows,
    "loop": loop.rows,
    "speed": speed.rows,
    "wait": wait.rows,
}


def main() -> None:
    """Measure the parts that are named, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=(*PARTS, []), metavar="PART")
    parser.add_argument("--folder", type=Path, default=os.environ.get("FOLDER"))
    asked = parser.parse_args()
    torch.set_num_threads(THREADS)
    about = machine()
    kept = nullcontext(asked.folder) if asked.folder else _passing()
    with kept as folder:
        for part in asked.parts or PARTS:
            found: list[Row] = []
            for row in PARTS[part](Path(folder) / part):
                found.append(row)
                publish(NAME, _with_others(part, found), about)


def _passing() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="radloop-bench-")


def _with_others(part: str, found: list[Row]) -> list[Row]:
    """Return a part's rows among those of the others that were measured before."""
    try:
        content = json.loads((RESULTS / f"{NAME}.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return found
    others = [Row(**row) for row in content["rows"]]
    apart = {name: [row for row in others if _part(row) == name] for name in PARTS}
    apart[part] = found
    return [row for rows in apart.values() for row in rows]


def _part(row: Row) -> str:
    return row.what.partition(":")[0]


if __name__ == "__main__":
    main()
