"""A cluster as its administrator describes it: where to log in, where to work, what to ask for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

_HOST: Final = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.-]*@)?[A-Za-z0-9][A-Za-z0-9.-]*")
_WORD: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,:*/=+-]*")
_PATH: Final = re.compile(r"/[A-Za-z0-9_.@+/-]+")
_TIME: Final = re.compile(r"(\d+-)?\d{1,2}(:\d{2}){1,2}")
_OPTION: Final = re.compile(r"--[a-z][a-z-]*(=[A-Za-z0-9_.,:*/=+&|\[\]-]+)?")
_OURS: Final = frozenset(
    """job-name output error open-mode chdir nodes ntasks ntasks-per-node cpus-per-task mem gres
    gpus gpus-per-node time requeue no-requeue signal partition account qos wrap array""".split()  # noqa: SIM905 - shorter
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A Slurm cluster.

    Attributes
    ----------
    host : str
        ``user@login.node`` that is reached by OpenSSH; empty: this machine is a login node.
    port : int
        Of its SSH server.
    key, known_hosts : Path or None
        The private key and the file of host keys; None: as OpenSSH is set up for this user.
    folder : str
        On the cluster, seen by all its nodes; each training gets a folder in it.
    container, runtime : str
        The image made from docker/train.def, on the cluster, and what runs it.
    python : str
        In place of a container: an interpreter on the cluster that has radloop.
    partition, account, qos, memory, time : str
        As sbatch takes them; empty: the cluster's own choice. `time` is one slice: a training
        that needs longer goes on in the next.
    nodes, gpus, processes, cpus : int
        Machines; of each the GPUs, the processes that learn (0: one a GPU, or one), and the
        cores of a process.
    options : tuple of str
        Further options of sbatch, such as ``--constraint=a100``.
    start_hours, unreachable_hours : float
        How long a job may wait in the queue; how long the login node may be silent.
    poll_s : float
        How often the job is looked at.

    Raises
    ------
    ValueError
        When a value cannot be right; the message names the field.
    """

    folder: str
    host: str = ""
    port: int = 22
    key: Path | None = None
    known_hosts: Path | None = None
    container: str = ""
    runtime: Literal["apptainer", "singularity"] = "apptainer"
    python: str = ""
    partition: str = ""
    account: str = ""
    qos: str = ""
    nodes: int = 1
    gpus: int = 1
    processes: int = 0
    cpus: int = 4
    memory: str = ""
    time: str = "24:00:00"
    options: tuple[str, ...] = ()
    start_hours: float = 24.0
    unreachable_hours: float = 24.0
    poll_s: float = 15.0

    def __post_init__(self) -> None:
        if bool(self.container) == bool(self.python):
            raise ValueError("one of container and python is given, and only one")
        if self.host and not _HOST.fullmatch(self.host):
            raise ValueError("host is user@name or name")
        for name in ("folder", "container", "python"):
            value = getattr(self, name)
            if value and (not _PATH.fullmatch(value) or ".." in value.split("/")):
                raise ValueError(f"{name} is an absolute path of letters, digits, . _ - + @")
        if self.folder.rstrip("/").count("/") < 2:
            raise ValueError("folder lies at least two levels deep: trainings are deleted in it")
        for name in ("partition", "account", "qos", "memory"):
            value = getattr(self, name)
            if value and not _WORD.fullmatch(value):
                raise ValueError(f"{name} is one word")
        if self.time and not _TIME.fullmatch(self.time):
            raise ValueError("time is hours:minutes:seconds, or days-hours:minutes:seconds")
        for option in self.options:
            if not _OPTION.fullmatch(option):
                raise ValueError("options are written as --name=value")
            if option[2:].split("=")[0] in _OURS:
                raise ValueError(
                    f"options: {option.split('=')[0]} has a setting of its own, or none"
                )
        for name in ("nodes", "cpus"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1")

    @property
    def ranks_a_node(self) -> int:
        """Processes that learn on each machine."""
        return self.processes or max(1, self.gpus)

    @property
    def place(self) -> str:
        """What people call it."""
        return self.host.partition("@")[2] or self.host or "this machine's cluster"
