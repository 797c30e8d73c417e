"""``python -m models.learning FOLDER --owner PID``: the child that learns, or measures.

What it does is written in FOLDER/order.json. It writes beside it: the trainer's checkpoints and
curve, then `done.json`; or `failed.json` with a code. Started again over the same folder it goes
on. A process of its own, since it may be killed for its memory, and is stopped while something
urgent runs; it ends with its owner, also while it is stopped.
"""

from models.learning.child import main

if __name__ == "__main__":
    main()
