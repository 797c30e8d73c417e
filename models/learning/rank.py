"""``python -m models.learning.rank FOLDER``: one of several processes that learn, or the only one.

Carries out the order in FOLDER/order.json together with the other ranks that torchrun has started,
here or as a job of a cluster; a job of one process needs no torchrun. SIGTERM says that the machine
is wanted for something else: all ranks end at the same step, and the first leaves a checkpoint that
loses none.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
from pathlib import Path

from dicom.errors import Preempted
from models.learning.child import carry_out_or_say, end_with


def main() -> None:
    """Learn as one rank; exit code 0 also where a coded error was written down."""
    wanted = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: wanted.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()
    if "TORCHELASTIC_RUN_ID" in os.environ:  # else Slurm looks after its own
        end_with(os.getppid())
    try:
        carry_out_or_say(Path(sys.argv[1]), wanted.is_set)
    except Preempted:
        return


if __name__ == "__main__":
    main()
