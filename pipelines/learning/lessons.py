"""A training as a durable workflow: learn, measure, sign, decide.

One at a time on the whole node: the next is handed to the engine when the one before it has ended.
A worker that was killed takes its training up again at the step that it was in; the child goes on
from its last checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from dicom.errors import Canceled, RadloopError
from models.learning.cases import DatasetFolder
from models.learning.orders import BEST, BundleOrder, MeasureOrder, TrainOrder
from models.learning.planning import Plan
from pipelines.launching import attend
from pipelines.learning.candidates import candidate_of, decide
from pipelines.learning.cascading import follow
from pipelines.learning.means import Means
from pipelines.learning.overseeing import Overseer, refuse_ended
from pipelines.learning.promoting import Policy, current_bundle
from pipelines.learning.school import School
from pipelines.store import TrainingView

if TYPE_CHECKING:
    from pipelines.engine import Engine, Steps, WorkflowSpec

log = structlog.get_logger()

WORKFLOW: Final = "training"

Shadow = Callable[[TrainingView, Path], DatasetFolder | None]
"""Makes a dataset of what readers corrected lately, below a folder; None where there is nothing."""


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
        self._overseer = Overseer(school, means, is_urgent=is_urgent)
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
        quiet = self._overseer.may_begin(datetime.now(UTC))
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
            device=self._means.device_for(training.device),
            threads=self._means.threads,
            processes=self._means.processes,
        )
        (folder / "bundle").mkdir(parents=True, exist_ok=True)
        launcher = self._means.launcher(training.launcher)
        attended = launcher.learn(folder, order, self._overseer.over_learning(training, folder))
        if attended.ending == "outside_hours":
            school.trainings.put_back(training_id, used_s=attended.used_s)
            return False
        school.trainings.used(training_id, attended.used_s)
        self._overseer.keep_curve(training, folder)
        if attended.ending == "out_of_time" and (folder / BEST).is_file():
            self._bundle_best(training, folder, order)
        else:
            refuse_ended(attended)
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
        watch = self._overseer.over_bundling(training)
        refuse_ended(attend(folder / "best", order, watch, log_file=self._means.log_file))
        log.info("best_epoch_bundled")

    def _measure(self, training_id: str) -> None:
        """Compare the candidate with what is current, on the locked test set and on news."""
        school = self._school
        training = school.trainings.doing(training_id, "measuring")
        folder = school.run_folder(training_id)
        bundle = candidate_of(school, training)
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
                device=self._means.device_for(training.device),
                threads=self._means.threads,
            )
            attended = attend(
                folder / name,
                order,
                self._overseer.over_measuring(training),
                log_file=self._means.log_file,
            )
            school.trainings.used(training_id, attended.used_s)
            refuse_ended(attended)

    def _decide(self, training_id: str) -> None:
        """Sign the candidate with its figures, and ask the policy."""
        training = self._school.trainings.doing(training_id, "deciding")
        policy = self._policies.get(training.rule or "", self._policies.get("", Policy()))
        decide(self._school, training, policy)

    def _follow(self, training_id: str) -> None:
        """Ask for a cascade's second model, where this was its first."""
        follow(self._school, training_id)

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
