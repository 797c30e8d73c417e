"""What the viewer's panel shows of a study: results, runs, drafts; with the UIDs that OHIF knows.

Original UIDs stand in the bodies of these answers, for clinical roles only, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from dicom.errors import Conflict, InputError
from node.auth import Caller
from node.blind import is_seen, seen_corrections
from node.faults import Fault, fault_of
from node.parts import FrontParts
from pipelines.corrections import OpenDraft
from pipelines.reported import Reported
from pipelines.store import (
    AskedRun,
    AssessmentView,
    CorrectionView,
    JobView,
    ResultView,
    State,
    StudyView,
    TaskView,
    Unseen,
)

SEGMENTATIONS = frozenset(
    {"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"}  # PS3.4 B.5: SEG, LABELMAP
)
_REPORT = "1.2.840.10008.5.1.4.1.1.88.34"  # Comprehensive 3D SR
_ARCHIVE = "archive"

Kind = Literal["ai", "correction", "elsewhere"]
Standing = Literal["ready", "accepted", "modified", "rejected"]


@dataclass(frozen=True, slots=True)
class Measured:
    """One segment of a result, how large it is, and how sure the model was of it.

    `confidence` is the network's mean probability inside, `border_entropy` the mean normalised
    entropy at its border; null where the model says labels alone, and of what people drew.
    """

    number: int
    label: str
    colour: tuple[int, int, int] | None
    volume_ml: float | None
    longest_mm: float | None
    confidence: float | None = None
    border_entropy: float | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """A segmentation of the study: a model's, a correction, or one from elsewhere.

    `id` is its SOPInstanceUID, `predecessor` the id of what it was corrected from, `state` what
    people said of it last, `confidence` the least of its segments', `model` what people call the
    model behind it.
    """

    id: str
    SeriesInstanceUID: str
    SOPInstanceUID: str
    image_SeriesInstanceUID: str
    kind: Kind
    title: str
    bundle: str | None
    version: str | None
    model: str | None
    author: str | None
    created_at: datetime
    state: Standing
    confidence: float | None
    predecessor: str | None
    segments: tuple[Measured, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """A model that is running on the study, waits, or failed."""

    job: str
    task: str | None
    bundle: str
    title: str
    state: State
    progress: float | None
    error: Fault | None


@dataclass(frozen=True, slots=True)
class Draft:
    """Work of this reader that is not saved yet."""

    id: str
    SeriesInstanceUID: str
    predecessor: str | None
    saved_at: datetime
    segments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StudyInViewer:
    """What there is of a study; `study` is null while the node has not read it yet."""

    study: str | None
    user: str
    role: str
    results: tuple[Result, ...]
    runs: tuple[Run, ...]
    drafts: tuple[Draft, ...]


def study_in_archive(parts: FrontParts, study_uid: str) -> StudyView | None:
    """Return the study of that original UID; None when the node has not read it.

    Raises
    ------
    Conflict
        When the archive holds studies of several patients under that UID.
    """
    found = parts.clinical.lookup("studies", study_uid)
    if len(found) > 1:
        raise Conflict("the archive holds studies of several patients under that UID")
    return parts.studies.study_in_archive(found[0]) if found else None


def study_for_viewer(
    parts: FrontParts, reported: Reported, caller: Caller, study_uid: str
) -> StudyInViewer:
    """Return all that the panel shows of a study.

    Raises
    ------
    Conflict
        When the archive holds studies of several patients under that UID.
    PeerError
        When the archive does not answer.
    """
    study = study_in_archive(parts, study_uid)
    drafts = tuple(_draft(one) for one in parts.desk.drafts_of(study_uid, user=caller.name))
    if study is None:
        return StudyInViewer(None, caller.name, caller.role, (), (), drafts)
    jobs = parts.jobs.jobs_of(study.id)
    listed = _Listed.of(parts, study, parts.reading.rounds.unseen_by(caller.name))
    results = [
        *_corrections(parts, study, listed),
        *(each for job in jobs for each in _from_models(parts, reported, job, listed)),
    ]
    results.sort(key=lambda result: result.created_at, reverse=True)
    asked = parts.asked.runs_of(study.id)
    title_of = parts.registry.title_of
    runs = tuple(run for job in jobs for run in _runs(job, asked.get(job.id), title_of))
    return StudyInViewer(study.id, caller.name, caller.role, tuple(results), runs, drafts)


@dataclass(frozen=True, slots=True)
class _Listed:
    """What all results of a study need: images by our ids, and the last word on each result.

    `unseen` is what other readers of an open round did: nothing of it is told.
    """

    images: Mapping[str, str]
    said: Mapping[str, AssessmentView]
    unseen: Unseen
    title_of: Callable[[str], str]

    @classmethod
    def of(cls, parts: FrontParts, study: StudyView, unseen: Unseen) -> _Listed:
        uids = parts.clinical.series_uids(study.orthanc_id)
        images = {
            series.id: uids[series.orthanc_id]
            for series in parts.studies.series_of(study.id)
            if series.orthanc_id in uids
        }
        said: dict[str, AssessmentView] = {}
        for one in parts.corrections.assessments(study_id=study.id):
            if is_seen(one, unseen):
                said.setdefault(one.result_id, one)  # the newest comes first
        return cls(images, said, unseen, parts.registry.title_of)

    def state(self, result_id: str) -> Standing:
        last = self.said.get(result_id)
        return last.verdict if last else "ready"


def _from_models(
    parts: FrontParts, reported: Reported, job: JobView, listed: _Listed
) -> Sequence[Result]:
    delivered = {
        one.result_id
        for one in job.deliveries
        if one.destination == _ARCHIVE and one.state == "completed"
    }
    tasks = {task.id: task for task in job.tasks}
    found = []
    for result in job.results:
        task = tasks[result.task_id]
        image_uid = listed.images.get(task.series_id)
        if result.sop_class_uid in SEGMENTATIONS and result.id in delivered and image_uid:
            segments = _segments(parts, reported, job, result, task)
            found.append(_of_model(result, task, image_uid, listed, segments))
    return found


def _of_model(
    result: ResultView,
    task: TaskView,
    image_uid: str,
    listed: _Listed,
    segments: tuple[Measured, ...],
) -> Result:
    name, _, version = task.bundle.partition("@")
    title = listed.title_of(task.bundle)
    surely = _with_confidence(segments, task.confidence)
    return Result(
        id=result.id,
        SeriesInstanceUID=result.series_uid,
        SOPInstanceUID=result.id,
        image_SeriesInstanceUID=image_uid,
        kind="ai",
        title=title,
        bundle=name,
        version=version or None,
        model=title,
        author=None,
        created_at=result.created_at,
        state=listed.state(result.id),
        confidence=_least(surely),
        predecessor=None,
        segments=surely,
    )


def _segments(
    parts: FrontParts, reported: Reported, job: JobView, result: ResultView, task: TaskView
) -> tuple[Measured, ...]:
    """Return the segments by the report beside the segmentation; without one, by the summary."""
    colours = _colours(parts, task.bundle)
    for beside in job.results:
        if beside.task_id == task.id and beside.sop_class_uid == _REPORT:
            told = reported.segments(beside.id, result.id)
            if told:
                return tuple(
                    Measured(s.number, s.label, colours.get(s.label), s.volume_ml, s.longest_mm)
                    for s in told
                )
    return tuple(
        Measured(number, label, colours.get(label), _number(volume), None)
        for number, (label, volume) in enumerate(result.summary.items(), 1)
    )


def _with_confidence(
    segments: Sequence[Measured], confidence: Mapping[str, Any] | None
) -> tuple[Measured, ...]:
    told = confidence or {}
    return tuple(
        replace(
            each,
            confidence=told[each.label]["probability"],
            border_entropy=told[each.label]["border_entropy"],
        )
        if each.label in told
        else each
        for each in segments
    )


def _least(segments: Sequence[Measured]) -> float | None:
    """Return how sure the model was of the segment of which it was least sure."""
    return min((s.confidence for s in segments if s.confidence is not None), default=None)


def _colours(parts: FrontParts, bundle: str) -> Mapping[str, tuple[int, int, int]]:
    try:
        return {s.label: s.rgb for s in parts.registry.get(bundle).segments}
    except InputError:  # it was removed since, or broke: its results stay
        return {}


def _corrections(parts: FrontParts, study: StudyView, listed: _Listed) -> Sequence[Result]:
    rows = seen_corrections(parts.corrections.of_study(study.id), listed.unseen)
    from_elsewhere = [row for row in rows if row.source == "elsewhere" and row.orthanc_id]
    names = parts.clinical.names([row.orthanc_id or "" for row in from_elsewhere])
    uid_of = {
        row.id: names[row.orthanc_id].sop_instance_uid
        for row in from_elsewhere
        if row.orthanc_id in names
    }
    found = []
    for row in rows:
        image_uid = listed.images.get(row.series_id)
        if image_uid is None or (row.source == "elsewhere" and row.orthanc_id not in names):
            continue
        series_uid, uid, title = row.series_uid, row.id, row.title
        if row.orthanc_id in names:
            name = names[row.orthanc_id]
            series_uid, uid = name.series_uid, name.sop_instance_uid
            title = name.series_description or title
        found.append(_drawn(row, series_uid, uid, title, image_uid, uid_of, listed))
    return found


def _drawn(
    row: CorrectionView,
    series_uid: str,
    uid: str,
    title: str,
    image_uid: str,
    uid_of: Mapping[str, str],
    listed: _Listed,
) -> Result:
    name, _, version = (row.bundle or "").partition("@")
    before = row.predecessor_id
    return Result(
        id=uid,
        SeriesInstanceUID=series_uid,
        SOPInstanceUID=uid,
        image_SeriesInstanceUID=image_uid,
        kind="elsewhere" if row.source == "elsewhere" else "correction",
        title=title,
        bundle=name or None,
        version=version or None,
        model=listed.title_of(row.bundle) if row.bundle else None,
        author=row.author or None,
        created_at=row.created_at,
        state=listed.state(row.id),
        confidence=None,
        predecessor=uid_of.get(before, before) if before else None,
        segments=tuple(_row_segment(segment) for segment in row.segments),
    )


def _row_segment(segment: Mapping[str, Any]) -> Measured:
    red, green, blue = segment["rgb"]
    return Measured(
        segment["number"],
        segment["label"],
        (red, green, blue),
        segment["volume_ml"],
        None,
    )


def _runs(job: JobView, asked: AskedRun | None, title_of: Callable[[str], str]) -> Sequence[Run]:
    """Return what of a job is still to come, or failed; one that is asked for shows at once."""
    running = job.current_step
    found = []
    if asked is not None and not job.tasks and job.state != "completed":
        error = fault_of(job.error_code, job.error_message)
        title = title_of(asked.bundle)
        found.append(Run(job.id, None, asked.bundle, title, job.state, None, error))
    for task in job.tasks:
        if task.state == "completed":
            continue
        is_now = running is not None and running.task_id == task.id
        found.append(
            Run(
                job=job.id,
                task=task.id,
                bundle=task.bundle,
                title=title_of(task.bundle),
                state=task.state,
                progress=task.progress if is_now else None,
                error=fault_of(task.error_code, task.error_message),
            )
        )
    return found


def _draft(draft: OpenDraft) -> Draft:
    before = draft.head.predecessor
    return Draft(
        id=draft.id,
        SeriesInstanceUID=draft.head.series_uid,
        predecessor=before.sop_instance_uid if before else None,
        saved_at=draft.saved_at,
        segments=tuple(segment.label for segment in draft.head.segments),
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
