"""A real Slurm of two machines on this one, and a real login node; each stopped by its pid."""

from __future__ import annotations

import ctypes
import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue")
_CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={home}/munge,cred_expire=2
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/%n
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1,batch_sched_delay=0
ReturnToService=2
KillWait=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MailProg=/bin/true
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=4
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=4
PartitionName=main Nodes=n1,n2 Default=YES PriorityTier=1 MaxTime=60 State=UP
PartitionName=urgent Nodes=n1,n2 PriorityTier=9 MaxTime=60 State=UP
PartitionName=closed Nodes=n2 MaxTime=60 State=DOWN
"""


@dataclass(frozen=True, slots=True)
class SlurmServer:
    """A running Slurm."""

    configuration: Path

    def run(self, *words: str) -> str:
        """Run one of Slurm's commands, as somebody else at the cluster would."""
        environment = {**os.environ, "SLURM_CONF": str(self.configuration)}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
        return done.stdout


@contextmanager
def running_slurm() -> Iterator[SlurmServer]:
    """Give a Slurm of two machines; skips the test where its programs are not installed."""
    missing = [name for name in _PROGRAMS if _found(name) is None]
    if missing:
        pytest.skip(f"Slurm is not installed (Debian: apt install slurmctld slurmd): {missing}")
    with tempfile.TemporaryDirectory(prefix="radloop-slurm-") as name:
        home = Path(name)
        (home / "key").write_bytes(os.urandom(128))
        (home / "key").chmod(0o400)
        (home / "state").mkdir()
        with _free_ports(3) as ports:
            configuration = home / "slurm.conf"
            configuration.write_text(
                _CONFIGURATION.format(
                    host=socket.gethostname().split(".")[0],
                    home=home,
                    user=getpass.getuser(),
                    ports=ports,
                )
            )
        files = {name: f"--{name}-file={home}/munge.{name}" for name in ("pid", "log", "seed")}
        munge = ["munged", "--foreground", "--force", f"--key-file={home}/key"]
        munge += [f"--socket={home}/munge", "--num-threads=2", *files.values()]
        server = SlurmServer(configuration)
        with _running(home, munge), _running(home, ["slurmctld", "-D"]):
            _comes_to((home / "munge").exists)
            with (
                _running(home, ["slurmd", "-D", "-N", "n1"]),
                _running(home, ["slurmd", "-D", "-N", "n2"]),
            ):
                _comes_to(lambda: server.run("sinfo", "-h", "-p", "main", "-o", "%T") == "idle\n")
                yield server
                server.run("scancel", "--user", getpass.getuser())
                _comes_to(lambda: not server.run("squeue", "-h"))


@contextmanager
def running_login_node(home: Path, configuration: Path) -> Iterator[dict[str, object]]:
    """Give host, port, key and known_hosts of a real sshd on a free port of 127.0.0.1."""
    program = _found("sshd")
    if program is None:
        pytest.skip("sshd is not installed (Debian: apt install openssh-server)")
    home.mkdir(mode=0o700)
    for name in ("host", "user"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / name)]
        subprocess.run(words, check=True)
    shutil.copy(home / "user.pub", home / "authorized")
    (home / "authorized").chmod(0o600)
    with _free_ports(1) as (port,):
        pass
    kind, key, *_ = (home / "host.pub").read_text().split()
    (home / "known").write_text(f"[127.0.0.1]:{port} {kind} {key}\n")
    (home / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {home}/host\nPidFile none\n"
        f"AuthorizedKeysFile {home}/authorized\nStrictModes no\nPasswordAuthentication no\n"
        f"UsePAM no\nPermitRootLogin prohibit-password\nSetEnv SLURM_CONF={configuration}\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where sshd, as root, shuts itself in
    with _running(home, [program, "-D", "-e", "-f", str(home / "sshd_config")]):
        _comes_to(lambda: _answers(port))
        yield {
            "host": f"{getpass.getuser()}@127.0.0.1",
            "port": port,
            "key": home / "user",
            "known_hosts": home / "known",
        }


def comes_to(happens: Callable[[], bool]) -> None:
    """Wait until something happens."""
    _comes_to(happens)


def _comes_to(happens: Callable[[], bool]) -> None:
    until = time.monotonic() + 300
    while True:
        try:
            if happens():
                return
        except subprocess.CalledProcessError:
            pass  # it does not answer yet
        assert time.monotonic() < until
        time.sleep(0.05)


def _found(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def _free_ports(count: int) -> Iterator[list[int]]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    yield ports


@contextmanager
def _running(home: Path, words: list[str]) -> Iterator[None]:
    program = _found(words[0])
    assert program is not None
    with (home / "log").open("ab") as output:
        process = subprocess.Popen(
            [program, *words[1:]],
            env={**os.environ, "SLURM_CONF": str(home / "slurm.conf")},
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for the tests, which end it in order
            preexec_fn=_end_with_us,
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _end_with_us() -> None:
    """Let the kernel end a server with the tests, also where these are killed."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
