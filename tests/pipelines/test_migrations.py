"""The schema: up, down and up again gives what `records` says, on both databases."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from dicom.errors import InvalidSettings, PeerUnreachable
from pipelines.records import TaskRow
from pipelines.store import Database


@pytest.fixture
def empty(database_url):
    database = Database(database_url)
    yield database
    database.close()


def tables(database: Database) -> set[str]:
    return set(sa.inspect(database.engine).get_table_names()) - {"alembic_version"}


def test_up_down_and_up_again_is_what_the_records_say(empty):
    empty.migrate()
    assert empty.differences() == []
    first = tables(empty)
    assert "job" in first
    empty.migrate("base")
    assert tables(empty) == set()
    empty.migrate()
    assert tables(empty) == first
    assert empty.differences() == []


def test_what_a_task_was_to_make_survives_both_ways(empty):
    """The one output of a task becomes a list of one, and comes back."""
    empty.migrate("0003")
    columns = "id, job_id, series_id, route, bundle, bundle_sha256, output, destinations, priority"
    columns += ", state, progress, created_at"
    with empty.engine.begin() as connection:
        connection.execute(
            sa.text("INSERT INTO study VALUES ('2.25.1', 'o1', '2026-01-01 00:00:00', '')")
        )
        connection.execute(
            sa.text(
                "INSERT INTO series (id, study_id, orthanc_id, modality, state, instance_count,"
                " changed_at, ours) VALUES ('2.25.2', '2.25.1', 'o2', 'MR', 'complete', 1,"
                " '2026-01-01 00:00:00', false)"
            )
        )
        connection.execute(
            sa.text(
                "INSERT INTO job (id, study_id, state, attempt, handed_over, cancel_requested,"
                " collect, created_at) VALUES ('j', '2.25.1', 'completed', 1, true, false, false,"
                " '2026-01-01 00:00:00')"
            )
        )
        connection.execute(
            sa.text(
                f"INSERT INTO task ({columns}) VALUES ('t', 'j', '2.25.2', 'r', 'b', '', 'seg',"
                " '[]', 'routine', 'completed', 1, '2026-01-01 00:00:00')"
            )
        )
    empty.migrate()
    with empty.read() as session:
        assert session.scalars(sa.select(TaskRow.outputs)).all() == [["seg"]]


def test_a_difference_would_be_seen(empty):
    empty.migrate()
    with empty.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE study DROP COLUMN description"))
    assert any("description" in difference for difference in empty.differences())


def test_a_second_migration_changes_nothing(empty):
    empty.migrate()
    with empty.write() as session:
        session.execute(sa.text("INSERT INTO change_cursor (archive, seq) VALUES ('clinical', 7)"))
    empty.migrate()
    with empty.read() as session:
        assert session.scalar(sa.text("SELECT seq FROM change_cursor")) == 7


def test_processes_that_start_together_migrate_one_after_the_other(database_url):
    databases = [Database(database_url) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda database: database.migrate(), databases))
    assert databases[0].differences() == []
    for database in databases:
        database.close()


def test_a_step_that_breaks_half_way_leaves_nothing(empty):
    # What the first step meets in its middle: a table that should not be there.
    with empty.engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE delivery (x INTEGER)"))
    with pytest.raises(sa.exc.DBAPIError):
        empty.migrate()
    assert tables(empty) == {"delivery"}
    with empty.engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE delivery"))
    empty.migrate()
    assert empty.differences() == []


def test_a_server_that_is_not_there_has_a_code():
    with pytest.raises(PeerUnreachable):
        Database("postgresql://nobody@127.0.0.1:1/none").migrate()


@pytest.mark.parametrize("url", ["mysql://host/name", "radloop.db", "postgresql://h:port/x"])
def test_another_kind_of_url_is_an_invalid_setting(url):
    with pytest.raises(InvalidSettings):
        Database(url)


def test_sqlite_waits_for_nothing_and_survives_a_power_cut(tmp_path: Path):
    database = Database(f"sqlite:///{tmp_path / 'radloop.db'}")
    with database.engine.connect() as connection:
        assert connection.scalar(sa.text("PRAGMA journal_mode")) == "wal"
        assert connection.scalar(sa.text("PRAGMA synchronous")) == 2  # FULL
        assert connection.scalar(sa.text("PRAGMA foreign_keys")) == 1
    database.close()


def test_a_new_database_that_another_process_writes_is_waited_for(tmp_path: Path):
    path = tmp_path / "radloop.db"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")  # SQLite itself waits for every lock but this one
    database = Database(f"sqlite:///{path}")
    with ThreadPoolExecutor(1) as pool:
        migrated = pool.submit(database.migrate)
        with pytest.raises(TimeoutError):
            migrated.result(timeout=0.3)
        other.execute("COMMIT")
        migrated.result(timeout=20)
    assert database.differences() == []
    database.close()
    other.close()


def test_a_database_that_cannot_be_opened_has_a_code(tmp_path: Path):
    with pytest.raises(PeerUnreachable):
        Database(f"sqlite:///{tmp_path / 'no such folder' / 'radloop.db'}").migrate()


def test_our_own_mistake_in_sql_is_no_weather(empty):
    with pytest.raises(sa.exc.DBAPIError), empty.read() as session:
        session.execute(sa.text("SELECT x FROM no_such_table"))
