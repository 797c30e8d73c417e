"""What is remembered: rows and cursor move together, nothing hangs, two workers do it once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from dicom.errors import Canceled, NotFound, PeerUnreachable, PredictorDied, WithdrawnBundle
from pipelines.store import (
    Access,
    ArchivedChange,
    Database,
    Jobs,
    NewTask,
    SeriesView,
    Studies,
)

STUDY = "2.25.1"


@pytest.fixture
def studies(database: Database) -> Studies:
    return Studies(database)


@pytest.fixture
def jobs(database: Database) -> Jobs:
    return Jobs(database)


@pytest.fixture
def access(database: Database) -> Access:
    return Access(database)


def change(series: str = "2.25.1.1", *, count: int = 20, ours: bool = False) -> ArchivedChange:
    return ArchivedChange(
        study_id=STUDY,
        study_orthanc_id="orthanc-study",
        series_id=series,
        series_orthanc_id=f"orthanc-{series}",
        modality="MR",
        instance_count=count,
        ours=ours,
    )


def receive(studies: Studies, *changes: ArchivedChange) -> None:
    since = studies.cursor("clinical")
    changes = changes or (change(),)
    assert studies.record_changes("clinical", since=since, until=since + 10, changes=changes)


def schedule(studies: Studies, jobs: Jobs, job: str, content: dict[str, str]) -> bool:
    as_of = {view.id: view.changed_at for view in studies.series_of(STUDY) if view.id in content}
    return jobs.schedule(STUDY, complete=content, as_of=as_of, job_id=job, new=content)


def new_task(task: str = "task", *, destinations: tuple[str, ...] = ()) -> NewTask:
    return NewTask(
        id=task,
        series_id="2.25.1.1",
        route="head-mr",
        bundle="mr_brain@0.1.0",
        bundle_sha256="0" * 64,
        outputs=("seg",),
        destinations=destinations,
        priority="routine",
    )


@pytest.fixture
def job(studies: Studies, jobs: Jobs) -> str:
    """A job that is carried out, with the content `a`."""
    receive(studies)
    assert schedule(studies, jobs, "job", {"2.25.1.1": "a"})
    jobs.start("job")
    return "job"


def keep_result(jobs: Jobs, task: str, *destinations: str) -> str:
    uid = f"2.25.9.{task}"
    jobs.keep_result(
        task,
        sop_instance_uid=uid,
        series_uid=f"{uid}.1",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.66.4",
        summary={"Brain": 1.5},
        destinations=destinations,
    )
    return uid


def only(views: list[SeriesView]) -> SeriesView:
    (view,) = views
    return view


# --- the cursor ---------------------------------------------------------------------------------


def test_the_cursor_moves_with_the_rows(studies):
    assert studies.cursor("clinical") == 0
    receive(studies)
    assert studies.cursor("clinical") == 10
    assert only(studies.series_of(STUDY)).state == "receiving"
    assert studies.receiving()


def test_the_cursor_does_not_move_when_the_rows_cannot_be_written(studies):
    def breaks():
        yield change()
        raise ConnectionError("the archive went away half-way")

    with pytest.raises(ConnectionError):
        studies.record_changes("clinical", since=0, until=10, changes=breaks())
    assert studies.cursor("clinical") == 0
    assert studies.series_of(STUDY) == []


def test_a_page_that_was_read_already_is_written_once(studies):
    receive(studies)
    late = change("2.25.1.2")
    assert not studies.record_changes("clinical", since=0, until=10, changes=[late])
    assert [view.id for view in studies.series_of(STUDY)] == ["2.25.1.1"]


def at_once(count: int, do: Callable[[int], bool]) -> list[bool]:
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(do, range(count)))


@pytest.mark.parametrize("since", [0, 10])
def test_workers_that_read_the_same_page_write_it_once(database_url, database, since):
    if since:
        receive(Studies(database))
    others = [Database(database_url) for _ in range(4)]

    def read(number: int) -> bool:
        return Studies(others[number]).record_changes(
            "clinical", since=since, until=since + 10, changes=[change(count=number)]
        )

    assert sum(at_once(4, read)) == 1
    assert Studies(database).cursor("clinical") == since + 10
    for other in others:
        other.close()


def test_an_archive_that_was_replaced_is_read_from_its_beginning(studies):
    receive(studies)
    studies.rewind("clinical")
    assert studies.cursor("clinical") == 0
    assert not studies.record_changes("clinical", since=10, until=20, changes=[change()])
    assert studies.record_changes("clinical", since=0, until=5, changes=[change()])
    assert studies.cursor("clinical") == 5


# --- completeness -------------------------------------------------------------------------------


def test_a_study_is_quiet_when_all_of_its_series_are(studies):
    receive(studies, change("2.25.1.1"), change("2.25.1.2"))
    assert studies.quiet(quiet_s=3600) == []
    assert studies.quiet(quiet_s=0) == [STUDY]


def test_a_late_slice_opens_a_complete_series_again(studies, jobs, job):
    assert only(studies.series_of(STUDY)).state == "complete"
    assert not studies.receiving()
    receive(studies, change(count=21))
    view = only(studies.series_of(STUDY))
    assert (view.state, view.instance_count, view.fingerprint) == ("receiving", 21, "a")


def test_a_result_of_our_own_is_never_waited_for(studies):
    receive(studies, change("2.25.9.1", ours=True))
    assert only(studies.series_of(STUDY)).state == "complete"
    assert not studies.receiving()
    receive(studies, change("2.25.9.1", ours=True, count=2))
    assert not studies.receiving()


def test_a_slice_that_came_while_the_content_was_read_is_not_lost(studies, jobs):
    receive(studies)
    before = {view.id: view.changed_at for view in studies.series_of(STUDY)}
    receive(studies, change(count=21))
    content = {"2.25.1.1": "of twenty slices"}
    assert not jobs.schedule(STUDY, complete=content, as_of=before, job_id="job", new=content)
    assert studies.receiving()
    assert jobs.jobs() == []


def test_the_same_content_again_is_no_second_job(studies, jobs, job):
    receive(studies)
    assert ("2.25.1.1", "a") in jobs.done_fingerprints(STUDY)
    assert not schedule(studies, jobs, job, {"2.25.1.1": "a"})
    assert len(jobs.jobs()) == 1
    assert not studies.receiving()


def test_workers_that_find_the_same_study_quiet_make_one_job(database_url, database):
    receive(Studies(database))
    others = [Database(database_url) for _ in range(4)]

    def make(number: int) -> bool:
        mine = others[number]
        return schedule(Studies(mine), Jobs(mine), "job", {"2.25.1.1": "a"})

    assert sum(at_once(4, make)) == 1
    assert len(Jobs(database).jobs()) == 1
    for other in others:
        other.close()


def test_newer_content_takes_the_place_of_what_is_being_done(studies, jobs, job):
    receive(studies, change(count=21))
    assert schedule(studies, jobs, "newer", {"2.25.1.1": "b"})
    assert jobs.open_jobs_to_cancel() == [job]
    assert not jobs.is_cancel_requested("newer")


def test_another_series_takes_nobodys_place(studies, jobs, job):
    receive(studies, change("2.25.1.2"))
    assert schedule(studies, jobs, "other", {"2.25.1.2": "b"})
    assert jobs.open_jobs_to_cancel() == []


# --- handing over -------------------------------------------------------------------------------


def test_a_job_waits_until_the_engine_has_it(jobs, job):
    assert [view.id for view in jobs.not_handed_over()] == [job]
    jobs.handed_over(job, 1)
    assert jobs.not_handed_over() == []


def test_a_job_that_is_tried_again_waits_again(jobs, job):
    jobs.handed_over(job, 1)
    jobs.end_job(job, PredictorDied())
    assert jobs.retry(job)
    jobs.handed_over(job, 1)  # said late, of the earlier attempt
    (view,) = jobs.not_handed_over()
    assert (view.attempt, view.state, view.error_code, view.ended_at) == (
        2,
        "scheduled",
        None,
        None,
    )


@pytest.mark.parametrize("end", [None, PredictorDied()])
def test_only_what_failed_is_tried_again(jobs, job, end):
    assert not jobs.retry(job)
    jobs.end_job(job, end)
    assert jobs.retry(job) is (end is not None)


# --- the end of a job ---------------------------------------------------------------------------


def test_a_job_without_tasks_ends(jobs, job):
    jobs.plan(job, [], collect=False)
    jobs.end_job(job)
    assert jobs.job(job).state == "completed"


def test_a_job_ends_with_its_last_task(jobs, job):
    jobs.plan(job, [new_task("one"), new_task("two")], collect=False)
    for name, state in (("one", "in_progress"), ("two", "completed")):
        jobs.start_task(name)
        jobs.end_task(name)
        assert jobs.job(job).state == state
    assert jobs.job(job).ended_at is not None


def test_a_job_ends_with_its_last_delivery(jobs, job):
    jobs.plan(job, [new_task(destinations=("pacs",))], collect=False)
    result = keep_result(jobs, "task", "archive", "pacs")
    jobs.note_delivery(result, "archive")
    jobs.end_task("task")
    assert jobs.job(job).state == "in_progress"
    jobs.note_delivery(result, "pacs", PeerUnreachable())
    assert jobs.job(job).state == "in_progress"  # it is tried again
    jobs.note_delivery(result, "pacs")
    view = jobs.job(job)
    assert view.state == "completed"
    assert {d.destination: (d.state, d.attempts) for d in view.deliveries} == {
        "archive": ("completed", 1),
        "pacs": ("completed", 2),
    }


def test_parts_that_end_at_once_end_the_job(database_url, database):
    studies, jobs = Studies(database), Jobs(database)
    receive(studies)
    schedule(studies, jobs, "job", {"2.25.1.1": "a"})
    jobs.start("job")
    names = [f"task{number}" for number in range(6)]
    jobs.plan("job", [new_task(name) for name in names], collect=False)
    others = [Database(database_url) for _ in names]

    def end(number: int) -> bool:
        Jobs(others[number]).end_task(names[number])
        return True

    at_once(len(names), end)
    assert jobs.job("job").state == "completed"
    for other in others:
        other.close()


def test_a_task_that_fails_after_it_kept_its_result_ends_its_job(jobs, job):
    # Its deliveries will never be tried: nothing may wait for them.
    jobs.plan(job, [new_task(destinations=("pacs",))], collect=False)
    result = keep_result(jobs, "task", "archive", "pacs")
    jobs.note_delivery(result, "archive", PeerUnreachable())
    jobs.end_task("task", PeerUnreachable())
    view = jobs.job(job)
    assert (view.state, view.error_code) == ("canceled", "peer_unreachable")
    assert {d.state for d in view.deliveries} == {"canceled"}


def test_a_delivery_that_is_given_up_fails_the_job(jobs, job):
    jobs.plan(job, [new_task(destinations=("pacs",))], collect=False)
    result = keep_result(jobs, "task", "archive", "pacs")
    jobs.note_delivery(result, "archive")
    jobs.end_task("task")
    jobs.give_up_delivery(result, "pacs", PeerUnreachable())
    assert (jobs.job(job).state, jobs.job(job).error_code) == ("canceled", "peer_unreachable")


def test_what_was_canceled_half_way_can_be_tried_again_to_its_end(jobs, job):
    jobs.plan(job, [new_task(destinations=("pacs",))], collect=False)
    result = keep_result(jobs, "task", "archive", "pacs")
    jobs.note_delivery(result, "archive")
    jobs.end_task("task")
    jobs.note_delivery(result, "pacs", PeerUnreachable())  # in progress when it is canceled
    assert jobs.ask_cancel(job)
    jobs.end_job(job, Canceled())
    assert jobs.job(job).state == "canceled"
    assert jobs.retry(job)
    jobs.start(job)
    jobs.plan(job, [new_task(destinations=("pacs",))], collect=False)
    states = {d.destination: d.state for d in jobs.job(job).deliveries}
    assert states == {"archive": "completed", "pacs": "scheduled"}
    jobs.note_delivery(result, "pacs")
    assert jobs.job(job).state == "completed"


def test_a_version_that_was_withdrawn_meanwhile_does_not_fail_the_next_attempt(jobs, job):
    jobs.plan(job, [new_task()], collect=False)
    jobs.end_step(jobs.begin_step(job, "predict", "task"), "withdrawn_bundle")
    jobs.end_task("task", WithdrawnBundle("mr_brain@0.1.0 was withdrawn"))
    assert jobs.job(job).error_code == "withdrawn_bundle"
    assert jobs.retry(job)
    jobs.start(job)
    jobs.plan(job, [new_task("of another version")], collect=False)
    assert [task.id for task in jobs.job(job).tasks] == ["of another version"]
    assert "predict" in [step.name for step in jobs.job(job).steps]  # it took its time
    jobs.end_task("of another version")
    assert (jobs.job(job).state, jobs.job(job).error_code) == ("completed", None)


def test_what_an_earlier_attempt_made_stays_though_nobody_plans_it_again(jobs, job):
    jobs.plan(job, [new_task()], collect=False)
    keep_result(jobs, "task", "archive")
    jobs.end_job(job, Canceled())
    assert jobs.retry(job)
    jobs.start(job)
    jobs.plan(job, [new_task("of another version")], collect=False)
    assert {task.id for task in jobs.job(job).tasks} == {"task", "of another version"}


def test_a_job_that_ended_cannot_be_canceled(jobs, job):
    jobs.end_job(job)
    assert not jobs.ask_cancel(job)
    with pytest.raises(NotFound):
        jobs.ask_cancel("nothing")


def test_a_failed_job_closes_its_open_tasks(jobs, job):
    jobs.plan(job, [new_task("done"), new_task("open")], collect=False)
    jobs.end_task("done")
    jobs.end_job(job, Canceled("by a person"))
    states = {task.id: (task.state, task.error_code) for task in jobs.job(job).tasks}
    assert states == {"done": ("completed", None), "open": ("canceled", "canceled")}


def test_a_result_kept_twice_is_one(jobs, job):
    jobs.plan(job, [new_task()], collect=False)
    first = keep_result(jobs, "task", "archive", "pacs", "pacs")
    assert keep_result(jobs, "task", "archive", "pacs") == first
    assert len(jobs.job(job).results) == 1
    assert len(jobs.job(job).deliveries) == 2
    assert jobs.is_ours(f"{first}.1")
    assert not jobs.is_ours("2.25.404")


# --- steps --------------------------------------------------------------------------------------


def test_a_step_that_a_crash_left_open_is_closed_by_the_next(jobs, job):
    jobs.begin_step(job, "fetch")
    jobs.end_step(jobs.begin_step(job, "fetch"))
    first, second = jobs.job(job).steps
    assert (first.error_code, second.error_code) == ("interrupted", None)
    assert second.seconds is not None
    assert jobs.job(job).current_step is None


def test_steps_of_two_tasks_do_not_close_each_other(jobs, job):
    jobs.plan(job, [new_task("one"), new_task("two")], collect=False)
    jobs.begin_step(job, "predict", "one")
    jobs.begin_step(job, "predict", "two")
    assert [step.ended_at for step in jobs.job(job).steps] == [None, None]


# --- standing, heartbeats -----------------------------------------------------------------------


def test_a_study_stands_as_its_newest_job_does(studies, jobs, job):
    assert studies.count("working") == 1
    jobs.end_job(job, PredictorDied())
    assert (studies.count("working"), studies.count("failed")) == (0, 1)
    jobs.retry(job)
    jobs.start(job)
    jobs.end_job(job)
    assert studies.count("completed") == 1
    assert [view.id for view in studies.studies(standing="completed")] == [STUDY]


def test_a_worker_is_alive_while_it_beats(access):
    access.beat("worker-1")
    access.beat("worker-1")
    access.beat("worker-2")
    access.forget_worker("worker-2")
    assert access.workers_seen(within=timedelta(seconds=30)) == ["worker-1"]
    assert access.workers_seen(within=timedelta(seconds=-30)) == []


def test_times_come_back_with_their_zone(studies, access):
    receive(studies)
    assert studies.study(STUDY).received_at.tzinfo is not None
    assert abs(studies.study(STUDY).received_at - datetime.now(UTC)) < timedelta(hours=1)
