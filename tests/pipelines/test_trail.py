"""The audit trail: whoever changes it without its key is seen."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from dicom.errors import AuditBroken
from pipelines.store import Database, Seal, Trail

KEY = b"the trail's key"
EVENTS = 5


@pytest.fixture
def trail(database: Database) -> Trail:
    trail = Trail(database, KEY)
    for number in range(1, EVENTS + 1):
        trail.note(actor="rita", action="look", object=f"2.25.{number}", reason="why not")
    return trail


def write(database: Database, statement: str) -> None:
    """Write as somebody does who has the database, and not the key."""
    with database.engine.begin() as connection:
        connection.execute(sa.text(statement))


def test_what_was_noted_is_there_in_order_and_whole(trail: Trail) -> None:
    assert [event.number for event in trail.events()] == [5, 4, 3, 2, 1]
    assert trail.verify().number == EVENTS


def test_an_empty_trail_is_whole(database: Database) -> None:
    assert Trail(database, KEY).verify() == Seal(0, "")


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE audit_event SET actor = 'mallory' WHERE number = 3", "event 3 .* was changed"),
        ("UPDATE audit_event SET reason = '' WHERE number = 5", "event 5 .* was changed"),
        ("UPDATE audit_event SET at = '2020-01-01 00:00:00' WHERE number = 2", "event 2 "),
        ("DELETE FROM audit_event WHERE number = 2", "event 2 .* is missing"),
        ("DELETE FROM audit_event WHERE number = 1", "event 1 .* is missing"),
        ("DELETE FROM audit_event WHERE number = 5", "ends at 4, not 5"),
        ("DELETE FROM audit_event", "ends at 0, not 5"),
        ("UPDATE audit_event SET number = 6 WHERE number = 5", "ends at 4, not 5"),
        (
            "INSERT INTO audit_event (at, actor, action, object, outcome, reason)"
            " VALUES ('2026-01-01 00:00:00', 'x', 'y', '', 'ok', '')",
            "outside its chain",
        ),
    ],
)
def test_a_change_by_another_hand_is_told(
    trail: Trail, database: Database, statement: str, told: str
) -> None:
    write(database, statement)
    with pytest.raises(AuditBroken, match=told):
        trail.verify()


def test_a_cut_tail_with_a_mended_head_shows_beside_what_was_noted(
    trail: Trail, database: Database
) -> None:
    noted = trail.verify()
    write(database, "DELETE FROM audit_event WHERE number = 5")
    write(
        database,
        "UPDATE audit_head SET number = 4, code = (SELECT code FROM audit_event WHERE number = 4)",
    )
    assert trail.verify().number == EVENTS - 1  # consistent in itself: why one notes it elsewhere
    with pytest.raises(AuditBroken, match="ends before event 5"):
        trail.verify(expect=noted)
    trail.note(actor="mallory", action="look")
    with pytest.raises(AuditBroken, match="not the one that was noted"):
        trail.verify(expect=noted)


def test_the_chain_grows_on_what_was_noted(trail: Trail) -> None:
    noted = trail.verify()
    trail.note(actor="rita", action="look")
    assert trail.verify(expect=Seal.from_text(str(noted))).number == EVENTS + 1


def test_another_key_sees_nothing_right(trail: Trail, database: Database) -> None:
    with pytest.raises(AuditBroken, match="event 1 "):
        Trail(database, b"another").verify()


def test_events_older_than_the_chain_may_stand_before_it(database: Database) -> None:
    write(
        database,
        "INSERT INTO audit_event (at, actor, action, object, outcome, reason)"
        " VALUES ('2026-01-01 00:00:00', 'x', 'y', '', 'ok', '')",
    )
    trail = Trail(database, KEY)
    trail.note(actor="rita", action="look")
    assert trail.verify().number == 1
    assert [event.number for event in trail.events()] == [1, 0]


def test_writers_side_by_side_make_one_chain(database: Database) -> None:
    trails = [Trail(database, KEY) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: trails[n % 4].note(actor="a", action=str(n)), range(40)))
    assert trails[0].verify().number == 40


def test_a_long_trail_is_followed_page_by_page(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.store.trail._PAGE", 3)
    trail = Trail(database, KEY)
    for number in range(9):
        trail.note(actor="a", action=str(number))
    assert trail.verify().number == 9
    write(database, "UPDATE audit_event SET actor = 'b' WHERE number = 9")
    with pytest.raises(AuditBroken, match="event 9 "):
        trail.verify()
