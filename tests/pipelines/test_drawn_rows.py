"""The rows of what people draw, on SQLite and on PostgreSQL."""

from datetime import timedelta

import pytest

from dicom.errors import NotFound, UnreadablePixels
from pipelines.store import (
    ArchivedChange,
    AskedRun,
    AskedRuns,
    Corrections,
    Database,
    Difference,
    DraftKeys,
    Drafts,
    Effort,
    ElsewhereObjects,
    Jobs,
    NewCorrection,
    NewTask,
    Studies,
)

STUDY, SERIES, DRAWN = "2.25.1", "2.25.1.1", "2.25.1.2"


@pytest.fixture
def known(database: Database) -> Database:
    """Return a database with a study, its images and a series that somebody drew."""
    changes = [
        ArchivedChange(STUDY, "o", series, f"o {series}", modality, count, ours=False)
        for series, modality, count in ((SERIES, "CT", 20), (DRAWN, "SEG", 1))
    ]
    assert Studies(database).record_changes("clinical", since=0, until=1, changes=changes)
    return database


def new(number: int, **changed) -> NewCorrection:
    values = {
        "id": f"2.25.9.{number}",
        "series_uid": f"2.25.8.{number}",
        "study_id": STUDY,
        "series_id": SERIES,
        "source": "viewer",
        "predecessor_id": "2.25.7",
        "result_id": "2.25.7",
        "bundle": "organs@1",
        "author": "rita",
        "title": "Corrected by rita",
        "segments": [{"number": 1, "label": "Liver", "rgb": [1, 2, 3], "volume_ml": 1.5}],
        "effort": Effort(12.5, 3.0, 4),
    }
    return NewCorrection(**{**values, **changed})


def test_a_correction_is_noted_before_it_is_stored_and_counts_once(known):
    corrections, drafts = Corrections(known), Drafts(known)
    draft = drafts.put("rita", DraftKeys("s", "i", ""), lambda _id: b"sealed")
    row = corrections.begin(new(1), first_series_number=9501)
    assert (row.is_stored, row.series_number, row.stale) == (False, 9501, False)
    assert Jobs(known).is_ours("2.25.8.1") and not Jobs(known).is_ours("2.25.8.2")
    assert corrections.of_study(STUDY) == [] and corrections.unmeasured() == []
    for _ in range(2):
        stored = corrections.stored(row.id, orthanc_id="o 1", draft_id=draft.id)
    assert stored.is_stored and stored.effort == Effort(12.5, 3.0, 4)
    assert [one.verdict for one in corrections.assessments(study_id=STUDY)] == ["modified"]
    assert drafts.of_study("s", user="rita") == []
    assert corrections.by_orthanc_id("o 1") == stored
    assert corrections.unmeasured() == [row.id]


def test_the_second_on_one_predecessor_is_stale(known):
    corrections = Corrections(known)
    rows = [corrections.begin(new(n), first_series_number=9501) for n in (1, 2)]
    assert [row.series_number for row in rows] == [9501, 9502]
    first, second = (corrections.stored(row.id, orthanc_id=f"o {row.id}") for row in rows)
    assert (first.stale, second.stale) == (False, True)
    assert {one.id for one in corrections.of_predecessor("2.25.7")} == {first.id, second.id}


def test_what_could_not_be_stored_is_forgotten_and_what_was_is_not(known):
    corrections = Corrections(known)
    corrections.begin(new(1), first_series_number=9501)
    corrections.begin(new(2), first_series_number=9501)
    corrections.stored("2.25.9.2", orthanc_id="o 2")
    for number in (1, 2):
        corrections.dropped(f"2.25.9.{number}")
    with pytest.raises(NotFound):
        corrections.correction("2.25.9.1")
    assert corrections.correction("2.25.9.2").is_stored


def test_a_difference_is_kept_with_its_segments(known):
    corrections = Corrections(known)
    corrections.begin(new(1), first_series_number=9501)
    corrections.stored("2.25.9.1", orthanc_id="o 1")
    difference = Difference(7, 1.25, 0.5, 1.0, ({"number": 1, "dice": 0.25},))
    corrections.keep_difference("2.25.9.1", difference)
    assert corrections.correction("2.25.9.1").difference == difference
    assert corrections.unmeasured() == []
    assert len(corrections.measured(bundle="organs@1", author="rita")) == 1
    assert corrections.measured(author="rob") == []


