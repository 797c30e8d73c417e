"""A training in the node: learnt, measured, signed, decided, over every death on the way."""

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
import torch

from dicom.errors import (
    ChangedBundle,
    Conflict,
    InvalidSettings,
    NotBetter,
    PatientInTwoSplits,
    UnknownBundle,
    WithdrawnBundle,
)
from models.bundle import Bundle
from models.learning.bundling import Title, write_bundle
from models.learning.cases import read_dataset, write_array, write_dataset
from models.learning.measuring import measure_both
from models.learning.orders import LAST, MeasureOrder
from models.learning.trainer import train
from models.registry import Registry
from pipelines.exports.cases import Shares
from pipelines.learning import (
    Clock,
    Lessons,
    Means,
    Policy,
    QuietHours,
    School,
    cancel,
    order_training,
    overseeing,
    promote,
    promote_by_figures,
    roll_back,
    sign,
    standing_of,
)
from pipelines.learning.fusing import fuse
from pipelines.learning.judging import judge
from pipelines.learning.overseeing import Overseer, read_epochs
from pipelines.learning.splitting import Past, share_out
from pipelines.records import TrainingRow, TrainingSpanRow
from pipelines.store import Database, EvaluationView
from tests.learning import blobs, school_in, small_plan
from tests.working import engine_in

PATIENTS = (*("train",) * 4, "validation", *("test",) * 6)
SMALL = small_plan().model_dump(mode="json", exclude={"why"})


@pytest.fixture
def school(tmp_path: Path) -> Iterator[School]:
    database = Database(f"sqlite:///{tmp_path / 'radloop.db'}")
    database.migrate()
    (tmp_path / "datasets").mkdir()
    yield school_in(tmp_path, database)
    database.close()


def frozen(tmp_path: Path, name: str, *, corrupted: bool = False) -> str:
    """Put a dataset on the shelf; `corrupted`: what is learnt from is labelled at random."""
    made = blobs(tmp_path / "datasets" / "half", patients=PATIENTS)
    cases = []
    for number, case in enumerate(made.dataset.cases):
        if corrupted and case.split == "train":
            label = np.roll(made.label(case), (13 + 7 * number, 19), axis=(1, 2))
            sha256 = write_array(made.root, case.id, "label.npy", label)
            case = case.model_copy(update={"label_sha256": sha256})
        cases.append(case)
    dataset = made.dataset.model_copy(update={"name": name, "cases": tuple(cases)})
    write_dataset(made.root, dataset)
    made.root.rename(tmp_path / "datasets" / dataset.identity)
    return dataset.identity


def learnt(school: School, tmp_path: Path, dataset: str, version: str, *, steps: int) -> Bundle:
    """Install a model that has learnt so many steps, without the node."""
    data = read_dataset(tmp_path / "datasets" / dataset)
    run = tmp_path / f"learnt {version}"
    cpu, plan = torch.device("cpu"), small_plan(steps=steps)
    done = train(data, plan, run, cache=tmp_path / "prepared", device=cpu)
    return write_bundle(school.bundles, done, data.dataset, Title("blobs", version))


def ordered(school: School, dataset: str, *, steps: int):
    change = {**SMALL, "steps": steps, "steps_an_epoch": min(steps, 20)}
    return order_training(
        school, dataset=dataset, name="blobs", asked_by="anna", changes=change, rule="nightly"
    )


