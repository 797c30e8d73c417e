"""A training as a durable workflow: learn, measure, sign, decide.

One at a time on the whole node: the next is handed to the engine when the one before it has ended.
A worker that was killed takes its training up again at the step that it was in; the child goes on
from its last checkpoint.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from dicom.errors import Canceled, InvalidSettings, OutsideBudget, RadloopError
from models.bundle import Bundle, read_bundle
from models.greys import taught_by, write_taught
from models.learning.cases import DatasetFolder, first_channels
from models.learning.comparison import Comparison
from models.learning.orders import BEST, CURVE, BundleOrder, MeasureOrder, TrainOrder
from models.learning.planning import Plan
from pipelines.launching import Attended, Ending, Launcher, Local, Place, Watch, attend
from pipelines.learning.cascading import follow
from pipelines.learning.hours import QuietHours
from pipelines.learning.judging import judge
from pipelines.learning.promoting import (
    Policy,
    current_bundle,
    promote_by_figures,
    sign,
)
from pipelines.learning.reporting import write_docs
from pipelines.learning.school import School
from pipelines.learning.tracking import Tracker
from pipelines.store import (
    EpochView,
    EvaluationView,
    LauncherName,
    TrainingStep,
    TrainingView,
    new_evaluation_id,
)

if TYPE_CHECKING:
    from pipelines.engine import Engine, Steps, WorkflowSpec

log = structlog.get_logger()

WORKFLOW: Final = "training"
_ACTOR: Final = "radloop"
_SLACK: Final = 1.5  # of the minutes that were given, before it is ended
_GRACE_S: Final = 300.0  # for loading, the last validation, writing
_TELL_S: Final = 1.0
_DAY: Final = timedelta(days=1)

Shadow = Callable[[TrainingView, Path], DatasetFolder | None]
"""Makes a dataset of what readers corrected lately, below a folder; None where there is nothing."""


@dataclass(frozen=True, slots=True)
class Means:
    """What a training may use.

    Attributes
    ----------
    quiet : QuietHours
        Trainings that nobody asked for at once run then alone.
    minutes_a_day : float
        Within 24 hours, of trainings that rules ask for, or that people put off to quiet hours; 0:
        as many as they take.
    device : str
        Where it learns.
    threads : int or None
        CPU threads of the child; None for as many as torch chooses.
    processes : int
        That learn side by side on this machine, on a GPU each.
    logs : Path
        The folder of the child's output.
    elsewhere : mapping
        What learns on other machines, by its name.
    tracker : Tracker or None
        Gets the curves, too.
    """

    logs: Path
    quiet: QuietHours = field(default_factory=QuietHours)
    minutes_a_day: float = 0.0
    device: str = "auto"
    threads: int | None = None
    processes: int = 1
    elsewhere: Mapping[LauncherName, Launcher] = field(default_factory=dict)
    tracker: Tracker | None = None

    def launcher(self, name: LauncherName) -> Launcher:
        """Return what carries trainings out that shall learn there.

        Raises
        ------
        InvalidSettings
            When the settings no longer name such a place.
        """
        if name == "local":
            return Local(self.logs / "trainer.log")
        try:
            return self.elsewhere[name]
        except KeyError:
            raise InvalidSettings(
                f"the training shall learn on {name}, and [training.{name}] is not set"
            ) from None


class Lessons:
    """The workflow of trainings.

    Parameters
    ----------
    school : School
    means : Means
    is_urgent : callable
        Whether a task waits or runs that a training must not delay.
    policies : mapping
        By rule; "": of what a person asked for, which is promoted by people.
    shadow : callable or None
        Makes a dataset of recent corrections.
    """

    def __init__(
        self,
        school: School,
        means: Means,
        *,
        is_urgent: Callable[[], bool],
        policies: Mapping[str, Policy] | None = None,
        shadow: Shadow | None = None,
    ) -> None:
        self._school = school
        self._means = means
        self._is_urgent = is_urgent
        self._policies = policies or {}
        self._shadow = shadow
        self._engine: Engine | None = None

    def specs(self) -> tuple[WorkflowSpec, ...]:
        """Return the workflow for the engine."""
        from pipelines.engine import WorkflowSpec  # late: the front, which asks, has no engine

        return (WorkflowSpec(WORKFLOW, "learning", self.run, self._failed),)

    def attach(self, engine: Engine) -> None:
        """Give it the engine that carries trainings out."""
        self._engine = engine

    def hand_over(self) -> None:
        """Give the engine the next training, when none is with it and the hours are right."""
        if self._engine is None:
            raise RuntimeError("the workflow has no engine yet")
        now = datetime.now(UTC)
        quiet = self._means.quiet.hold(now) and not self._is_spent(now)
        following = self._school.trainings.next(quiet=quiet)
        if following is None:
            return
        workflow_id = f"{WORKFLOW} {following.id}.{following.attempt}"
        self._engine.enqueue(WORKFLOW, workflow_id, following.id, priority="low")
        self._school.trainings.handed_over(following.id, following.attempt)

    # --- the workflow ---------------------------------------------------------------------------

    def run(self, training_id: str, steps: Steps) -> None:
        """Learn, measure, sign, decide; each step may run twice."""
        from pipelines.engine import Retries

        once = Retries(attempts=1)  # the child is started again by who attends it
        learnt = steps.run("learn", lambda: self._learn(training_id), retries=once)
        if not learnt:
            return  # it waits for the next quiet hours
        steps.run("measure", lambda: self._measure(training_id), retries=once)
        steps.run("decide", lambda: self._decide(training_id))
        steps.run("follow", lambda: self._follow(training_id))
        self._school.trainings.end(training_id)
        self._track_end(training_id)

    def _learn(self, training_id: str) -> bool:
        """Run the child that learns; False where it was put back."""
        school = self._school
        training = school.trainings.doing(training_id, "learning")
        folder = school.run_folder(training_id)
        order = TrainOrder(
            dataset=school.shelf.get(training.dataset).root,
            cache=school.prepared,
            bundles=folder / "bundle",
            plan=Plan.model_validate(dict(training.plan)),
            name=training.name,
            version=training.version,
            graph=None if training.graph is None else dict(training.graph),
            start_from=None
            if training.start_from is None
            else school.registry.get(training.start_from).weights,
            minutes=training.minutes,
            device=self._device(training),
            threads=self._means.threads,
            processes=self._means.processes,
        )
        (folder / "bundle").mkdir(parents=True, exist_ok=True)
        launcher = self._means.launcher(training.launcher)
        attended = launcher.learn(folder, order, self._watch(training, folder, tells=True))
        if attended.ending == "outside_hours":
            school.trainings.put_back(training_id, used_s=attended.used_s)
            return False
        school.trainings.used(training_id, attended.used_s)
        self._keep_curve(training, folder)
        if attended.ending == "out_of_time" and (folder / BEST).is_file():
            self._bundle_best(training, folder, order)
        else:
            _refuse(attended)
        return True

    def _bundle_best(self, training: TrainingView, folder: Path, done: TrainOrder) -> None:
        """Make a candidate of the best epoch of a training whose time is over."""
        order = BundleOrder(
            run=folder,
            dataset=done.dataset,
            bundles=folder / "bundle",
            plan=done.plan,
            name=done.name,
            version=done.version,
        )
        watch = Watch(
            is_urgent=self._is_urgent,
            ending=lambda _used_s: self._end_of(training),
            looked=lambda _stopped, _place: None,
        )
        _refuse(attend(folder / "best", order, watch, log_file=self._means.logs / "trainer.log"))
        log.info("best_epoch_bundled")

    def _measure(self, training_id: str) -> None:
        """Compare the candidate with what is current, on the locked test set and on news."""
        school = self._school
        training = school.trainings.doing(training_id, "measuring")
        folder = school.run_folder(training_id)
        bundle = self._candidate(training)
        current = current_bundle(school, training.name)
        sets = {"test": school.shelf.get(training.dataset)}
        recent = None if self._shadow is None else self._shadow(training, folder)
        if recent is not None:
            sets["shadow"] = recent
        for name, data in sets.items():
            order = MeasureOrder(
                dataset=data.root,
                bundle=bundle.root,
                against=None if current is None else current.root,
                bundles=school.folders,
                device=self._device(training),
                threads=self._means.threads,
            )
            attended = attend(
                folder / name,
                order,
                self._watch(training, folder, tells=False),
                log_file=self._means.logs / "trainer.log",
            )
            school.trainings.used(training_id, attended.used_s)
            _refuse(attended)

    def _decide(self, training_id: str) -> None:
        """Write card and report, sign the candidate, keep its figures, and ask the policy."""
        school = self._school
        training = school.trainings.doing(training_id, "deciding")
        folder = school.run_folder(training_id)
        policy = self._policies.get(training.rule or "", self._policies.get("", Policy()))
        test = _comparison(folder / "test")
        shadow = _comparison(folder / "shadow") if (folder / "shadow").is_dir() else None
        said = judge(test, policy, shadow=shadow)
        bundle = self._candidate(training)
        data = school.shelf.get(training.dataset)
        dataset = data.dataset
        write_taught(bundle.root / "docs", taught_by(first_channels(data)))
        write_docs(bundle, dataset, test, verdict=said.why, pictures=folder / "test", shadow=shadow)
        sign(school, bundle, by=_ACTOR, dataset=dataset.identity, training_id=training_id)
        for name, one in (("test", test), ("shadow", shadow)):
            if one is not None:
                accepted = said.accepted if name == "test" else None
                self._keep_figures(training, name, one, accepted, said.why)
        installed = self._install(bundle)
        school.trainings.made(training_id, installed.identity)
        if policy.way != "policy":
            return
        evaluation = next(
            one for one in school.versions.evaluations(bundle.identity) if one.split == "test"
        )
        try:
            promote_by_figures(school, installed.identity, evaluation, by=f"rule {training.rule}")
        except RadloopError as error:  # not better: that is noted, and the version stays
            log.info("not_promoted", code=error.code)

    def _follow(self, training_id: str) -> None:
        """Ask for a cascade's second model, where this was its first."""
        follow(self._school, training_id)

    # --- parts ----------------------------------------------------------------------------------

    def _watch(self, training: TrainingView, folder: Path, *, tells: bool) -> Watch:
        """Return who lets curve, pauses and place be seen, and says when it shall end."""
        told_at = datetime.min.replace(tzinfo=UTC)
        paused, seen = False, training.place

        def looked(stopped: bool, place: Place) -> None:
            nonlocal told_at, paused, seen
            now = datetime.now(UTC)
            if str(place) != seen:
                seen = str(place)
                self._school.trainings.stands(training.id, seen)
            if stopped is not paused:
                paused = stopped
                does: TrainingStep = "learning" if tells else "measuring"
                if stopped:
                    does = "paused"
                self._school.trainings.doing(training.id, does)
            if tells and now - told_at >= timedelta(seconds=_TELL_S):
                told_at = now
                self._keep_curve(training, folder)

        return Watch(
            is_urgent=self._is_urgent,
            ending=lambda used_s: (
                self._ending(training, used_s) if tells else self._end_of(training)
            ),
            looked=looked,
        )

    def _ending(self, training: TrainingView, used_s: float) -> Ending | None:
        if self._school.trainings.is_cancel_requested(training.id):
            return "canceled"
        now = datetime.now(UTC)
        may = training.at_once or (self._means.quiet.hold(now) and not self._is_spent(now, used_s))
        if not may:
            return "outside_hours"
        if training.minutes is not None:
            most_s = training.minutes * 60 * _SLACK + _GRACE_S
            if training.used_s + used_s > most_s:
                return "out_of_time"
        return None

    def _end_of(self, training: TrainingView) -> Ending | None:
        """Return whether a person called it off; what takes seconds is not ended for the time."""
        wanted = not self._school.trainings.is_cancel_requested(training.id)
        return None if wanted else "canceled"

    def _keep_curve(self, training: TrainingView, folder: Path) -> None:
        """Copy the epochs that the child has written into rows."""
        epochs = read_epochs(folder)
        steps = int(training.plan["steps"])
        progress = min(1.0, epochs[-1].step / steps) if epochs else 0.0
        self._school.trainings.keep_epochs(training.id, epochs, progress=progress)
        if self._means.tracker is not None:
            self._means.tracker.note(training, epochs)

    def _candidate(self, training: TrainingView) -> Bundle:
        """Return the candidate where it lies: in the run's folder, or installed already."""
        made = self._school.run_folder(training.id) / "bundle" / training.bundle
        return read_bundle(made if made.is_dir() else self._school.bundles / training.bundle)

    def _install(self, bundle: Bundle) -> Bundle:
        """Put a signed bundle where the registry looks; it appears whole."""
        target = self._school.bundles / bundle.identity
        if not target.exists():
            half = target.with_name(f".{target.name}.part")
            shutil.rmtree(half, ignore_errors=True)
            shutil.copytree(bundle.root, half)  # the folders may lie on two file systems
            half.replace(target)
        return read_bundle(target)

    def _keep_figures(
        self,
        training: TrainingView,
        split: str,
        figures: Comparison,
        accepted: bool | None,
        verdict: str,
    ) -> None:
        known = self._school.versions.evaluations(figures.candidate.bundle)
        if any(one.split == split and one.dataset == figures.dataset for one in known):
            return
        self._school.versions.keep_evaluation(
            EvaluationView(
                id=new_evaluation_id(),
                bundle=figures.candidate.bundle,
                bundle_sha256=figures.candidate.sha256,
                against=figures.incumbent.bundle if figures.incumbent else None,
                dataset=figures.dataset,
                dataset_sha256=figures.dataset_sha256,
                split=split,
                figures=figures.model_dump(mode="json"),
                accepted=accepted,
                verdict=verdict,
                created_at=datetime.now(UTC),
            )
        )

    def _device(self, training: TrainingView) -> str:
        return training.device if training.device != "auto" else self._means.device

    def _is_spent(self, now: datetime, used_s: float = 0.0) -> bool:
        """Return whether the day's minutes are used up, with the seconds that are not noted yet."""
        if not self._means.minutes_a_day:
            return False
        used_s += self._school.trainings.used_since(now - _DAY)
        return used_s >= self._means.minutes_a_day * 60

    def _track_end(self, training_id: str) -> None:
        if self._means.tracker is not None:
            self._means.tracker.end(self._school.trainings.training(training_id))

    def _failed(self, training_id: str, error: RadloopError) -> None:
        self._school.trainings.end(training_id, error)
        self._track_end(training_id)
        if isinstance(error, Canceled):
            return
        training = self._school.trainings.training(training_id)
        self._school.alarms.raise_alarm(
            "training",
            bundle=training.bundle,
            message=f"the training ended: {error.message} ({error.code})",
            facts={"training": training_id, "code": error.code},
        )


def read_epochs(folder: Path) -> tuple[EpochView, ...]:
    """Return the epochs that a training child has written; none where it has not got that far."""
    try:
        lines = (folder / CURVE).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return ()
    found = (json.loads(line) for line in lines)
    return tuple(
        EpochView(
            number=one["number"],
            step=one["step"],
            loss=one["loss"],
            score=0.0 if math.isnan(one["scores"]["mean"]) else one["scores"]["mean"],
            classes=one["scores"]["classes"],
            rate=one["rate"],
            seconds=one["seconds"],
            waited_s=one["waited_s"],
        )
        for one in found
    )


def _refuse(attended: Attended) -> None:
    if attended.ending == "canceled":
        raise Canceled("canceled by a person")
    if attended.ending is not None:
        raise OutsideBudget("the training took half as long again as it was given, and was ended")


def _comparison(folder: Path) -> Comparison:
    return Comparison.model_validate_json((folder / "done.json").read_bytes())
