"""The worklist: who holds what, how cases stand, and which one is next."""

import multiprocessing
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import Empty

import pytest

from dicom.errors import Conflict, NotFound, OutOfMemory
from pipelines.store import (
    ArchivedChange,
    Corrections,
    Database,
    Jobs,
    NewCorrection,
    NewTask,
    Studies,
    WantedCases,
    Worklist,
)
from pipelines.store.standing import FoundResult, disagreement, uncertainty
from tests.node.front import migrated_database

SEG = "1.2.840.10008.5.1.4.1.1.66.4"
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


class Clock:
    """A clock that a test turns."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


def receive(database: Database, *studies: str, modality: str = "CT") -> None:
    rows = Studies(database)
    since = rows.cursor("clinical")
    changes = [
        ArchivedChange(one, f"o-{one}", f"{one}.1", f"o-{one}.1", modality, 20, ours=False)
        for one in studies
    ]
    assert rows.record_changes("clinical", since=since, until=since + 1, changes=changes)


def finish(database: Database, study: str, summary=None, *, bundle="organs@1", confidence=None):
    """Write a job that stored its result; the study is not being received any longer."""
    jobs, job, task = Jobs(database), f"job-{study}-{bundle}", f"task-{study}-{bundle}"
    content = {f"{study}.1": bundle}
    assert jobs.schedule(study, complete=content, as_of={}, job_id=job, new=content)
    jobs.start(job)
    new = NewTask(task, f"{study}.1", "r", bundle, "0" * 64, ("seg",), (), "routine")
    jobs.plan(job, [new], collect=False)
    jobs.start_task(task)
    jobs.keep_prediction(task, forward_s=1.0, device="cpu", confidence=confidence)
    result = f"{study}.9.{len(jobs.jobs_of(study))}"
    jobs.keep_result(
        task,
        sop_instance_uid=result,
        series_uid=f"{result}.s",
        sop_class_uid=SEG,
        summary=summary or {"Liver": 1500.0},
        destinations=("archive",),
    )
    jobs.note_delivery(result, "archive")
    jobs.end_task(task)
    return result


def correct(database: Database, study: str, result: str | None, by: str, number: int = 1) -> str:
    new = NewCorrection(
        id=f"{study}.7.{by}.{number}",
        series_uid=f"{study}.6.{by}.{number}",
        study_id=study,
        series_id=f"{study}.1",
        source="viewer",
        predecessor_id=result,
        result_id=result,
        bundle="organs@1",
        author=by,
        title=f"Corrected by {by}",
        segments=[{"number": 1, "label": "Liver", "rgb": [1, 2, 3], "volume_ml": 1.5}],
    )
    corrections = Corrections(database)
    corrections.begin(new, first_series_number=9501)
    corrections.stored(new.id, orthanc_id=f"o-{new.id}")
    return new.id


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """Return a new SQLite database; what has to hold on PostgreSQL too asks for `either`."""
    database = migrated_database(tmp_path / "worklist.db")
    yield database
    database.close()


@pytest.fixture
def either(database_url: str) -> Iterator[Database]:
    """Return a database of each kind."""
    database = Database(database_url)
    database.migrate()
    yield database
    database.close()


# --- claims -------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def worklist(database: Database, clock: Clock) -> Iterator[Worklist]:
    receive(database, "1")
    worklist = Worklist(database, lease=timedelta(minutes=15), clock=clock)
    worklist.look()
    yield worklist


def _race(url: str, reader: str, cases: list[str], start, answers) -> None:
    database = Database(url)
    worklist = Worklist(database)
    start.wait(30)
    for case in cases:
        try:
            answers.put((case, worklist.claim(case, reader).holder))
        except Conflict:
            answers.put((case, None))
    database.close()


def test_of_two_processes_that_race_for_the_same_cases_one_gets_each(either, database_url):
    cases = [f"9.{number}" for number in range(25)]
    receive(either, *cases)
    Worklist(either).look()
    context = multiprocessing.get_context("spawn")
    start, answers = context.Event(), context.Queue()
    readers = [
        context.Process(target=_race, args=(database_url, name, cases, start, answers))
        for name in ("rita", "rolf")
    ]
    for reader in readers:
        reader.start()
    start.set()
    got: dict[str, list[str | None]] = {}
    try:
        for _ in range(2 * len(cases)):
            case, holder = answers.get(timeout=60)
            got.setdefault(case, []).append(holder)
    except Empty:
        pytest.fail("a process did not answer")
    finally:
        for reader in readers:
            reader.join(30)
    assert [case for case in cases if len([h for h in got[case] if h]) != 1] == []
    for case in cases:
        assert Worklist(either).case(case).holder in got[case]


def test_a_case_is_held_until_its_lease_runs_out(worklist, clock):
    held = worklist.claim("1", "rita")
    assert (held.holder, held.lease_until) == ("rita", NOON + timedelta(minutes=15))
    clock.now += timedelta(minutes=14, seconds=59)
    with pytest.raises(Conflict, match="rita holds this case until 12:15 UTC"):
        worklist.claim("1", "rolf")
    clock.now += timedelta(seconds=1)
    assert worklist.case("1").holder is None
    assert worklist.claim("1", "rolf").holder == "rolf"


def test_a_heartbeat_holds_on_and_brings_nothing_back(worklist, clock):
    worklist.claim("1", "rita")
    for _ in range(4):
        clock.now += timedelta(minutes=10)
        assert [one.id for one in worklist.renew("rita", study_id="1")] == ["1"]
    assert worklist.case("1").holder == "rita"
    assert worklist.renew("rita", study_id="another") == []
    clock.now += timedelta(minutes=15)
    assert worklist.renew("rita") == []
    assert worklist.case("1").holder is None


def test_who_lets_go_or_hands_over_holds_no_longer(worklist):
    worklist.claim("1", "rita")
    assert worklist.release("1", "rolf").holder == "rita"
    assert worklist.hand_over("1", by="rita", to="rolf").holder == "rolf"
    with pytest.raises(Conflict, match="do not hold"):
        worklist.hand_over("1", by="rita", to="anna")
    assert worklist.release("1", "rolf").holder is None
    with pytest.raises(NotFound):
        worklist.claim("none", "rita")


def test_an_assigned_case_is_for_that_reader(worklist):
    worklist.assign("1", "rolf")
    with pytest.raises(Conflict, match="assigned to rolf"):
        worklist.claim("1", "rita")
    assert worklist.next_case("rita") is None
    assert worklist.claim("1", "rolf").holder == "rolf"
    assert worklist.hand_over("1", by="rolf", to="rita").assigned_to == "rita"


# --- how cases stand ----------------------------------------------------------------------------


def state(database: Database, study: str = "1") -> str:
    worklist = Worklist(database)
    worklist.look()
    return worklist.case(study).state


def test_a_case_goes_from_its_arrival_to_a_verdict(database):
    receive(database, "1")
    assert state(database) == "running"
    result = finish(database, "1")
    assert state(database) == "ready"
    corrections = Corrections(database)
    corrections.assess(result, verdict="accepted", reason=None, comment=None, author="rita")
    assert state(database) == "accepted"
    corrections.assess(result, verdict="rejected", reason="other", comment=None, author="rolf")
    assert state(database) == "rejected"
    drawn = correct(database, "1", result, "rita")
    assert state(database) == "corrected"
    corrections.assess(drawn, verdict="accepted", reason=None, comment=None, author="rolf")
    assert state(database) == "accepted"
    again = finish(database, "1", bundle="organs@2")
    assert again != result
    assert state(database) == "ready"  # of a newer version, nobody said anything yet


def test_a_case_that_failed_is_failed_until_somebody_acts(database):
    receive(database, "1")
    jobs, content = Jobs(database), {"1.1": "f"}
    assert jobs.schedule("1", complete=content, as_of={}, job_id="j", new=content)
    jobs.start("j")
    jobs.plan("j", [NewTask("t", "1.1", "r", "b@1", "0", ("seg",), (), "stat")], collect=False)
    jobs.start_task("t")
    jobs.end_task("t", OutOfMemory("9 GB"))
    assert state(database) == "failed"
    jobs.retry("j")
    assert state(database) == "running"


def test_a_series_can_be_a_case_of_its_own(database):
    receive(database, "1")
    finish(database, "1")
    worklist = Worklist(database)
    worklist.look()
    assert worklist.add_series("1", "1.1").state == "ready"
    worklist.claim("1.1", "rita")
    worklist.claim("1", "rolf")
    assert [one.holder for one in worklist.of_study("1")] == ["rolf", "rita"]
    with pytest.raises(NotFound):
        worklist.add_series("1", "2.1")


# --- the list -----------------------------------------------------------------------------------


def test_a_list_is_filtered_searched_counted_and_paged(either):
    receive(either, "11", "12", "13")
    receive(either, "21", modality="MR")
    finish(either, "11")
    Studies(either).describe("21", "MR HEAD")
    worklist = Worklist(either)
    worklist.look()
    worklist.prioritise("13", "stat")
    worklist.assign("12", "rita")

    def ids(**wanted) -> list[str]:
        return [one.id for one in worklist.cases(WantedCases(**wanted), sort="oldest")]

    assert ids(state="ready") == ["11"]
    assert ids(modality="MR") == ["21"] and ids(modality="M") == []
    assert ids(reader="rita") == ["12"]
    assert ids(priority="stat") == ["13"]
    assert ids(text="head") == ["21"] and ids(text="1%") == [] and ids(text="13") == ["13"]
    assert ids(studies=["12", "99"]) == ["12"]
    assert worklist.cases(WantedCases())[0].id == "13"  # the most urgent
    assert worklist.counts(WantedCases(state="ready")) == {"ready": 1, "running": 3}
    pages = [worklist.cases(WantedCases(), limit=3, offset=n)[0].id for n in (0, 3)]
    assert len(set(pages)) == 2 and worklist.count(WantedCases()) == 4


# --- the next one -------------------------------------------------------------------------------


def test_the_next_case_says_why_it_is_this_one(either):
    receive(either, "1", "2", "3")
    sure = {"Liver": {"probability": 0.99, "border_entropy": 0.1}}
    unsure = {"Liver": {"probability": 0.99, "border_entropy": 0.6}}
    finish(either, "1", confidence=sure)
    finish(either, "2", confidence=unsure)
    finish(either, "3")
    finish(either, "3", {"Liver": 500.0}, bundle="other@1")
    worklist = Worklist(either)
    worklist.look()
    chosen = worklist.next_case("rita", strategy="uncertainty")
    assert chosen and (chosen.case.id, chosen.score) == ("2", 0.6)
    assert "entropy 0.60 along the border of Liver" in chosen.why
    chosen = worklist.next_case("rita", strategy="disagreement")
    assert chosen and (chosen.case.id, chosen.score) == ("3", 0.5)
    assert chosen.why == "Liver: 1500 ml by organs@1, 500 ml by other@1"
    worklist.prioritise("1", "high")
    taken = worklist.next_case("rita", claim=True)
    assert taken and (taken.case.id, taken.case.holder) == ("1", "rita")
    assert {worklist.next_case("rolf", strategy="random").case.id for _ in range(30)} == {"2", "3"}


def test_what_is_not_known_chooses_nothing(database):
    receive(database, "1")
    finish(database, "1")
    worklist = Worklist(database)
    worklist.look()
    assert worklist.next_case("rita", strategy="uncertainty") is None
    assert worklist.next_case("rita", strategy="oldest").case.id == "1"


def found(bundle: str, summary, *, confidence=None, is_segmentation=True) -> FoundResult:
    return FoundResult("r", "s", bundle, is_segmentation, summary, confidence, NOON)


def test_a_finding_at_even_odds_is_the_least_certain():
    sure = found("chest@1", {"Pneumonia": 1.0}, is_segmentation=False)
    even = found("chest@1", {"Pneumonia": 0.5}, is_segmentation=False)
    assert uncertainty([sure]).value == 0
    assert uncertainty([sure, even]).value == 1
    assert uncertainty([found("organs@1", {"Liver": 1500.0})]) is None


def test_what_readers_redraw_elsewhere_stands_in_for_a_second_model():
    one = found("organs@2", {"Liver": 1500.0})
    assert disagreement([one]) is None
    score = disagreement([one], {"organs": 0.25})
    assert score and score.value == 0.25 and "25%" in score.why
    other = found("other@1", {"Liver": 1500.0})
    assert disagreement([one, other], {"organs": 0.25}).value == 0
