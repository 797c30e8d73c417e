"""Run a program that ends when its parent ends: ``python -I -S tether.py PARENT_PID PROGRAM ...``.

The supervisor starts each child through this file, so that a supervisor that is killed leaves
nobody behind (Linux: `prctl`). It becomes the program, with the same process id. It imports the
standard library alone and is never imported.

A program with file capabilities or another owner's rights loses the tether when it starts; give the
whole node the right to open a low port instead (systemd: `AmbientCapabilities`).
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, command: list[str]) -> None:
    """Tie this process to `parent`, then become the program of `command`."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the process cannot be tied to its parent")
    if os.getppid() != parent:  # it ended before we were tied to it
        sys.exit(1)
    os.execv(command[0], command)  # noqa: S606  (no shell is wanted)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