class Node:
    """The part of a worker that learns."""

    def __init__(self, school: School, tmp_path: Path, **options: object) -> None:
        self.school, self.urgent = school, False
        means = Means(logs=tmp_path / "logs", device="cpu", threads=1, **options)
        self.lessons = Lessons(
            school,
            means,
            is_urgent=lambda: self.urgent,
            policies={"nightly": Policy("policy", fewest_patients=3)},
        )
        self.engine = engine_in(tmp_path, self.lessons.specs(), "learning")
        self.lessons.attach(self.engine)
        self.engine.start()

    def wait(self, training_id: str, *wanted: str, seconds: float = 300.0):
        """Hand over and look, until the training does what is waited for."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.lessons.hand_over()
            now = self.school.trainings.training(training_id)
            if now.state in wanted or now.step in wanted:
                return now
            assert now.error_code is None, now.error_message
            time.sleep(0.05)
        raise AssertionError(f"it does {now.step}, and not {wanted}")


@pytest.fixture
def node(school: School, tmp_path: Path) -> Iterator[Node]:
    node = Node(school, tmp_path)
    yield node
    node.engine.stop()


def child_of(folder: Path) -> int | None:
    """Return the process that works on a folder."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if str(folder).encode() in words:
                return int(entry.name)
    return None


def stopped(pid: int | None) -> bool:
    """Return whether a process is stopped, as the kernel sees it."""
    stat = "" if pid is None else Path(f"/proc/{pid}/stat").read_text()
    return stat.rpartition(") ")[2].startswith("T")


def comes_to(happens: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not happens():
        assert time.monotonic() < until
        time.sleep(0.02)


def appears(path: Path) -> None:
    comes_to(path.exists)


def test_the_loop_survives_every_death_and_keeps_what_is_worse_out(school, node, tmp_path):
    dataset = frozen(tmp_path, "blobs")
    sign(school, learnt(school, tmp_path, dataset, "0.1.0", steps=1), by="anna")
    fresh = Registry(school.folders, standing=standing_of(school.versions, school.signer))
    with pytest.raises(UnknownBundle):
        fresh.get("blobs")  # a candidate is taken by its version alone
    promote(school, "blobs@0.1.0", by="anna", why="the first")
    training = ordered(school, dataset, steps=100)
    second = ordered(school, dataset, steps=1)
    assert (training.version, second.version) == ("0.2.0", "0.3.0")

    folder = school.run_folder(training.id)
    node.wait(training.id, "learning")
    appears(folder / LAST)
    os.kill(child_of(folder), signal.SIGKILL)
    node.urgent = True
    node.wait(training.id, "paused")
    comes_to(lambda: stopped(child_of(folder)))
    node.urgent = False
    better = node.wait(training.id, "completed")
    assert [one.number for one in better.epochs] == list(range(1, 6))
    assert school.trainings.training(second.id).step == "waiting"  # never two at once
    cancel(school, second.id)

    (figures,) = school.versions.evaluations(better.candidate)
    assert figures.accepted, figures.verdict
    assert figures.figures["gain"]["dice"]["low"] > 0
    assert fresh.get("blobs").version == "0.2.0"
    docs = school.bundles / better.candidate / "docs"
    assert "Dice" in (docs / "model-card.md").read_text()
    assert "worst-1.png" in (docs / "report.html").read_text()
    assert (docs / "worst-1.png").read_bytes().startswith(b"\x89PNG")

    assert roll_back(school, "blobs", by="anna", why="misses some").id == "blobs@0.1.0"
    assert fresh.get("blobs").version == "0.1.0"
    with pytest.raises(WithdrawnBundle):
        fresh.get("blobs@0.2.0")
    with pytest.raises(Conflict):
        roll_back(school, "blobs", by="anna", why="again")


def work(folder: Path) -> None:
    """Be a worker until killed: nothing here ends by itself."""
    node = Node(school_in(folder, Database(f"sqlite:///{folder / 'radloop.db'}")), folder)
    while True:
        node.lessons.hand_over()
        time.sleep(0.05)


def test_a_killed_workers_training_goes_on_once_and_is_bundled_when_its_time_is_over(
    school, tmp_path, monkeypatch
):
    training = order_training(
        school,
        dataset=frozen(tmp_path, "blobs"),
        name="blobs",
        asked_by="anna",
        changes={**SMALL, "steps_an_epoch": 10},
        minutes=60,
    )
    folder = school.run_folder(training.id)
    worker = multiprocessing.get_context("spawn").Process(target=work, args=(tmp_path,))
    worker.start()
    appears(folder / LAST)
    orphan = child_of(folder)
    worker.kill()
    worker.join()
    comes_to(lambda: child_of(folder) != orphan)  # the kernel ends it with its owner
    before = len(read_epochs(folder))

    node = Node(school, tmp_path)
    try:
        comes_to(lambda: len(read_epochs(folder)) > before)
        monkeypatch.setattr(overseeing, "_SLACK", 0)
        monkeypatch.setattr(overseeing, "_GRACE_S", 0)
        ended = node.wait(training.id, "completed")
    finally:
        node.engine.stop()
    assert len(school.trainings.all()) == 1
    numbers = [one.number for one in ended.epochs]
    assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) > before
    assert ended.progress < 1
    best = max(ended.epochs, key=lambda one: one.score)
    metadata = json.loads(
        (school.bundles / "blobs@0.1.0" / "configs" / "metadata.json").read_text()
    )
    assert metadata["radloop"]["provenance"]["epoch"] == str(best.number)
    assert [one.split for one in school.versions.evaluations("blobs@0.1.0")] == ["test"]


