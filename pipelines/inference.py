"""One study, from the archive to its results; reads from top to bottom.

Three workflows: a *job* takes a study's identity off and finds its routes; each *task* runs one
model on one series and stores the result on the clinical study; each *delivery* sends one result
to one more destination. They wait in queues of their own, so that a STAT task overtakes routine
ones, and a destination that is down holds nothing else up.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path

import structlog
from pydicom import dcmread

from dicom import dimse
from dicom.archive import Archive
from dicom.deid import Engine as Deidentifying
from dicom.deid import Identity
from dicom.errors import (
    Canceled,
    InputError,
    InvalidSettings,
    NoRoute,
    NotAnImage,
    NotFound,
    PeerRefused,
    RadloopError,
)
from dicom.gate import check_voxels
from dicom.relink import relink
from dicom.seg import Form
from dicom.study import Instance, Series, Study
from dicom.volume import SeriesFacts, describe_series
from dicom.web import WebPeer
from models.bundle import Bundle
from models.prediction import Answer
from models.process import PredictorProcess
from models.region import Region, cut, put_back
from models.registry import Registry
from models.sources import Case, read_case
from pipelines.collecting import Collector
from pipelines.engine import Engine, Retries, Steps, WorkflowSpec
from pipelines.foresight import Foreseen
from pipelines.groundwork import Groundwork
from pipelines.identity import Vault
from pipelines.outputs import Made, outputs_for
from pipelines.results import check_results, encode_all, look_at, source_of
from pipelines.routing import Route, match_routes
from pipelines.store import AskedRuns, Jobs, JobView, NewTask, Studies, TaskView
from pipelines.workspace import Workspace, jobs_with_folders

log = structlog.get_logger()

ARCHIVE = "archive"
"""How the clinical archive is called among a result's destinations."""

_DELIVERIES = "deliveries"
_DRAWN = frozenset({"SEG", "RTSTRUCT"})
_ASKED = "asked"  # how the route of a run that a person asked for is called
_SWEPT_AFTER = timedelta(minutes=10)  # a step that was canceled may still write
_FIRST_SERIES_NUMBER = 9001  # beyond what scanners count to
_PREDICTION = Retries(attempts=3, first_delay_s=2.0)
_DELIVERY = Retries(attempts=9, first_delay_s=4.0)  # gives up after about half an hour


@dataclass(frozen=True, slots=True, eq=False)
class House:
    """What the workflows work with; put together in `node.wiring`."""

    clinical: Archive
    clinical_web: WebPeer
    research: Archive
    studies: Studies
    jobs: Jobs
    asked: AskedRuns
    deidentifier: Deidentifying
    groundwork: Groundwork
    vault: Vault
    registry: Registry
    predictor: PredictorProcess
    routes: Sequence[Route]
    peers: Mapping[str, dimse.Peer]
    aet: str
    work: Path
    collectors: Mapping[str, Collector] = field(default_factory=dict)


