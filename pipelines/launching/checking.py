"""What a cluster must have before a training is sent there; each thing that it lacks by name."""

from __future__ import annotations

import tempfile
from typing import Final

from dicom.errors import ClusterNotReady, ClusterRefused
from pipelines.launching.cluster import Cluster
from pipelines.launching.login import CommandFailed, Login
from pipelines.launching.queue import first_line
from pipelines.launching.script import batch_script

_PROGRAMS: Final = """
for name in sbatch squeue scancel scontrol sha256sum; do
    command -v "$name" >/dev/null || { echo "$name" >&2; exit 1; }
done
"""
_QUEUE: Final = 'squeue --noheader --user="$(id -un)" >/dev/null'
_FOLDER: Final = 'umask 077; mkdir -p "$1" && : > "$1/.radloop" && rm "$1/.radloop"'
_READABLE: Final = 'test -f "$1" && test -r "$1"'
_PYTHON: Final = """
test -x "$1" && exec "$1" -c 'import importlib.util, sys
sys.exit(importlib.util.find_spec("models.learning.rank") is None)' 2>/dev/null
"""
_TEST: Final = "sbatch --test-only"


def check_cluster(cluster: Cluster, login: Login) -> None:
    """See that a cluster answers, and would take a training as the settings ask for it.

    Slurm itself judges the last: partition, account, quality of service, machines, GPUs, time and
    options of the very script that a training would be. Nothing is submitted.

    Raises
    ------
    ClusterUnreachable
        When the login node does not answer, or is not the one that is known.
    ClusterNotReady
        When a program, the folder, the container or radloop is missing there.
    ClusterRefused
        When Slurm would not take the job, in its words.
    """
    login.run("true")
    _see(login, _PROGRAMS, "the login node has no {}: Slurm's commands are not in its PATH")
    _see(login, _QUEUE, "Slurm itself does not answer: {}")
    _see(login, _FOLDER, "folder cannot be made, or written to", cluster.folder)
    if cluster.container:
        _see(login, _READABLE, "container is not there, or cannot be read", cluster.container)
    else:
        said = "python is not there, cannot be started, or has no radloop"
        _see(login, _PYTHON, said, cluster.python)
    with tempfile.TemporaryFile() as script:
        made = batch_script(cluster, name="radloop-check", folder=cluster.folder, minutes=None)
        script.write(made.encode())
        script.seek(0)
        try:
            login.run(_TEST, stdin=script)
        except CommandFailed as error:
            raise ClusterRefused(first_line(error.said)) from error


def _see(login: Login, script: str, wrong: str, *arguments: str) -> None:
    try:
        login.run(script, *arguments)
    except CommandFailed as error:
        raise ClusterNotReady(wrong.format(first_line(error.said))) from error