def test_a_days_minutes_are_those_of_this_day_and_end_what_runs(school, tmp_path):
    training = ordered(school, frozen(tmp_path, "blobs"), steps=1)
    with school.trainings._database.write() as session:
        session.execute(sa.update(TrainingRow).values(at_once=False))
    means = Means(logs=tmp_path, minutes_a_day=10)
    overseer = Overseer(school, means, is_urgent=lambda: False)
    row = school.trainings.training(training.id)
    ending = overseer.over_learning(row, tmp_path).ending
    assert ending(599.0) is None
    assert ending(601.0) == "outside_hours"
    school.trainings.used(training.id, 400)
    assert ending(201.0) == "outside_hours"
    with school.trainings._database.write() as session:
        then = datetime.now(UTC) - timedelta(hours=25)
        session.execute(sa.update(TrainingSpanRow).values(ended_at=then))
    assert ending(201.0) is None  # yesterday's is not counted, though it goes on


def test_what_learnt_from_corrupted_labels_is_not_promoted(school, tmp_path):
    good = learnt(school, tmp_path, frozen(tmp_path, "blobs"), "0.1.0", steps=60)
    promote(school, good.identity, by="anna", why="the first")
    spoilt = frozen(tmp_path, "spoilt", corrupted=True)
    bad = learnt(school, tmp_path, spoilt, "0.2.0", steps=60)
    sign(school, bad, by="anna")
    order = MeasureOrder(
        dataset=tmp_path / "datasets" / spoilt,
        bundle=bad.root,
        against=good.root,
        bundles=school.folders,
        device="cpu",
        threads=1,
    )
    figures = measure_both(read_dataset(order.dataset), order, pictures=tmp_path)
    said = judge(figures, Policy("policy", fewest_patients=3))
    assert not said.accepted, said.why
    row = EvaluationView(
        id="e",
        bundle=bad.identity,
        bundle_sha256=bad.sha256,
        against=good.identity,
        dataset=spoilt,
        dataset_sha256=figures.dataset_sha256,
        split="test",
        figures=figures.model_dump(mode="json"),
        accepted=said.accepted,
        verdict=said.why,
        created_at=datetime.now().astimezone(),
    )
    with pytest.raises(NotBetter):
        promote_by_figures(school, bad.identity, row, by="rule nightly")
    assert school.registry.get("blobs").version == "0.1.0"
    deeds = school.versions.version(bad.identity).deeds
    assert [deed.deed for deed in deeds] == ["signed", "refused"]