def test_a_verdict_needs_something_to_be_about(known):
    corrections = Corrections(known)
    with pytest.raises(NotFound):
        corrections.assess("2.25.99", verdict="accepted", reason=None, comment=None, author="rob")
    corrections.begin(new(1), first_series_number=9501)
    corrections.stored("2.25.9.1", orthanc_id="o 1")
    corrections.assess("2.25.9.1", verdict="rejected", reason="x", comment=b"sealed", author="rob")
    said = corrections.assessments(result_id="2.25.9.1")
    assert [(one.verdict, one.comment, one.author) for one in said] == [
        ("rejected", b"sealed", "rob")
    ]


def test_there_is_one_draft_for_each_reader_series_and_predecessor(known):
    drafts = Drafts(known)
    keys = DraftKeys("s", "i", "")
    first = drafts.put("rita", keys, lambda _id: b"1")
    again = drafts.put("rita", keys, lambda draft_id: draft_id.encode())
    assert (again.id, again.sealed) == (first.id, first.id.encode())
    drafts.put("rita", DraftKeys("s", "i", "before"), lambda _id: b"2")
    drafts.put("rob", keys, lambda _id: b"3")
    assert len(drafts.of_study("s", user="rita")) == 2
    with pytest.raises(NotFound):
        drafts.draft(first.id, user="rob")
    drafts.delete(first.id, user="rob")
    assert drafts.draft(first.id, user="rita").sealed == first.id.encode()


def test_a_save_that_never_ended_is_found(known):
    drafts = Drafts(known)
    draft = drafts.put("rita", DraftKeys("s", "i", ""), lambda _id: b"1")
    soon = timedelta(seconds=-1)
    assert drafts.interrupted(after=soon) == []
    drafts.saving(draft.id)
    assert [one.id for one in drafts.interrupted(after=soon)] == [draft.id]
    assert drafts.interrupted(after=timedelta(minutes=1)) == []
    drafts.not_saved(draft.id)
    assert drafts.interrupted(after=soon) == []


def test_an_object_from_elsewhere_is_seen_once(known):
    objects, jobs = ElsewhereObjects(known), Jobs(known)
    assert objects.unseen() == []  # still arriving
    jobs.schedule(STUDY, complete={DRAWN: "f"}, as_of={}, job_id=None, new={})
    assert [one.id for one in objects.unseen()] == [DRAWN]
    where = {"orthanc_id": "o 7", "study_id": STUDY, "series_id": DRAWN, "modality": "SEG"}
    seen = objects.see("2.25.5", **where)
    assert objects.see("2.25.5", **where) == seen and objects.unseen() == []
    objects.wait(seen.id, UnreadablePixels("a frame is damaged"))
    (waiting,) = objects.objects(state="waiting")
    assert waiting.reason_code == "unreadable_pixels"
    objects.settle(seen.id, "dismissed", by="rita")
    assert objects.objects(state="waiting") == []
    assert objects.object(seen.id).settled_by == "rita"


def test_a_run_is_asked_for_once(known):
    asked, jobs = AskedRuns(known), Jobs(known)
    run = AskedRun("job-1", SERIES, "organs@1", ((0, 1, 2), (3, 4, 5)), "rita")
    assert asked.ask(run, study_id=STUDY, content={SERIES: "f"})
    assert not asked.ask(run, study_id=STUDY, content={SERIES: "f"})
    assert asked.run_of("job-1") == run and asked.run_of("job-2") is None
    assert asked.runs_of(STUDY) == {"job-1": run}
    assert [job.id for job in jobs.not_handed_over()] == ["job-1"]
    task = NewTask("t", SERIES, "asked", "organs@1", "0" * 64, (), (), "stat")
    jobs.plan("job-1", [task], collect=False)
    assert jobs.job("job-1").tasks[0].route == "asked"
