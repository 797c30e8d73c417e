"""Learning by itself: rules that are due freeze a dataset and ask for a training.

What people ask for goes the same way, and in the same queue: datasets are made one at a time, and
wait for no training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from dicom.errors import Conflict, InputError, NotFound, RadloopError
from models.learning.beginning import has_plan
from models.learning.cases import DatasetFolder
from models.learning.graph import Graph, read_graph
from pipelines.learning.asking import FreezingRuns
from pipelines.learning.freezing import freeze_dataset, freeze_recent
from pipelines.learning.gathering import Material
from pipelines.learning.hours import Clock
from pipelines.learning.lessons import Shadow
from pipelines.learning.ordering import order_training
from pipelines.learning.promoting import current_bundle
from pipelines.learning.rules import LearningRule, Picked
from pipelines.learning.school import School
from pipelines.store import RuleView, TrainingView

if TYPE_CHECKING:
    from pipelines.engine import Engine, Steps, WorkflowSpec

log = structlog.get_logger()

WORKFLOW: Final = "lesson"
_ALWAYS: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Schedule:
    """Looks at the rules of learning and at what people asked for, and begins what is due.

    Parameters
    ----------
    school : School
    material : Material
        Where corrections and images come from.
    rules : sequence of LearningRule
    """

    def __init__(self, school: School, material: Material, rules: Sequence[LearningRule]) -> None:
        self._school = school
        self._material = material
        self._rules = {rule.name: rule for rule in rules}
        self._freezings = FreezingRuns(school, material)
        self._engine: Engine | None = None
        self._began = datetime.now(UTC)

    def specs(self) -> tuple[WorkflowSpec, ...]:
        """Return the workflow for the engine."""
        from pipelines.engine import WorkflowSpec  # late: the front, which asks, has no engine

        lesson = WorkflowSpec(WORKFLOW, "datasets", self.run, self._failed)
        return (lesson, *self._freezings.specs())

    def attach(self, engine: Engine) -> None:
        """Give it the engine that carries lessons out."""
        self._engine = engine

    def look(self, now: datetime | None = None) -> list[str]:
        """Hand over what people asked for, and the rules that are due; return their names."""
        if self._engine is None:
            raise RuntimeError("the workflow has no engine yet")
        self._freezings.hand_over(self._engine)
        at = now or datetime.now(UTC)
        due = [rule for rule in self._rules.values() if self.is_due(rule, at)]
        for rule in due:
            known = self._school.alarms.rule(rule.name)
            since = _ALWAYS if known is None else known.looked_at
            workflow_id = f"{WORKFLOW} {rule.name} {since.isoformat()}"
            self._engine.enqueue(WORKFLOW, workflow_id, rule.name, priority="low")
            training = None if known is None else known.training_id
            self._school.alarms.keep_rule(RuleView(rule.name, at, training, "begun"))
        return [rule.name for rule in due]

    def is_due(self, rule: LearningRule, now: datetime) -> bool:
        """Return whether it is time, or enough was corrected, and the last one has ended."""
        known = self._school.alarms.rule(rule.name)
        if known is not None and self._is_open(known):
            return False
        if rule.cron and Clock(rule.cron).due(known.looked_at if known else self._began, now):
            return True
        if rule.after < 1:
            return False
        since = _ALWAYS if known is None else known.looked_at
        found = self._school.datasets.new_corrections(since=since, bundle=rule.bundle)
        return found >= rule.after

    def run(self, name: str, steps: Steps) -> None:
        """Freeze and ask, durably."""
        steps.run("ask", lambda: self.ask(name))

    def ask(self, name: str) -> str | None:
        """Freeze what a rule takes, and ask for a training; return its id, None where nothing came.

        Raises
        ------
        PeerError
            When the archive does not answer; it is tried again.
        """
        rule = self._rules.get(name)
        if rule is None:
            return None  # it was taken out of the settings since
        try:
            training = self._asked(rule)
        except Conflict as error:
            self._keep(name, None, f"nothing new: {error.message}")
            return None
        except InputError as error:
            self._keep(name, None, f"{error.message} ({error.code})")
            self._school.alarms.raise_alarm(
                "training",
                bundle=rule.bundle,
                message=f"rule {name} could not begin: {error.message} ({error.code})",
                facts={"rule": name, "code": error.code},
            )
            return None
        self._keep(name, training.id, f"asked for {training.bundle}")
        return training.id

    def _asked(self, rule: LearningRule) -> TrainingView:
        try:
            frozen = freeze_dataset(
                self._school, self._material, rule.name, rule.picked, by=f"rule {rule.name}"
            )
            dataset = frozen.folder.dataset
        except Conflict:
            # frozen by a try that ended before it asked, or nothing new: trained once is enough
            dataset = self._school.shelf.get(rule.name).dataset
            if self._is_learnt(dataset.identity):
                raise
        patients = len({case.patient for case in dataset.cases})
        if patients < rule.fewest:
            raise Conflict(f"{patients} patients, and the rule waits for {rule.fewest}")
        return order_training(
            self._school,
            dataset=dataset.identity,
            name=rule.bundle,
            asked_by=f"rule {rule.name}",
            graph=graph_called(rule.augment),
            start_from=self._start(rule),
            minutes=None if rule.steps else rule.minutes,
            changes=rule.changes,
            at_once=False,
            rule=rule.name,
        )

    def _start(self, rule: LearningRule) -> str | None:
        current = current_bundle(self._school, rule.bundle) if rule.from_current else None
        return current.identity if current is not None and has_plan(current) else None

    def _is_learnt(self, dataset: str) -> bool:
        return any(
            one.dataset == dataset and one.error_code is None
            for one in self._school.trainings.all()
        )

    def _is_open(self, known: RuleView) -> bool:
        if known.training_id is None:
            return False
        try:
            training = self._school.trainings.training(known.training_id)
        except NotFound:
            return False
        return training.ended_at is None

    def _keep(self, name: str, training_id: str | None, outcome: str) -> None:
        known = self._school.alarms.rule(name)
        view = known or RuleView(name, datetime.now(UTC), None, "")
        before = view.training_id
        self._school.alarms.keep_rule(
            replace(view, training_id=training_id or before, outcome=outcome)
        )
        log.info("lesson_looked_at", name=name)

    def _failed(self, name: str, error: RadloopError) -> None:
        self._keep(name, None, f"{error.message} ({error.code})")


def shadow_of(school: School, material: Material, rules: Sequence[LearningRule]) -> Shadow:
    """Return what makes a dataset of recent corrections for a training's shadow run."""
    by_name = {rule.name: rule for rule in rules}

    def made(training: TrainingView, folder: Path) -> DatasetFolder | None:
        rule = by_name.get(training.rule or "")
        picked = rule.picked if rule is not None else Picked(models=(training.name,))
        known = school.datasets.dataset(training.dataset)
        try:
            return freeze_recent(school, material, known, picked, folder / "recent")
        except InputError as error:  # nothing to run on: the locked test set decides alone
            log.info("no_shadow_run", code=error.code)
            return None

    return made


def graph_called(name: str) -> Graph | None:
    """Return an augmentation graph: a shipped one by its name, or of a file; None for no name.

    Raises
    ------
    InvalidGraph
    """
    if not name:
        return None
    shipped = files("models.learning") / "graphs" / f"{name}.toml"
    if not Path(name).exists() and shipped.is_file():
        return read_graph(shipped.read_text(encoding="utf-8"))
    return read_graph(Path(name))