def test_a_training_is_called_off(school, node, tmp_path):
    training = ordered(school, frozen(tmp_path, "blobs"), steps=100_000)
    folder = school.run_folder(training.id)
    node.wait(training.id, "learning")
    comes_to(lambda: child_of(folder) is not None)
    cancel(school, training.id)
    node.wait(training.id, "canceled")
    assert child_of(folder) is None


def test_outside_quiet_hours_nothing_begins_by_itself(school, node, tmp_path):
    training = ordered(school, frozen(tmp_path, "blobs"), steps=1)
    with school.trainings._database.write() as session:
        session.execute(sa.update(TrainingRow).values(at_once=False))
    assert school.trainings.next(quiet=False) is None
    assert school.trainings.next(quiet=True).id == training.id


def test_a_bundle_that_was_changed_is_not_used_and_two_people_may_have_to_say_yes(school, tmp_path):
    made = learnt(school, tmp_path, frozen(tmp_path, "blobs"), "0.1.0", steps=1)
    two = Policy("two")
    assert promote(school, made.identity, by="anna", why="good", policy=two).stage == "candidate"
    assert promote(school, made.identity, by="anna", why="good", policy=two).stage == "candidate"
    assert promote(school, made.identity, by="bela", why="good", policy=two).stage == "current"
    made.weights.write_bytes(made.weights.read_bytes() + b"\0")
    fresh = Registry(school.folders, standing=standing_of(school.versions, school.signer))
    with pytest.raises(ChangedBundle):
        fresh.get("blobs")


def test_hours_and_cron():
    at = datetime(2026, 11, 21, 23, 30).astimezone()
    assert QuietHours("22:00-06:00").hold(at)
    assert not QuietHours("06:00-22:00").hold(at)
    nightly = Clock("15 2 * * 1-5")  # a Saturday night: Monday is next
    assert nightly.after(at) == datetime(2026, 11, 23, 2, 15).astimezone()
    assert Clock("*/20 * * * *").due(at, at + timedelta(minutes=10, seconds=1))
    assert not Clock("*/20 * * * *").due(at, at + timedelta(minutes=9))
    for wrong in ("* * * *", "61 * * * *", "a * * * *", "*/0 * * * *"):
        with pytest.raises(InvalidSettings):
            Clock(wrong)
    with pytest.raises(InvalidSettings):
        QuietHours("22-6")


def test_a_patient_keeps_the_split_and_what_is_tested_is_not_learnt_from():
    patients = [f"p{n}" for n in range(10)]
    first = share_out(patients, Past(), Shares(0.2, 0.2))
    assert sorted(first.values()) == ["test"] * 2 + ["train"] * 6 + ["validation"] * 2
    more = [*patients, *(f"q{n}" for n in range(10))]
    later = share_out(more, Past(own=first), Shares(0.2, 0.2))
    assert {p: later[p] for p in patients} == first
    assert list(later.values()).count("test") == 4
    tested = frozenset({"p0"})
    assert share_out(["p0", "p1", "p2"], Past(locked=tested), Shares(0.2, 0.2))["p0"] == "test"
    with pytest.raises(PatientInTwoSplits):
        share_out(["p0"], Past(locked=tested), Shares(0.2, 0.2), wanted={"p0": "train"})
    assert "p0" not in share_out(
        ["p0", "p1"], Past(own={"p0": "train"}, locked=tested), Shares(0.2, 0.2)
    )


def test_readings_are_fused_by_majority_and_by_staple():
    truth = np.zeros((3, 20, 20), np.uint8)
    truth[:, 5:15, 5:15] = 1
    truth[:, 8:12, 8:12] = 2
    careless = np.roll(truth, 4, axis=1)
    assert np.array_equal(fuse([truth, careless, truth], "majority"), truth)
    assert np.array_equal(fuse([truth, careless, truth], "staple"), truth)
    two = fuse([truth, careless], "staple")
    assert (two[truth != careless] == 0).all() and np.array_equal(
        two[truth == careless], truth[truth == careless]
    )