class Inference:
    """The three workflows, over one house."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._engine: Engine | None = None
        self._answers: dict[str, Answer] = {}  # between two steps of a task; kept on disk as well

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
                self._workspace(job_id).drop()

    # --- the job --------------------------------------------------------------------------------

    def run_job(self, job_id: str, steps: Steps) -> None:
        """Fetch, de-identify, route; then hand a task over for each model that is wanted."""
        self._house.jobs.start(job_id)
        self._house.predictor.start()  # its libraries load while the study is fetched
        steps.run("fetch", lambda: self._fetch(job_id))
        steps.run("deidentify", lambda: self._deidentify(job_id))
        waiting = steps.run("route", lambda: self._route(job_id))
        steps.run("collect", lambda: self._collect(job_id))
        self._workspace(job_id).drop_downloads()  # the steps that read them are over
        for workflow, workflow_id, argument, priority in waiting:
            self._enqueue(workflow, workflow_id, argument, priority)
        if not waiting:
            self._house.jobs.end_job(job_id)
            self._tidy(job_id)

    def _fetch(self, job_id: str) -> None:
        """Find the study's files in the archive."""
        with self._shown(job_id, "fetch"):
            workspace = self._workspace(job_id)
            sources = {}
            for number, part in enumerate(self._house.jobs.job(job_id).series):
                row = self._house.studies.series(part.series_id)
                archived = self._house.clinical.series(row.orthanc_id)
                series = self._house.clinical.fetch(archived, workspace.downloads / str(number))
                sources[part.series_id] = tuple(i.path for i in series.instances)
            workspace.keep_sources(sources)

    def _deidentify(self, job_id: str) -> None:
        """Take the identity off every instance, and seal it in the vault; fails closed."""
        with self._shown(job_id, "deidentify"):
            workspace = self._workspace(job_id)
            sources = workspace.sources()
            if not any(sources.values()):
                raise NotAnImage("the study is empty")
            cleaned: list[Series] = []

            def taken() -> Iterator[Identity]:
                """One at a time: a long study's identities are never held all at once."""
                for series_id, paths in sources.items():
                    instances = []
                    folder = workspace.clean_folder(series_id)
                    ready = self._house.groundwork.take(series_id, paths, folder)
                    for path in paths:
                        if path in ready:
                            instance, found = ready[path].instance, ready[path].identity
                        else:
                            instance, found = self._house.deidentifier.deidentify_file(path, folder)
                        yield found
                        instances.append(instance)
                    cleaned.append(self._series(series_id, instances))

            identity = Identity.of(taken())
            self._house.vault.seal(identity)
            workspace.keep_study(Study(identity.study_pseudonym, tuple(cleaned)))

    def _series(self, series_id: str, instances: list[Instance]) -> Series:
        modality = self._house.studies.series(series_id).modality
        return Series(series_id, modality, tuple(instances))

    def _route(self, job_id: str) -> list[tuple[str, str, str, str]]:
        """Match the routes; return (workflow, its id, argument, priority) of what is to be done."""
        with self._shown(job_id, "route"):
            job = self._house.jobs.job(job_id)
            tasks: list[NewTask] = []
            collect = False
            for series in self._workspace(job_id).study().series:
                facts = describe_series(series)
                self._house.studies.keep_facts(series.series_uid, asdict(facts))
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
        parts = self._house.jobs.job(job_id).series
        reasons = {part.reason_code for part in parts}
        if not tasks and reasons == {NotAnImage.code}:
            modalities = {self._house.studies.series(part.series_id).modality for part in parts}
            if modalities <= _DRAWN:  # a correction from elsewhere: that is no failure
                return
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
        workspace = self._workspace(job_id)
        study = workspace.study()
        wanted = [(series, self._collecting(job_id, series)) for series in study.series]
        if not any(projects for _, projects in wanted):
            return
        with self._shown(job_id, "collect"):
            sources = workspace.sources()
            for series, projects in wanted:
                for project in projects:
                    if project:
                        folder = workspace.folder / "collect" / project / series.series_uid
                        collector = self._house.collectors[project]
                        collector.collect(series.series_uid, sources[series.series_uid], folder)
                        continue
                    for instance in series.instances:
                        self._house.research.store(instance.path)

    def _collecting(self, job_id: str, series: Series) -> list[str]:
        """Return the projects that a series is collected for; the node's own is the empty name."""
        routes = self._routes_of(job_id, series, describe_series(series))
        return sorted({route.project for route in routes if route.collect or route.project})

    # --- the task -------------------------------------------------------------------------------

    def run_task(self, task_id: str, steps: Steps) -> None:
        """Predict, encode, point back at the original study, store; then hand deliveries over."""
        task = self._house.jobs.start_task(task_id)
        steps.run("predict", lambda: self._predict(task), retries=_PREDICTION)
        results = steps.run("encode", lambda: self._encode(task))
        steps.run("deliver", lambda: self._deliver(task, results))
        attempt = self._house.jobs.job(task.job_id).attempt
        for result_id, destination in product(results, task.destinations):
            argument = f"{result_id}|{destination}"
            self._enqueue("delivery", f"{argument}.{attempt}", argument, task.priority)
        self._house.jobs.end_task(task_id)
        self._tidy(task.job_id)

    def _predict(self, task: TaskView) -> None:
        """Find out what the model says of the series, ahead of the job or now; keep its answer."""
        bundle = self._house.registry.get(task.bundle)
        workspace = self._workspace(task.job_id)
        ahead = self._is_foreseen(task)
        with self._shown(task.job_id, "volume", task.id):
            case = None if ahead else self._case(task, bundle)
        with self._shown(task.job_id, "predict", task.id):
            found = self._foreseen(task, bundle) if ahead else None
            if found is None:
                found = self._predicted(task, bundle, case or self._case(task, bundle))
            log.info(
                "predicted",
                task=task.id,
                bundle=bundle.identity,
                device=found.prediction.device,
                seconds=round(found.prediction.forward_s, 3),
                reason=found.prediction.run_by,
            )
            answer = found.case.on_source(found.prediction.answer)
            workspace.keep_measured(task.id, found.measured)
            workspace.keep_answer(task.id, answer)
            self._answers[task.id] = answer
            self._house.jobs.keep_prediction(
                task.id, forward_s=found.prediction.forward_s, device=found.prediction.device
            )

    def _is_foreseen(self, task: TaskView) -> bool:
        """Return whether the model was shown this series, all of it, while the quiet time ran."""
        whole = self._house.asked.run_of(task.job_id) is None
        return whole and self._house.groundwork.foresees(task.series_id)

    def _foreseen(self, task: TaskView, bundle: Bundle) -> Foreseen | None:
        return self._house.groundwork.foreseen(
            task.series_id, bundle, canceled=self._canceled(task.job_id)
        )

    def _case(self, task: TaskView, bundle: Bundle) -> Case:
        """Make volumes of the series that the model needs."""
        study = self._workspace(task.job_id).study()
        case = read_case(bundle, study, study.series_of(task.series_id))
        if case.volume is not None:
            check_voxels(case.volume)
        return case

    def _predicted(self, task: TaskView, bundle: Bundle, case: Case) -> Foreseen:
        """Run the model on the images, or on the part of them that a person asked about."""
        first = bundle.inputs[0].name
        region = self._region(task, case)
        images = case.images
        if region is not None:
            images = {**images, first: cut(images[first], region)}
        prediction = self._house.predictor.predict_images(
            bundle.identity,
            images,
            progress=self._progress(task.id),
            canceled=self._canceled(task.job_id),
        )
        if region is not None:
            whole = put_back(prediction.answer, region, case.images[first])
            prediction = replace(prediction, answer=whole)
        series = self._workspace(task.job_id).study().series_of(task.series_id)
        measured = look_at(bundle, prediction.answer, case.volume, series)
        return Foreseen(case, prediction, measured)

    def _canceled(self, job_id: str) -> Callable[[], bool]:
        return lambda: self._house.jobs.is_cancel_requested(job_id)

    def _region(self, task: TaskView, case: Case) -> Region | None:
        """Return the part of the series that a person asked about; None: all of it."""
        asked = self._house.asked.run_of(task.job_id)
        if asked is None or asked.region is None:
            return None
        region = Region(*asked.region)
        tilted = case.volume is not None and case.volume.shear is not None
        return region.along_rows() if tilted else region

    def _encode(self, task: TaskView) -> list[str]:
        """Write the answer as DICOM, point it back at the original study, see that it lies right.

        Returns
        -------
        list of str
            SOP Instance UIDs of the results, in the order in which they are stored.
        """
        bundle = self._house.registry.get(task.bundle)
        workspace = self._workspace(task.job_id)
        study = workspace.study()
        answer = self._answers.pop(task.id, None) or workspace.answer(task.id)
        made = Made(
            answer=answer,
            source=source_of(study.series_of(task.series_id), bundle, answer),
            bundle=bundle,
            key=task.id,
            series_number=self._series_number(task),
            created=task.created_at.astimezone(),  # DICOM times are local (PS3.3 C.12.1)
            form=self._form(task.route),
            measured=workspace.measured(task.id),
        )
        with self._shown(task.job_id, "encode", task.id):
            encoded = encode_all(task.outputs or outputs_for(bundle), made)
        with self._shown(task.job_id, "relink", task.id):
            identity = self._house.vault.unseal(
                study.study_uid, actor="worker", reason=f"relink the result of task {task.id}"
            )
            beside = frozenset(
                uid
                for each in encoded.values()
                for uid in (str(each.ds.SOPInstanceUID), str(each.ds.SeriesInstanceUID))
            )
            for name, each in encoded.items():
                result = relink(each.ds, identity, beside=beside)
                result.save_as(workspace.result_path(task.id, name), enforce_file_format=True)
        with self._shown(task.job_id, "gate", task.id):
            paths = {name: workspace.result_path(task.id, name) for name in encoded}
            check_results(paths, made, identity)
        for each in encoded.values():
            self._house.jobs.keep_result(
                task.id,
                sop_instance_uid=each.ds.SOPInstanceUID,
                series_uid=each.ds.SeriesInstanceUID,
                sop_class_uid=each.ds.SOPClassUID,
                summary=each.summary,
                destinations=(ARCHIVE, *task.destinations),
            )
        workspace.keep_results(task.id, {str(e.ds.SOPInstanceUID): n for n, e in encoded.items()})
        return [str(each.ds.SOPInstanceUID) for each in encoded.values()]

    def _form(self, route: str) -> Form:
        """Return how the route of a task wants its segmentation; one that is gone, no matter."""
        wanted = (r.segmentation_type for r in self._house.routes if r.name == route)
        return Form(next(wanted, "auto"))

    def _series_number(self, task: TaskView) -> int:
        tasks = [other.id for other in self._house.jobs.job(task.job_id).tasks]
        return _FIRST_SERIES_NUMBER + tasks.index(task.id)

    def _deliver(self, task: TaskView, results: Sequence[str]) -> None:
        """Store the results on the clinical study in their order, and see that they are there."""
        workspace = self._workspace(task.job_id)
        with self._shown(task.job_id, "deliver", task.id):
            for result_id in results:
                with self._noted(result_id, ARCHIVE):
                    self._house.clinical_web.store([dcmread(workspace.result(task.id, result_id))])
                    if not self._house.clinical.holds(result_id):
                        raise PeerRefused("the archive took the result, and does not hold it")

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
        workspace = self._workspace(_DELIVERIES)
        path = workspace.folder / f"{_short(f'{result_id}|{destination}')}.dcm"
        try:
            with self._noted(result_id, destination):
                path.write_bytes(self._house.clinical.instance_bytes(result_id))
                dimse.store(peer, [path], calling_aet=self._house.aet)
        finally:
            path.unlink(missing_ok=True)  # it says whose it is

    # --- failures -------------------------------------------------------------------------------

    def _job_failed(self, job_id: str, error: RadloopError) -> None:
        self._house.jobs.end_job(job_id, error)
        self._tidy(job_id)

    def _task_failed(self, task_id: str, error: RadloopError) -> None:
        self._answers.pop(task_id, None)
        self._house.jobs.end_task(task_id, error)
        self._tidy(self._house.jobs.task(task_id).job_id)

    def _delivery_failed(self, argument: str, error: RadloopError) -> None:
        result_id, destination = argument.split("|")
        self._house.jobs.give_up_delivery(result_id, destination, error)
        self._tidy(self._house.jobs.job_of_result(result_id))

    # --- small things ---------------------------------------------------------------------------

    @contextmanager
    def _shown(self, job_id: str, name: str, task_id: str | None = None) -> Iterator[None]:
        """Let a step be seen while it runs, and its seconds afterwards."""
        jobs = self._house.jobs
        if jobs.is_cancel_requested(job_id):
            raise Canceled
        step = jobs.begin_step(job_id, name, task_id)
        started = time.monotonic()
        try:
            yield
        except RadloopError as error:
            jobs.end_step(step, error.code)
            log.warning("step_failed", job=job_id, task=task_id, step=name, code=error.code)
            raise
        jobs.end_step(step)
        seconds = round(time.monotonic() - started, 3)
        log.info("step_done", job=job_id, task=task_id, step=name, seconds=seconds)

    @contextmanager
    def _noted(self, result_id: str, destination: str) -> Iterator[None]:
        """Note one try of a delivery, whether it succeeds or not."""
        try:
            yield
        except RadloopError as error:
            self._house.jobs.note_delivery(result_id, destination, error)
            raise
        self._house.jobs.note_delivery(result_id, destination)

    def _progress(self, task_id: str) -> Callable[[float], None]:
        """Return a callback that writes progress down, twice a second at most."""
        last = 0.0

        def report(fraction: float) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= 0.5:
                last = now
                self._house.jobs.report_progress(task_id, fraction)

        return report

    def _workspace(self, job_id: str) -> Workspace:
        return Workspace(self._house.work, job_id)

    def _tidy(self, job_id: str) -> None:
        """Drop the folder of a job that has ended."""
        if self._house.jobs.job(job_id).ended_at is not None:
            self._workspace(job_id).drop()

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
