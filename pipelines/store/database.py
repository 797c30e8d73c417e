"""Opening the database: SQLite in WAL mode or PostgreSQL behind one URL, and its migrations."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.orm import Session, sessionmaker

from dicom.errors import DiskFull, InvalidSettings, PeerUnreachable
from pipelines.records import Base

_MIGRATIONS = Path(__file__).parents[1] / "migrations"
_MIGRATION_LOCK = 0x7261646C  # any number that nobody else uses
_PG_DISK_FULL = "53100"
_SQLITE_WAIT_S = 30
_SQLITE_AWAY = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_IOERR", "SQLITE_CANTOPEN")


def open_engine(url: str) -> sa.Engine:
    """Return an engine for a SQLite or PostgreSQL URL.

    SQLite runs in WAL mode with `synchronous=FULL`: readers never wait for the writer, and what
    was committed survives a power cut.

    Raises
    ------
    InvalidSettings
        When the URL is of another database, or malformed.
    """
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError) as error:  # the second: a port that is no number
        raise InvalidSettings("database.url is no database URL") from error
    if parsed.get_backend_name() == "sqlite":
        engine = sa.create_engine(url, connect_args={"timeout": _SQLITE_WAIT_S})
        sa.event.listen(engine, "connect", _prepare_sqlite)
        return engine
    if parsed.get_backend_name() == "postgresql":
        return sa.create_engine(parsed.set(drivername="postgresql+psycopg"), pool_pre_ping=True)
    raise InvalidSettings("database.url must begin with sqlite: or postgresql:")


def _prepare_sqlite(connection: Any, _record: object) -> None:  # noqa: ANN401 - DB-API has no type
    cursor = connection.cursor()
    _write_ahead(cursor)
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _write_ahead(cursor: sqlite3.Cursor) -> None:
    """Switch a file to its write-ahead log, also while another process switches or writes it.

    SQLite does not wait here for a lock that another connection reserved: the driver's timeout
    counts for everything but this statement.
    """
    deadline = time.monotonic() + _SQLITE_WAIT_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


class Database:
    """One database: sessions, migrations, a look at its health.

    Parameters
    ----------
    url : str
        `sqlite:///path` or `postgresql://user@host/name`.
    """

    def __init__(self, url: str) -> None:
        self.engine = open_engine(url)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)

    @property
    def is_sqlite(self) -> bool:
        """Whether only one worker may use it."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Give a session whose changes are not kept.

        Raises
        ------
        PeerUnreachable
            When the database does not answer, or stays locked.
        """
        with _coded(), self._sessions() as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Give a session in one transaction: all of it is kept, or nothing.

        On SQLite the write lock is taken at once, so that two writers wait for each other
        instead of failing half-way.

        Raises
        ------
        PeerUnreachable
            When the database does not answer, or stays locked.
        DiskFull
            When there is no room for it.
        """
        with _coded(), self._sessions() as session, session.begin():
            if self.is_sqlite:
                session.execute(sa.text("BEGIN IMMEDIATE"))
            yield session

    def migrate(self, revision: str = "head") -> None:
        """Bring the schema to `revision` (`head`, `base` or a revision's id).

        All steps are one transaction; processes that start together go one after the other.

        Raises
        ------
        PeerUnreachable
            When the database server does not answer.
        """
        config = self._alembic()
        with _coded(), self.engine.begin() as connection:
            if self.is_sqlite:
                # Python's driver would let each CREATE TABLE stand by itself.
                connection.execute(sa.text("BEGIN IMMEDIATE"))
            else:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
            config.attributes["connection"] = connection
            if revision == "base":
                command.downgrade(config, revision)
            else:
                command.upgrade(config, revision)

    def differences(self) -> list[str]:
        """Return how the tables in the database differ from `records`; empty when they do not."""
        from alembic.autogenerate import compare_metadata
        from alembic.migration import MigrationContext

        with self.engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            return [str(difference) for difference in compare_metadata(context, Base.metadata)]

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    def _alembic(self) -> Config:
        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        return config


@contextmanager
def _coded() -> Iterator[None]:
    """Give a code to what another system, or this machine, has to mend: a step is tried again."""
    try:
        yield
    except sa.exc.OperationalError as error:
        # SQLite calls our own mistakes (no such table) by the same class: those go up untouched.
        name = getattr(error.orig, "sqlite_errorname", "")
        if name == "SQLITE_FULL" or getattr(error.orig, "sqlstate", None) == _PG_DISK_FULL:
            raise DiskFull("no room left for the database") from error
        if name and not name.startswith(_SQLITE_AWAY):
            raise
        raise PeerUnreachable("the database does not answer, or refuses the login") from error
