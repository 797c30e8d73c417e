"""From corrections to a frozen dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dicom.errors import Conflict, InvalidDataset, UnknownBundle
from models.bundle import Bundle
from models.learning.cases import DatasetFolder, Split
from pipelines.datasets import Shelf, Wanted
from pipelines.exports.cases import Shares
from pipelines.learning.gathering import Gathered, Group, LeftOut, Material, grouped
from pipelines.learning.rules import Picked
from pipelines.learning.school import School
from pipelines.learning.splitting import Past, share_out
from pipelines.store import DatasetView, known_dataset

_SHARES = Shares(validation=0.2, test=0.2)


@dataclass(frozen=True, slots=True, eq=False)
class Frozen:
    """A dataset that was made of corrections, and what could not be in it."""

    folder: DatasetFolder
    left_out: tuple[LeftOut, ...]


def freeze_dataset(
    school: School,
    material: Material,
    name: str,
    picked: Picked,
    *,
    by: str,
    shares: Shares = _SHARES,
    splits: Mapping[str, Split] | None = None,
    told: Callable[[int, int], None] | None = None,
) -> Frozen:
    """Freeze what people corrected as the next version of a dataset: whole, or not at all.

    Patients keep the split that they had; those that were withdrawn are not in it.

    Parameters
    ----------
    name : str
        Of the dataset.
    by : str
        Who asks.
    splits : mapping or None
        Splits that a person chose, by the node's pseudonyms of patients.
    told : callable or None
        Told how many cases are read, and of how many.

    Raises
    ------
    InvalidDataset
        When no correction is left that makes a case, or what they show fits no classes.
    PatientInTwoSplits
        When a chosen split would let a patient be tested and learnt from.
    Conflict
        When the newest version is the same, voxel for voxel.
    PeerError
        When the archive does not answer.
    """
    groups, left_out = grouped(material, school.datasets.readings(), picked)
    past = Past(
        own=school.datasets.splits_of(name),
        locked=school.datasets.locked(),
        learnt_from=school.datasets.learnt_from(),
    )
    shared = share_out({group.patient for group in groups}, past, shares, wanted=splits)
    left_out += [
        LeftOut(group.series.id, "locked_by_another_test_set")
        for group in groups
        if group.patient not in shared
    ]
    gathered = _gathered(school, material, picked, groups, shared)
    try:
        folder = school.shelf.freeze(gathered, Path(), Wanted(name), told=told)
    except Conflict:  # nothing new; or a try was cut off before it wrote whose the cases are
        _note(school, school.shelf.get(name), gathered, picked, by)
        raise
    _note(school, folder, gathered, picked, by)
    return Frozen(folder, (*left_out, *gathered.left_out))


def _note(
    school: School, folder: DatasetFolder, gathered: Gathered, picked: Picked, by: str
) -> None:
    """Keep whose cases a version holds; one that is noted already stays as it is."""
    school.datasets.add(
        known_dataset(
            folder.dataset.identity,
            sha256=folder.dataset.sha256,
            cases=gathered.cases,
            created_by=by,
            rule=picked.as_json(),
        )
    )


def freeze_recent(
    school: School, material: Material, known: DatasetView, picked: Picked, folder: Path
) -> DatasetFolder | None:
    """Freeze what people corrected on patients that were not learnt from: for a shadow run.

    Parameters
    ----------
    known : DatasetView
        What the candidate learnt from.
    folder : Path
        Where it is frozen; it is no dataset of the node.

    Returns
    -------
    DatasetFolder or None
        With all cases in the split `test`; None where there is none.
    """
    learnt = {case.patient for case in known.cases if case.split != "test"}
    tested = {(case.series_id, case.label_ids) for case in known.of("test")}
    shelf, name = Shelf(folder), "recent"
    if shelf.names():
        return shelf.get(name)
    groups, _ = grouped(material, school.datasets.readings(), picked)
    fresh = [
        group
        for group in groups
        if group.patient not in learnt
        and (group.series.id, tuple(one.id for one in group.readings)) not in tested
    ]
    if not fresh:
        return None
    test: dict[str, Split] = dict.fromkeys((group.patient for group in fresh), "test")
    gathered = _gathered(school, material, picked, fresh, test)
    try:
        return shelf.freeze(gathered, Path(), Wanted(name))
    except InvalidDataset:  # none of them can be read: there is nothing to run on
        return None


def _gathered(
    school: School,
    material: Material,
    picked: Picked,
    groups: list[Group],
    splits: Mapping[str, Split],
) -> Gathered:
    chosen = [group for group in groups if group.patient in splits]
    if not chosen:
        raise InvalidDataset(
            "no correction or accepted result is left that could be a case: readers make them in "
            "the viewer; or fewer of them have to be filtered out"
        )
    return Gathered(material, picked, chosen, splits, _base(school, picked))


def _base(school: School, picked: Picked) -> Bundle | None:
    """Return the model whose classes count: where corrections of one alone are wanted."""
    if len(picked.models) != 1:
        return None
    try:
        return school.registry.installed(picked.models[0].partition("@")[0])
    except UnknownBundle:
        return None
