"""Runs one peer over files and says what each cost: `timed.py NAME LIST`, by its interpreter.

Prints JSON: CPU seconds (user and system) of every source that it wrote. The first file is done
twice, and the first time does not count: libraries load what they need when they need it.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
from pathlib import Path

from peer import HANDS  # run as a script: its own folder is where modules are looked for


def main() -> None:
    """Do every pair; print what each took."""
    run = HANDS[sys.argv[1]]()
    listed = json.loads(Path(sys.argv[2]).read_text())
    pairs = [(Path(source), Path(target)) for source, target in listed]
    took: dict[str, float] = {}
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        for source, target in pairs[:1] + pairs:
            began = time.process_time()
            try:
                run(source, target)
            except Exception:  # noqa: BLE001 - whatever a peer fails with: that file does not count
                continue
            took[str(source)] = time.process_time() - began
    sys.stdout.write(json.dumps(took))


if __name__ == "__main__":
    main()
