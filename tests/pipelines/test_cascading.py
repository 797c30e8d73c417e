"""A cascade as one deed: its first model is asked for, and the second follows by itself."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from dicom.errors import CannotTrain, InvalidPlan, InvalidRecipe
from pipelines.learning import School, order_cascade
from pipelines.learning.cascading import follow
from tests.learning import blobs, kits, school_in
from tests.node.front import migrated_database


@pytest.fixture
def school(tmp_path: Path) -> School:
    return school_in(tmp_path, migrated_database(tmp_path / "radloop.db"))


def test_the_second_model_follows_the_first_and_is_asked_for_once(
    school: School, tmp_path: Path
) -> None:
    whole = kits(tmp_path / "datasets" / "kits@1")
    first = order_cascade(
        school, dataset="kits", name="kidney_tumour", asked_by="anna", minutes=40, device="cpu",
        first={"rate": 0.004}, second={"batch": 1},
    )  # fmt: skip
    assert first.plan["rate"] == 0.004
    assert (first.bundle, first.dataset) == ("kidney_tumour_first@0.1.0", "kits_kidney@1")
    assert first.minutes == 20 and first.graph is not None
    organ = school.shelf.get(first.dataset)
    organ.check()
    assert set(np.unique(organ.label(organ.dataset.cases[0]))) == {0, 1}  # tumours are kidney, too
    assert organ.dataset.recipe == "kidney"
    image = "cases/c0/image.npy"
    assert (organ.root / image).samefile(whole.root / image)  # no copy of what stays as it is

    assert follow(school, first.id) is None  # its bundle is not there yet
    school.trainings.made(first.id, first.bundle)
    second = follow(school, first.id)
    assert second is not None and second.bundle == "kidney_tumour@0.1.0"
    parts = school.shelf.get(second.dataset).dataset
    assert parts.after is not None and parts.after.bundle == first.bundle
    assert second.plan["batch"] == 1 and second.plan["rate"] != 0.004
    assert second.asked_by == "anna" and second.device == "cpu" and second.minutes == 20
    again = follow(school, first.id)  # the worker died after it asked
    assert again is not None and again.id == second.id
    assert school.trainings.training(first.id).followed_by == second.id
    assert len(school.trainings.all()) == 2 and len(school.shelf.names()) == 3
    assert follow(school, second.id) is None


def test_what_cannot_follow_is_an_alarm_and_the_first_model_stays(
    school: School, tmp_path: Path
) -> None:
    kits(tmp_path / "datasets" / "kits@1")
    first = order_cascade(school, dataset="kits@1", name="kidney_tumour", asked_by="anna")
    school.trainings.made(first.id, first.bundle)
    shutil.rmtree(tmp_path / "datasets" / "kits@1")  # while the first learnt
    assert follow(school, first.id) is None
    (alarm,) = school.alarms.all()
    assert "the second model of a cascade could not begin" in alarm.message
    assert school.trainings.training(first.id).candidate == first.bundle


def test_what_does_not_fit_the_second_is_said_before_the_first_learns(
    school: School, tmp_path: Path
) -> None:
    kits(tmp_path / "datasets" / "kits@1", tumours=False)
    with pytest.raises(CannotTrain, match="no case to learn from shows: Kidney tumour"):
        order_cascade(school, dataset="kits@1", name="kidney_tumour", asked_by="anna")
    kits(tmp_path / "datasets" / "kits@2")
    with pytest.raises(InvalidPlan, match="batch"):
        order_cascade(school, dataset="kits@2", name="kidney", asked_by="anna", second={"batch": 0})
    assert school.trainings.all() == [] and len(school.shelf.names()) == 2


def test_another_dataset_is_no_cascade(school: School, tmp_path: Path) -> None:
    blobs(tmp_path / "datasets" / "blobs@1")
    with pytest.raises(InvalidRecipe, match="not taken in by a cascade"):
        order_cascade(school, dataset="blobs", name="blobs", asked_by="anna")
