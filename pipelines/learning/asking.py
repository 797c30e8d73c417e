"""Datasets that people ask for, carried out by the worker; a training may follow.

::

    ask_dataset(school, name="livers", picked=Picked(models=("liver",)), asked_by="anna")
    learn_from_corrections(school, model="liver", asked_by="anna")
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import structlog

from dicom.errors import Canceled, Conflict, InvalidRequest, RadloopError, WithdrawnBundle
from models.learning.beginning import has_plan
from models.learning.cases import check_dataset_name
from pipelines.exports.cases import Shares
from pipelines.learning.freezing import freeze_dataset
from pipelines.learning.gathering import Material
from pipelines.learning.ordering import check_model_name, order_training
from pipelines.learning.rules import Picked
from pipelines.learning.school import School
from pipelines.store import FreezingView, NewFreezing

if TYPE_CHECKING:
    from pipelines.engine import Engine, Steps, WorkflowSpec

log = structlog.get_logger()

WORKFLOW: Final = "freezing"
_MINUTES: Final = 60.0
_WISHES: Final = {"name", "minutes", "start_from", "changes", "device", "at_once", "seed"}


def ask_dataset(
    school: School,
    *,
    name: str,
    picked: Picked,
    asked_by: str,
    validation: float = 0.2,
    test: float = 0.2,
    then: Mapping[str, Any] | None = None,
) -> FreezingView:
    """Ask for the next version of a dataset, made of what people drew or found right.

    Parameters
    ----------
    validation, test : float
        Shares of the patients who are in no split yet.
    then : mapping or None
        A training that follows: `name`, and more of what :func:`order_training` takes.

    Raises
    ------
    InvalidRequest
        When the name is none, the shares leave nobody to learn from, or `then` asks for something
        that there is not.
    Conflict
        When a version of it is being made.
    """
    check_dataset_name(name)
    if min(validation, test) < 0 or validation + test >= 1:
        raise InvalidRequest("the shares for validation and test leave nobody to learn from")
    if then is not None:
        if set(then) - _WISHES:
            raise InvalidRequest(f"no training takes {', '.join(sorted(set(then) - _WISHES))}")
        check_model_name(str(then.get("name", "")))
    return school.freezings.ask(
        NewFreezing(name, picked.as_json(), asked_by, validation=validation, test=test, then=then)
    )


def learn_from_corrections(
    school: School, *, model: str, asked_by: str, minutes: float = _MINUTES
) -> FreezingView:
    """Ask the node to learn from all that was corrected of a model: a dataset, then a training.

    The training begins with the current version's weights where that was made here and is not
    withdrawn, else from scratch, and makes a candidate; nothing becomes current by this.

    Parameters
    ----------
    model : str
        A bundle's name, with or without a version.

    Raises
    ------
    UnknownBundle
    Conflict
        When it learns already.
    """
    bundle = school.registry.installed(model)
    return ask_dataset(
        school,
        name=bundle.name,
        picked=Picked(models=(bundle.name,)),
        asked_by=asked_by,
        then={"name": bundle.name, "minutes": minutes, "start_from": bundle.name},
    )


class FreezingRuns:
    """The workflow of datasets that people asked for.

    Parameters
    ----------
    school : School
    material : Material
        Where readings and images come from.
    """

    def __init__(self, school: School, material: Material) -> None:
        self._school = school
        self._material = material

    def specs(self) -> tuple[WorkflowSpec, ...]:
        """Return the workflow for the engine; it waits for no training."""
        from pipelines.engine import WorkflowSpec  # late: the front, which asks, has no engine

        return (WorkflowSpec(WORKFLOW, "datasets", self.run, self._failed),)

    def hand_over(self, engine: Engine) -> None:
        """Give the engine what it has not got; safe to repeat after a crash."""
        for freezing_id, attempt in self._school.freezings.not_handed_over():
            workflow_id = f"{WORKFLOW} {freezing_id}.{attempt}"
            engine.enqueue(WORKFLOW, workflow_id, freezing_id, priority="low")
            self._school.freezings.handed_over(freezing_id)

    def run(self, freezing_id: str, steps: Steps) -> None:
        """Freeze, and ask for the training that shall follow; each step may run twice."""
        steps.run("freeze", lambda: self._freeze(freezing_id))
        steps.run("follow", lambda: self._follow(freezing_id))
        self._school.freezings.end(freezing_id)

    def _freeze(self, freezing_id: str) -> None:
        rows = self._school.freezings
        asked = rows.freezing(freezing_id)

        def told(done: int, total: int) -> None:
            if not rows.read(freezing_id, done, total):
                raise Canceled("canceled by a person; nothing was kept")

        told(0, 0)
        try:
            frozen = freeze_dataset(
                self._school,
                self._material,
                asked.name,
                Picked.from_json(asked.picked),
                by=asked.asked_by,
                shares=Shares(asked.validation, asked.test),
                told=told,
            )
        except Conflict:
            made = self._school.datasets.dataset(asked.name)
            if made.created_at < asked.asked_at:
                raise  # there is nothing new; else it is what a try made that was cut off then
            rows.frozen(freezing_id, made.id, {})
            return
        left_out = Counter(one.why for one in frozen.left_out)
        rows.frozen(freezing_id, frozen.folder.dataset.identity, left_out)

    def _follow(self, freezing_id: str) -> None:
        asked = self._school.freezings.freezing(freezing_id)
        if asked.then is None or asked.dataset is None or asked.training_id is not None:
            return
        wish = dict(asked.then)
        start_from = wish.pop("start_from", None)
        made = order_training(
            self._school,
            dataset=asked.dataset,
            asked_by=asked.asked_by,
            start_from=self._beginning(start_from),
            key=freezing_id,
            **wish,
        )
        self._school.freezings.followed(freezing_id, made.id)

    def _beginning(self, name: str | None) -> str | None:
        """Return the bundle to begin with, where it says how it was trained and may run."""
        if name is None:
            return None
        try:
            bundle = self._school.registry.get(name)
        except WithdrawnBundle:
            return None
        return bundle.identity if has_plan(bundle) else None

    def _failed(self, freezing_id: str, error: RadloopError) -> None:
        self._school.freezings.end(freezing_id, error)
        log.info("not_frozen", code=error.code)
