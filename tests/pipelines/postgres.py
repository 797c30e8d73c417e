"""A real PostgreSQL on a free port of this machine, for as long as a test session needs it."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

_OWNER = "postgres"  # the server refuses to run as root


def _binaries() -> Path:
    """Return the folder of `initdb` and `pg_ctl`; skips the test where there is none."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name))
    on_path = shutil.which("initdb")
    if on_path:
        folders.append(Path(on_path).parent)
    for folder in reversed(folders):
        if (folder / "initdb").is_file() and (folder / "pg_ctl").is_file():
            return folder
    pytest.skip("PostgreSQL is not installed (Debian: apt install postgresql)")


def _as_owner(command: Sequence[str], folder: Path) -> None:
    if os.geteuid() == 0:
        command = ["runuser", "-u", _OWNER, "--", *command]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


@contextmanager
def running_postgres() -> Iterator[str]:
    """Give the URL of a server of our own, without the name of a database at its end."""
    binaries = _binaries()
    if os.geteuid() == 0:
        try:
            owner = pwd.getpwnam(_OWNER)
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    # Not below pytest's folder: that one only root can enter, and a socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="radloop-pg-") as name:
        folder = Path(name)
        if os.geteuid() == 0:
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        data, log = str(folder / "data"), str(folder / "log")
        options = ["--auth=trust", "--username=radloop", "--encoding=UTF8", "--no-sync"]
        _as_owner([str(binaries / "initdb"), "--pgdata", data, *options], folder)
        server = f"-c listen_addresses=127.0.0.1 -c port={port} -c fsync=off -k {folder}"
        control = [str(binaries / "pg_ctl"), "--pgdata", data, "--wait"]
        _as_owner([*control, "--log", log, "--options", server, "start"], folder)
        try:
            yield f"postgresql://radloop@127.0.0.1:{port}"
        finally:
            _as_owner([*control, "--mode", "immediate", "stop"], folder)


def create_database(server: str, name: str) -> str:
    """Make an empty database, and return its URL."""
    engine = sa.create_engine(
        sa.make_url(f"{server}/postgres").set(drivername="postgresql+psycopg"),
        isolation_level="AUTOCOMMIT",
    )
    with engine.connect() as connection:
        connection.execute(sa.text(f'CREATE DATABASE "{name}"'))
    engine.dispose()
    return f"{server}/{name}"
