"""A training is asked for, watched, and called off."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from dicom.errors import Conflict, InvalidRequest, NotFound, UnknownBundle
from models.bundle import version_key
from models.learning.beginning import begin_plan, changed_plan, check_codes
from models.learning.cases import Dataset
from models.learning.graph import Graph
from models.learning.planning import Plan
from pipelines.learning.school import School
from pipelines.store import DatasetCase, LauncherName, NewTraining, TrainingView, known_dataset

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_LOOK_BACK: Final = timedelta(seconds=10)


def order_training(
    school: School,
    *,
    dataset: str,
    name: str,
    asked_by: str,
    version: str | None = None,
    changes: Mapping[str, Any] | None = None,
    graph: Graph | None = None,
    start_from: str | None = None,
    minutes: float | None = None,
    device: str = "auto",
    launcher: LauncherName | None = None,
    seed: int = 0,
    at_once: bool = True,
    rule: str | None = None,
    key: str | None = None,
    then: Mapping[str, Any] | None = None,
) -> TrainingView:
    """Ask the node to learn from a dataset; it begins when no other training runs.

    Parameters
    ----------
    dataset : str
        ``NAME`` or ``NAME@VERSION``.
    name, version : str
        Of the bundle that it will make; without a version, the one after the highest there is.
    changes : mapping or None
        Fields of the plan, in place of what the node plans.
    graph : Graph or None
        Of augmentation.
    start_from : str or None
        A bundle whose weights it begins with; its network and what it is given are taken over.
    minutes : float or None
        About how long it may learn.
    launcher : str or None
        Where it learns; None: where the settings say.
    at_once : bool
        Also outside quiet hours.
    rule : str or None
        The `[[learning]]` that asks.
    key : str or None
        Of the training's id: who asks twice with the same one gets the same training.
    then : mapping or None
        What shall be learnt when its bundle is there: :mod:`pipelines.learning.cascading`.

    Raises
    ------
    NotFound, InvalidDataset
        Of the dataset.
    InvalidRequest
        When the name or version is none.
    InvalidPlan, CannotTrain
        When nothing can be learnt so; the message names the field or what is missing.
    UnknownBundle
        When there is nothing to begin with.
    Conflict
        When that version is made already, or is there.
    """
    training_id = secrets.token_hex(12) if key is None else _id_of(key)
    if key is not None:
        with suppress(NotFound):
            return school.trainings.training(training_id)
    known = school.shelf.get(dataset).dataset
    check_codes(known)
    check_model_name(name)
    chosen = version or next_version(school, name)
    _check_new(school, name, chosen)
    where = launcher or school.launchers[0]
    if where not in school.launchers:
        raise InvalidRequest(f"nothing learns on {where} here: [training.{where}] is not set")
    beginning = None if start_from is None else school.registry.get(start_from)
    plan = plan_training(
        school,
        dataset=known.identity,
        start_from=start_from,
        minutes=minutes,
        seed=seed,
        device=device,
    )
    plan = changed_plan(plan, changes or {})
    know_dataset(school, known, by=asked_by)
    return school.trainings.ask(
        NewTraining(
            id=training_id,
            name=name,
            version=chosen,
            dataset=known.identity,
            task=plan.task,
            plan=plan.model_dump(mode="json"),
            graph=None if graph is None else graph.model_dump(mode="json", by_alias=True),
            start_from=None if beginning is None else beginning.identity,
            minutes=minutes,
            device=device,
            launcher=where,
            asked_by=asked_by,
            at_once=at_once,
            rule=rule,
            then=then,
        )
    )


def plan_training(
    school: School,
    *,
    dataset: str,
    start_from: str | None = None,
    minutes: float | None = None,
    seed: int = 0,
    device: str = "auto",
) -> Plan:
    """Return what the node would do to learn from a dataset, each choice with its reason.

    Raises
    ------
    NotFound, InvalidDataset, CannotTrain, InvalidPlan, UnknownBundle
        As :func:`order_training`.
    """
    beginning = None if start_from is None else school.registry.get(start_from)
    return begin_plan(
        school.shelf.get(dataset),
        start_from=beginning,
        minutes=minutes,
        seed=seed,
        device=device,
    )


def cancel(school: School, training_id: str) -> None:
    """Call a training off; what it has learnt so far stays in its folder.

    Raises
    ------
    NotFound
    Conflict
        When it is over.
    """
    school.trainings.cancel(training_id)


def watch(school: School) -> list[TrainingView]:
    """Return the trainings that move, with their curves: what a page shows live.

    Those that ended a moment ago are among them, so that who looks now and then sees the end.
    """
    return school.trainings.moving(since=datetime.now(UTC) - _LOOK_BACK)


def know_dataset(school: School, dataset: Dataset, *, by: str) -> None:
    """Note a dataset that came from a folder, so that trainings can name it; once is enough."""
    try:
        school.datasets.dataset(dataset.identity)
    except NotFound:
        cases = [DatasetCase(case.id, case.patient, case.split) for case in dataset.cases]
        school.datasets.add(
            known_dataset(dataset.identity, sha256=dataset.sha256, cases=cases, created_by=by)
        )


def next_version(school: School, name: str) -> str:
    """Return the version after the highest that is installed, or being made."""
    found = [bundle.version for bundle in school.registry.bundles if bundle.name == name]
    found += school.trainings.versions_of(name)
    found += [row.version for row in school.versions.all(name=name)]
    if not found:
        return "0.1.0"
    major, minor, *_ = version_key(max(found, key=version_key))
    return f"{major}.{minor + 1}.0"


def _id_of(key: str) -> str:
    return hashlib.sha256(f"training {key}".encode()).hexdigest()[:24]


def check_model_name(name: str) -> None:
    """Refuse what cannot be a model's name.

    Raises
    ------
    InvalidRequest
    """
    if not _NAME.fullmatch(name):
        raise InvalidRequest("a model's name has small letters, digits, _ - and ., 64 at most")


def _check_new(school: School, name: str, version: str) -> None:
    try:
        version_key(version)
    except ValueError as error:
        raise InvalidRequest(str(error)) from None
    try:
        school.registry.get(f"{name}@{version}")
    except UnknownBundle:
        return
    raise Conflict(f"{name}@{version} is there already: versions are not written over")
