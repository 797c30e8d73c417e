"""Where a cluster takes commands: on this machine, or on a login node that OpenSSH reaches.

Small shell scripts of ours are run there with arguments; nothing that comes from data is ever part
of a script. The host key must be known: an unknown one is refused, and so is a changed one.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from dicom.errors import ClusterNotReady, ClusterUnreachable, DiskFull, MissingProgram

_CONNECT_S: Final = 15
_COMMAND_S: Final = 120.0
_TRANSFER_S: Final = 24 * 3600.0
_ENVIRONMENT: Final = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "TMPDIR",
    "SLURM_CONF",
    "SSH_AUTH_SOCK",
)
"""What commands see: a job gets the environment it was submitted from, and ours has secrets."""


class CommandFailed(Exception):
    """A command ran and said no."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(code, said)
        self.code, self.said = code, said


@dataclass(slots=True)
class Login:
    """A login node; connections are kept for a minute, and closed by :meth:`close`.

    Attributes
    ----------
    host : str
        Empty: this machine.
    """

    host: str = ""
    port: int = 22
    key: Path | None = None
    known_hosts: Path | None = None
    _sockets: Path | None = field(default=None, init=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def run(
        self,
        script: str,
        *arguments: str,
        stdin: IO[bytes] | None = None,
        stdout: IO[bytes] | None = None,
    ) -> str:
        """Run a shell script there, with arguments; return what it printed.

        Parameters
        ----------
        stdin, stdout : file or None
            Where bytes come from, and go to.

        Raises
        ------
        CommandFailed
            When it ended with another code than 0.
        ClusterUnreachable
            When the login node does not answer, or not as it should.
        MissingProgram
            When there is no ssh here.
        ClusterNotReady
            When a command is not there.
        DiskFull
            When there is no room left there.
        """
        # What is said there is read here, such as why a file could not be written: in English.
        words = ["env", "LC_ALL=C", "sh", "-c", script, "radloop", *arguments]
        command = [*self._ssh(), shlex.join(words)] if self.host else words
        moves = stdin is not None or stdout is not None
        try:
            done = subprocess.run(  # noqa: S603 - our own words, each quoted
                command,
                stdin=subprocess.DEVNULL if stdin is None else stdin,
                stdout=subprocess.PIPE if stdout is None else stdout,
                stderr=subprocess.PIPE,
                env={key: value for key, value in os.environ.items() if key in _ENVIRONMENT},
                timeout=_TRANSFER_S if moves else _COMMAND_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ClusterUnreachable("the cluster took too long to answer") from None
        said = done.stderr.decode(errors="replace").strip()
        if done.returncode == 255 and self.host:
            raise ClusterUnreachable(_why(said))
        if "No space left on device" in said or "quota exceeded" in said:
            raise DiskFull("no room left in the cluster's folder")
        if done.returncode == 127:
            raise ClusterNotReady("Slurm's commands are not there where jobs are submitted")
        if done.returncode:
            raise CommandFailed(done.returncode, said)
        return "" if stdout is not None else done.stdout.decode(errors="replace")

    def close(self) -> None:
        """End the kept connection."""
        if self._sockets is None:
            return
        subprocess.run(  # noqa: S603 - as above
            [*self._ssh()[:-2], "-O", "exit", "--", self.host],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        shutil.rmtree(self._sockets, ignore_errors=True)
        self._sockets = None

    def _ssh(self) -> list[str]:
        program = shutil.which("ssh")
        if program is None:
            raise MissingProgram("ssh is not installed")
        if self._sockets is None:
            self._sockets = Path(tempfile.mkdtemp(prefix="radloop-ssh-"))
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "ConnectTimeout": str(_CONNECT_S),
            "ServerAliveInterval": "15",
            "ServerAliveCountMax": "4",
            "ForwardAgent": "no",
            "ClearAllForwardings": "yes",
            "ControlMaster": "auto",
            "ControlPath": f"{self._sockets}/%C",
            "ControlPersist": "60",
        }
        if self.known_hosts is not None:
            options |= {"UserKnownHostsFile": str(self.known_hosts), "GlobalKnownHostsFile": "none"}
        if self.key is not None:
            options |= {"IdentityFile": str(self.key), "IdentitiesOnly": "yes"}
        words = [program, "-T", "-p", str(self.port)]
        for name, value in options.items():
            words += ["-o", f"{name}={value}"]
        return [*words, "--", self.host]


def _why(said: str) -> str:
    """Return why ssh gave up, without what it prints of hosts and files."""
    if "REMOTE HOST IDENTIFICATION HAS CHANGED" in said:
        return "the login node shows another host key than the one that is known"
    if "Host key verification failed" in said:
        return "the login node's host key is not known: put it into the file of known hosts"
    if "Permission denied" in said:
        return "the login node does not accept our key"
    return "the login node does not answer"
