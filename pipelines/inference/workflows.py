"""The three workflows; reads from top to bottom."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from itertools import product

import structlog

from dicom import dimse
from dicom.errors import (
    Canceled,
    InputError,
    InvalidSettings,
    NoRoute,
    NotAnImage,
    NotFound,
    RadloopError,
)
from dicom.study import Series
from dicom.volume import SeriesFacts, describe_series
from pipelines.engine import Engine, Retries, Steps, WorkflowSpec
from pipelines.inference.cleaning import Cleaning
from pipelines.inference.house import ARCHIVE, House, noted, shown
from pipelines.inference.task import TaskSteps
from pipelines.routing import Route, match_routes
from pipelines.store import DRAWN_MODALITIES, JobView, NewTask
from pipelines.workspace import jobs_with_folders

log = structlog.get_logger()

_DELIVERIES = "deliveries"
_ASKED = "asked"  # how the route of a run that a person asked for is called
_SWEPT_AFTER = timedelta(minutes=10)  # a step that was canceled may still write
_PREDICTION = Retries(attempts=3, first_delay_s=2.0)
_DELIVERY = Retries(attempts=9, first_delay_s=4.0)  # gives up after about half an hour


class Inference:
    """The three workflows, over one house."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._engine: Engine | None = None
        self._cleaning = Cleaning(house)
        self._task = TaskSteps(house)

    def specs(self) -> tuple[WorkflowSpec, ...]:
        """Return the workflows for the engine."""
        return (
            WorkflowSpec("job", "studies", self.run_job, self._job_failed),
            WorkflowSpec("task", "tasks", self.run_task, self._task_failed),
            WorkflowSpec("delivery", "deliveries", self.run_delivery, self._delivery_failed),
        )

    def attach(self, engine: Engine) -> None:
        """Give the workflows the engine that they hand tasks and deliveries to."""
        self._engine = engine

    # --- between the rows and the engine --------------------------------------------------------

    def hand_over(self) -> None:
        """Give the engine every job that it has not got; safe to repeat after a crash."""
        for job in self._house.jobs.not_handed_over():
            self._enqueue("job", f"{job.id}.{job.attempt}", job.id, "routine")
            self._house.jobs.handed_over(job.id, job.attempt)

    def cancel_requested(self) -> None:
        """End the jobs that somebody asked to cancel."""
        for job_id in self._house.jobs.open_jobs_to_cancel():
            job = self._house.jobs.job(job_id)
            self._require_engine().cancel(_workflow_ids(job))
            self._house.jobs.end_job(
                job_id,
                Canceled("canceled by a person, or newer slices of the series took its place"),
            )
            log.info("job_canceled", job=job_id)

    def sweep(self) -> None:
        """Drop the folders of jobs that ended a while ago: canceled ones have nobody to do it."""
        horizon = datetime.now(UTC) - _SWEPT_AFTER
        for job_id in set(jobs_with_folders(self._house.work)) - {_DELIVERIES}:
            try:
                ended_at = self._house.jobs.job(job_id).ended_at
            except NotFound:  # of another database, or one that was put back from a backup
                ended_at = datetime.min.replace(tzinfo=UTC)
            if ended_at is not None and ended_at < horizon:
                self._house.drop(job_id)

    # --- the job --------------------------------------------------------------------------------

    def run_job(self, job_id: str, steps: Steps) -> None:
        """Fetch, de-identify, route; then hand a task over for each model that is wanted."""
        self._house.jobs.start(job_id)
        self._house.predictor.start()  # its libraries load while the study is fetched
        steps.run("fetch", lambda: self._fetch(job_id))
        steps.run("deidentify", lambda: self._deidentify(job_id))
        waiting = steps.run("route", lambda: self._route(job_id))
        steps.run("collect", lambda: self._collect(job_id))
        self._house.workspace(job_id).drop_downloads()  # the steps that read them are over
        for workflow, workflow_id, argument, priority in waiting:
            self._enqueue(workflow, workflow_id, argument, priority)
        if not waiting:
            self._house.jobs.end_job(job_id)
            self._tidy(job_id)

    def _fetch(self, job_id: str) -> None:
        """Find the study's files in the archive."""
        with shown(self._house, job_id, "fetch"):
            workspace = self._house.workspace(job_id)
            sources = {}
            for number, part in enumerate(self._house.jobs.job(job_id).series):
                row = self._house.studies.series(part.series_id)
                archived = self._house.clinical.series(row.orthanc_id)
                series = self._house.clinical.fetch(archived, workspace.downloads / str(number))
                sources[part.series_id] = tuple(i.path for i in series.instances)
            workspace.keep_sources(sources)

    def _deidentify(self, job_id: str) -> None:
        """Take the identity off every instance, see that it is gone, seal it; fails closed."""
        with shown(self._house, job_id, "deidentify"):
            self._cleaning.deidentify(job_id)

    def _route(self, job_id: str) -> list[tuple[str, str, str, str]]:
        """Match the routes; return (workflow, its id, argument, priority) of what is to be done."""
        with shown(self._house, job_id, "route"):
            job = self._house.jobs.job(job_id)
            tasks: list[NewTask] = []
            collect = False
            for series in self._house.study(job_id).series:
                facts = describe_series(series)
                self._house.studies.keep_facts(series.series_uid, asdict(facts))
                if facts.study_description:
                    self._house.studies.describe(job.study_id, facts.study_description)
                routes = self._routes_of(job_id, series, facts)
                collect = collect or any(route.collect or route.project for route in routes)
                tasks += self._tasks(job_id, series, routes)
                reason = _why_not(facts, routes)
                if reason is not None and not self._house.asked.run_of(job_id):
                    self._house.jobs.skip_series(job_id, series.series_uid, reason)
            self._house.jobs.plan(job_id, tasks, collect=collect)
            self._refuse_documents_only(job_id, tasks)
            return self._waiting(self._house.jobs.job(job_id), job.attempt)

    def _routes_of(self, job_id: str, series: Series, facts: SeriesFacts) -> list[Route]:
        """Return the rules for a series; what a person asked for is one of its own."""
        asked = self._house.asked.run_of(job_id)
        if asked is None:
            return match_routes(facts, self._house.routes)
        if series.series_uid != asked.series_id:
            return []
        return [Route(_ASKED, bundle=asked.bundle, priority="stat")]

    def _tasks(self, job_id: str, series: Series, routes: Sequence[Route]) -> list[NewTask]:
        tasks = []
        for route in routes:
            if not route.bundle:
                continue
            identity, sha256 = self._named(route.bundle)
            tasks.append(
                NewTask(
                    id=_task_id(job_id, series.series_uid, route.name, identity),
                    series_id=series.series_uid,
                    route=route.name,
                    bundle=identity,
                    bundle_sha256=sha256,
                    outputs=route.outputs,
                    destinations=route.destinations,
                    priority=route.priority,
                )
            )
        return tasks

    def _named(self, bundle: str) -> tuple[str, str]:
        """Return which model a route means; one that is broken fails its own task, not the job."""
        try:
            found = self._house.registry.get(bundle)
        except InputError:
            return bundle, ""  # the task asks again, and ends with the reason
        return found.identity, found.sha256

    def _refuse_documents_only(self, job_id: str, tasks: Sequence[NewTask]) -> None:
        job = self._house.jobs.job(job_id)
        if tasks or {part.reason_code for part in job.series} != {NotAnImage.code}:
            return
        held = self._house.studies.series_of(job.study_id)
        drawings = {series.id for series in held if series.modality in DRAWN_MODALITIES}
        if drawings.issuperset(part.series_id for part in job.series) and len(drawings) < len(held):
            return  # drawn on images that are there, a correction from elsewhere: no failure
        raise NotAnImage("no series of the study holds images")

    def _waiting(self, job: JobView, attempt: int) -> list[tuple[str, str, str, str]]:
        """Return the tasks, and the deliveries of an earlier attempt, that are still to be done."""
        tasks = [
            ("task", f"{task.id}.{attempt}", task.id, task.priority)
            for task in job.tasks
            if task.state in ("scheduled", "in_progress")
        ]
        deliveries = [
            (
                "delivery",
                f"{d.result_id}|{d.destination}.{attempt}",
                f"{d.result_id}|{d.destination}",
                "routine",
            )
            for d in job.deliveries
            if d.state == "scheduled" and d.destination != ARCHIVE
        ]
        return tasks + deliveries

    def _collect(self, job_id: str) -> None:
        """Store the series of collecting routes in the research archive, for each project."""
        if not self._house.jobs.job(job_id).collect:
            return
        study = self._house.study(job_id)
        wanted = [(series, self._collecting(job_id, series)) for series in study.series]
        with shown(self._house, job_id, "collect"):
            self._cleaning.collect(job_id, wanted)

    def _collecting(self, job_id: str, series: Series) -> list[str]:
        """Return the projects that a series is collected for; the node's own is the empty name."""
        routes = self._routes_of(job_id, series, describe_series(series))
        return sorted({route.project for route in routes if route.collect or route.project})

    # --- the task -------------------------------------------------------------------------------

    def run_task(self, task_id: str, steps: Steps) -> None:
        """Predict, encode, point back at the original study, store; then hand deliveries over."""
        task = self._house.jobs.start_task(task_id)
        steps.run("predict", lambda: self._task.predict(task), retries=_PREDICTION)
        results = steps.run("encode", lambda: self._task.encode(task))
        steps.run("deliver", lambda: self._task.deliver(task, results))
        attempt = self._house.jobs.job(task.job_id).attempt
        for result_id, destination in product(results, task.destinations):
            argument = f"{result_id}|{destination}"
            self._enqueue("delivery", f"{argument}.{attempt}", argument, task.priority)
        self._house.jobs.end_task(task_id)
        self._tidy(task.job_id)

    # --- the delivery ---------------------------------------------------------------------------

    def run_delivery(self, argument: str, steps: Steps) -> None:
        """Send one result to one destination by C-STORE."""
        result_id, destination = argument.split("|")
        steps.run("deliver", lambda: self._send(result_id, destination), retries=_DELIVERY)
        self._tidy(self._house.jobs.job_of_result(result_id))

    def _send(self, result_id: str, destination: str) -> None:
        peer = self._house.peers.get(destination)
        if peer is None:
            raise InvalidSettings(f"there is no [[peer]] {destination!r} any more")
        workspace = self._house.workspace(_DELIVERIES)
        path = workspace.folder / f"{_short(f'{result_id}|{destination}')}.dcm"
        try:
            with noted(self._house, result_id, destination):
                path.write_bytes(self._house.clinical.instance_bytes(result_id))
                dimse.store(peer, [path], calling_aet=self._house.aet)
        finally:
            path.unlink(missing_ok=True)  # it says whose it is

    # --- failures -------------------------------------------------------------------------------

    def _job_failed(self, job_id: str, error: RadloopError) -> None:
        self._house.jobs.end_job(job_id, error)
        self._tidy(job_id)

    def _task_failed(self, task_id: str, error: RadloopError) -> None:
        self._task.forget(task_id)
        self._house.jobs.end_task(task_id, error)
        self._tidy(self._house.jobs.task(task_id).job_id)

    def _delivery_failed(self, argument: str, error: RadloopError) -> None:
        result_id, destination = argument.split("|")
        self._house.jobs.give_up_delivery(result_id, destination, error)
        self._tidy(self._house.jobs.job_of_result(result_id))

    # --- small things ---------------------------------------------------------------------------

    def _tidy(self, job_id: str) -> None:
        """Drop the folder of a job that has ended."""
        if self._house.jobs.job(job_id).ended_at is not None:
            self._house.drop(job_id)

    def _enqueue(self, workflow: str, workflow_id: str, argument: str, priority: str) -> None:
        self._require_engine().enqueue(workflow, workflow_id, argument, priority=priority)

    def _require_engine(self) -> Engine:
        if self._engine is None:
            raise RuntimeError("the workflows have no engine yet")
        return self._engine


def _why_not(facts: SeriesFacts, routes: Sequence[Route]) -> RadloopError | None:
    """Return why a series goes no further, or None when some route took it."""
    if routes:
        return None
    if facts.slice_count == 0:
        return NotAnImage(f"a {facts.modality} series holds no images")
    return NoRoute("no route matched; `radloop routes explain` says why")


def _workflow_ids(job: JobView) -> list[str]:
    ids = [f"{job.id}.{job.attempt}"]
    ids += [f"{task.id}.{job.attempt}" for task in job.tasks]
    ids += [f"{d.result_id}|{d.destination}.{job.attempt}" for d in job.deliveries]
    return ids


def _task_id(job_id: str, series_id: str, route: str, bundle: str) -> str:
    return _short("\n".join((job_id, series_id, route, bundle)))


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]
