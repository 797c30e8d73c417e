"""A job in Slurm's queue: submitted once, looked at, canceled. Slurm's own commands do it.

sacct is not used: many clusters keep no accounts. A job that squeue has forgotten is told by what
it left in its folder.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from dicom.errors import ClusterRefused
from pipelines.launching.login import CommandFailed, Login

_SUBMIT: Final = """
set -eu; umask 077; cd "$1"
if [ -s "job-$3" ]; then cat "job-$3"; exit; fi
found=$(squeue --noheader --states=all --user="$(id -un)" --name="$2" --format=%A | tail -n 1)
if [ -z "$found" ]; then
    rm -f run/done.json run/failed.json
    found=$(sbatch --parsable job.sh) || exit 6
fi
printf '%s\\n' "${found%%;*}" > "job-$3.part"
mv "job-$3.part" "job-$3"
cat "job-$3"
"""
_LOOK: Final = """
squeue --noheader --states=all --jobs="$1" --format='%T|%r|%N' 2>/dev/null || echo 'GONE||'
"""
_CANCEL: Final = 'scancel "$1"'
_REFUSED: Final = 6
_BEFORE: Final = re.compile(r"^\w+: (error: )?(?=\S)")

WAITS: Final = frozenset(("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "RESV_DEL_HOLD"))
RUNS: Final = frozenset(
    ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING")
)
HELD: Final = frozenset(("SPECIAL_EXIT", "REQUEUE_HOLD"))
NEVER: Final = frozenset(
    (
        "AccountNotAllowed",
        "BadConstraints",
        "DependencyNeverSatisfied",
        "InvalidAccount",
        "InvalidQOS",
        "JobHeldAdmin",
        "PartitionNodeLimit",
        "PartitionTimeLimit",
        "QOSNotAllowed",
    )
)
"""Reasons that time does not mend."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a job stands: Slurm's state, its reason, and where it runs; GONE: squeue knows it not."""

    state: str
    reason: str = ""
    machines: str = ""

    @property
    def waits(self) -> bool:
        """Whether it has not begun."""
        return self.state in WAITS or self.state in HELD

    @property
    def is_over(self) -> bool:
        """Whether Slurm will not go on with it."""
        return not self.waits and self.state not in RUNS


def submit(login: Login, folder: str, *, name: str, number: int) -> str:
    """Submit the job of a folder, or find the one that was submitted already; return its id.

    Parameters
    ----------
    name : str
        One a submission: a job of that name is this one.
    number : int
        Of the submission, from 1.

    Raises
    ------
    ClusterRefused
        When sbatch does not take it.
    """
    try:
        return login.run(_SUBMIT, folder, name, str(number)).strip()
    except CommandFailed as error:
        if error.code != _REFUSED:
            raise ClusterRefused(
                f"the job cannot be submitted: {first_line(error.said)}"
            ) from error
        raise ClusterRefused(first_line(error.said)) from error


def look(login: Login, job: str) -> Standing:
    """Return how a job stands."""
    said = login.run(_LOOK, job).strip().splitlines()
    state, reason, machines = (said[-1] if said else "GONE||").split("|", 2)
    return Standing(state, "" if reason == "None" else reason, machines)


def cancel(login: Login, job: str) -> None:
    """End a job; one that is over is let be."""
    try:
        login.run(_CANCEL, job)
    except CommandFailed:
        return


def first_line(said: str) -> str:
    """Return the line in which Slurm says what is wrong."""
    lines = [_BEFORE.sub("", line) for line in said.splitlines()]
    return next((line for line in reversed(lines) if line), "it does not say why")
