"""The same tests on SQLite and on a real PostgreSQL."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from pipelines.store import Database
from tests.pipelines.postgres import create_database, running_postgres

_numbers = count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Return the URL of a running server."""
    with running_postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an empty database, once of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'radloop.db'}"
    return create_database(request.getfixturevalue("postgres"), f"test{next(_numbers)}")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """Return a database with today's tables."""
    database = Database(database_url)
    database.migrate()
    yield database
    database.close()
