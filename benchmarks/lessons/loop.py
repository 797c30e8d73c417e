"""The loop: a weak model, three rounds of five corrections, and what they do to the next round.

Everything goes through the house: studies lie in a real Orthanc, a reader saves corrections at the
desk, datasets are frozen from them, the learning child trains and measures, the policy promotes.
The reader is the truth of procedural heads: no real set has enough patients with masks.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.lessons.common import SEED, THREADS, Clock, changed, measured
from benchmarks.table import Row
from dicom.agreement import likeness
from dicom.phantom import WrittenHead, write_head_study
from dicom.volume import read_grid, read_volume
from models.bundle import Bundle
from models.learning.bundling import Title, write_bundle
from models.learning.cases import (
    Case,
    Dataset,
    DatasetFolder,
    read_dataset,
    write_array,
    write_dataset,
)
from models.learning.evaluating import Interval
from models.learning.planning import make_plan
from models.learning.trainer import train
from models.prediction import Image, Labels
from models.predictor import open_predictor
from models.table import SegmentRow
from pipelines.learning import (
    Lessons,
    Material,
    Means,
    Picked,
    Policy,
    School,
    freeze_dataset,
    order_training,
    promote,
    sign,
)
from pipelines.store import TrainingView
from tests.learning import school_in
from tests.orthanc import servers
from tests.orthanc.drawing import Room, reading_room
from tests.working import working

MODEL: Final = "organs"  # what the room's results are said to be of
ROUNDS, A_ROUND, TESTED, STEPS, WEAK_STEPS = 3, 5, 8, 300, 10
SLICES, SIDE = 16, 48
LESS_PATH = 0.5
POLICY: Final = Policy("policy", fewest_patients=5, margin=0.05)
PLAN: Final[dict[str, Any]] = {
    "spacing_mm": None,
    "patch": (32, 32, 16),
    "batch": 4,
    "network": {"kind": "unet", "channels": (8, 16, 32), "strides": (2, 2), "residual_units": 1},
    "rate": 0.004,
    "average": 0.9,
    "steps": STEPS,
    "steps_an_epoch": 50,
}
BRAIN: Final = SegmentRow.model_validate(
    {
        "number": 1,
        "label": "brain",
        "category": {"value": "91723000", "scheme": "SCT", "meaning": "Anatomical Structure"},
        "type": {"value": "12738006", "scheme": "SCT", "meaning": "Brain"},
        "rgb": (236, 152, 62),
    }
)
Mask = npt.NDArray[np.bool_]


def rows(work: Path) -> Iterator[Row]:
    """Yield what the rounds come to, then what is kept out."""
    clock = Clock()
    first = _head(work, 1)
    config = servers.clinical_config(work / "orthanc")
    with (
        servers.running(config) as (running,),
        reading_room(work, running, series=first.series, name="loop") as room,
        _loop(work, room) as loop,
    ):
        loop.begin_weak()
        yield from _rounds(loop, clock)
        yield from _kept_out(loop)


def _rounds(loop: _Loop, clock: Clock) -> Iterator[Row]:
    for seed in range(1, TESTED + 1):
        loop.corrected(seed, split="test", reader="tess")
    dices, paths, promoted = [loop.tested()], [], 0
    for number in range(1, ROUNDS + 2):
        seeds = range(100 * number, 100 * number + A_ROUND)
        last = number > ROUNDS
        paths.append(
            statistics.fmean(
                loop.corrected(seed, split=_split(seed), reader="none" if last else "rita")
                for seed in seeds
            )
        )
        if last:
            break
        training = loop.learn("heads", ("rita", "tess"))
        promoted += loop.current().identity == training.candidate
        dices.append(loop.tested())
    said = ", ".join(f"{one.mean:.3f} ({one.low:.3f} to {one.high:.3f})" for one in dices)
    never_worse = all(later.mean >= earlier.low for earlier, later in pairwise(dices))
    yield Row(
        f"loop: Dice on {TESTED} locked procedural heads of a model of {WEAK_STEPS} steps, then "
        f"after each of {ROUNDS} rounds of {A_ROUND} corrections: {said}; {promoted} promoted "
        f"({clock.said()})",
        "",
        round(dices[-1].mean, 4),
        "the weak model",
        round(dices[0].mean, 4),
        round(dices[-1].mean / dices[0].mean, 3),
        "each within or above the interval before, the last above the first",
        never_worse and dices[-1].mean > dices[0].high,
    )
    less = 1 - paths[-1] / paths[0]
    yield Row(
        "loop: added path length of a round's corrections, after three rounds beside before: "
        + ", ".join(f"{one:.0f}" for one in paths),
        "mm",
        round(paths[-1], 1),
        "the weak model",
        round(paths[0], 1),
        round(paths[-1] / paths[0], 3),
        f"<= {1 - LESS_PATH} x",
        less >= LESS_PATH,
    )


def _kept_out(loop: _Loop) -> Iterator[Row]:
    before = loop.current().identity
    for seed in (seed for number in range(1, ROUNDS + 1) for seed in _seeds(number)):
        loop.corrected_wrongly(seed, reader="carl")
    training = loop.learn("careless", ("carl", "tess"))
    (figures,) = loop.school.versions.evaluations(training.candidate or "")
    gain = figures.figures["gain"]["dice"]
    kept = loop.current().identity == before and not figures.accepted
    yield Row(
        f"loop: promoted after a training on corrupted labels (its gain in Dice "
        f"{gain['mean']:+.3f}, {gain['low']:+.3f} to {gain['high']:+.3f})",
        "versions",
        0.0 if kept else 1.0,
        target="0",
        met=kept,
    )
    newest = loop.school.shelf.get("heads").dataset.identity
    known = loop.school.datasets.dataset(newest)
    gone = next(case for case in known.cases if case.split == "train")
    loop.withdrawn.add(gone.patient)
    frozen = loop.freeze("heads", ("rita", "tess"))
    name = loop.material.pseudonym(gone.patient)
    left = sum(case.patient == name for case in frozen.dataset.cases)
    fewer = len(known.cases) - len(frozen.dataset.cases)
    yield Row(
        f"loop: cases of a withdrawn patient in the next dataset ({fewer} fewer than before)",
        "cases",
        float(left),
        target="0",
        met=left == 0 and fewer == 1,
    )


def _seeds(number: int) -> range:
    return range(100 * number, 100 * number + A_ROUND)


def _split(seed: int) -> str:
    return "validation" if seed % 100 == 0 else "train"


def _head(work: Path, seed: int) -> WrittenHead:
    return write_head_study(
        work / f"head{seed}", slices=SLICES, size=SIDE, seed=seed, plane="axial"
    )


@dataclass(eq=False)
class _Loop:
    """A room with its school, and the engine that learns."""

    work: Path
    room: Room
    school: School
    material: Material
    withdrawn: set[str]
    splits: dict[str, Any] = field(default_factory=dict)
    lessons: Lessons | None = None
    results: dict[int, tuple[WrittenHead, str, str]] = field(default_factory=dict)

    def begin_weak(self) -> None:
        """Make the weak model: a few steps on two heads."""
        data = _own_dataset(self.work / "own", self.work)
        plan = changed(make_plan(data, modality="MR", seed=SEED), **{**PLAN, "steps": WEAK_STEPS})
        done = train(
            data,
            changed(plan, steps_an_epoch=WEAK_STEPS),
            self.work / "weak",
            cache=self.work / "prepared",
            device=torch.device("cpu"),
            workers=1,
        )
        weak = write_bundle(self.school.bundles, done, data.dataset, Title(MODEL, "0.1.0"))
        sign(self.school, weak, by="anna")
        promote(self.school, weak.identity, by="anna", why="the first")

    def current(self) -> Bundle:
        """Return what the next study would meet."""
        return self.school.registry.get(MODEL)

    def corrected(self, seed: int, *, split: str, reader: str) -> float:
        """Let a head come in, be segmented, be corrected; return the path that was added, mm."""
        head = _head(self.work, seed)
        self._take_in(head)
        volume = read_volume(head.series)
        predictor = open_predictor(
            self.current(), lambda: self.school.registry, device="cpu", threads=THREADS
        )
        (wanted,) = predictor.bundle.inputs
        image = Image(volume.voxels_kji, volume.affine_lps)
        answer = predictor.predict_images({wanted.name: image}).answer
        assert isinstance(answer, Labels)  # it segments
        found, truth = answer.labels_kji == 1, np.asarray(head.head.brain_kji, np.bool_)
        # An empty result is no SEG: a reader begins with a dot.
        shown = found if found.any() else _dot(truth)
        result = self.room.result(shown.astype(np.uint8), "brain", job=f"job {seed}")
        study = self.room.images.study_id
        self.results[seed] = (head, result, study)
        if reader != "none":
            self.splits[f"patient of {study}"] = split
            self._save(truth, result, reader)
        return likeness(found, truth, volume.source.spacing_kji).added_path_mm

    def corrected_wrongly(self, seed: int, *, reader: str) -> None:
        """Save a correction that is wrong: the truth, somewhere else."""
        head, result, _ = self.results[seed]
        self._look_at(head)
        truth = np.asarray(head.head.brain_kji, np.bool_)
        self._save(np.roll(truth, (11 + seed % 7, 13), axis=(1, 2)), result, reader)

    def freeze(self, name: str, readers: tuple[str, ...]) -> DatasetFolder:
        """Freeze what these readers drew as the next version of a dataset."""
        picked = Picked(models=(MODEL,), readers=readers)
        splits = {who: split for who, split in self.splits.items() if who not in self.withdrawn}
        frozen = freeze_dataset(self.school, self.material, name, picked, by="anna", splits=splits)
        return frozen.folder

    def learn(self, name: str, readers: tuple[str, ...]) -> TrainingView:
        """Freeze, learn further from what is current, measure, decide; all in the node's way."""
        dataset = self.freeze(name, readers).dataset.identity
        training = order_training(
            self.school,
            dataset=dataset,
            name=MODEL,
            asked_by="anna",
            changes={key: value for key, value in PLAN.items() if key != "network"},
            start_from=self.current().identity,
            rule="heads",
            seed=SEED,
        )
        assert self.lessons is not None  # the loop is open
        while True:
            self.lessons.hand_over()
            now = self.school.trainings.training(training.id)
            if now.error_code is not None:
                raise SystemExit(f"the training ended: {now.error_message}")
            if now.state == "completed":
                return now
            time.sleep(0.2)

    def tested(self) -> Interval:
        """Return the current version's Dice on the locked test set, as the truth has it."""
        known = self.school.shelf.names()
        data = self.school.shelf.get("heads") if known else self._locked()
        found = measured(self.current(), data).interval("dice")
        assert found is not None  # the test set is not empty
        return found

    def _locked(self) -> DatasetFolder:
        return self.freeze("heads", ("tess",))

    def _save(self, labels: Mask, result: str, reader: str) -> None:
        content = self.room.document(
            labels.astype(np.uint8), segments=[{"origin": 1, "label": "brain"}], before=result
        )
        self.room.desk.save(content, author=reader)

    def _take_in(self, head: WrittenHead) -> None:
        for instance in head.series.instances:
            self.room.archive.store(instance.path)
        self._look_at(head)
        self.room.take_in()

    def _look_at(self, head: WrittenHead) -> None:
        self.room.series, self.room.grid = head.series, read_grid(head.series)
        self.room.study_uid = head.study.study_uid


@contextmanager
def _loop(work: Path, room: Room) -> Iterator[_Loop]:
    school = school_in(work / "school", room.database)
    withdrawn: set[str] = set()
    material = Material(
        archive=room.archive,
        studies=room.studies,
        patient_of=lambda study_id: f"patient of {study_id}",
        is_withdrawn=withdrawn.__contains__,
        key=b"key",
    )
    lessons = Lessons(
        school,
        Means(logs=work / "logs", device="cpu", threads=THREADS),
        is_urgent=lambda: False,
        policies={"heads": POLICY},
    )
    with working(lessons, work, "learning"):
        yield _Loop(work, room, school, material, withdrawn, lessons=lessons)


def _own_dataset(folder: Path, work: Path) -> DatasetFolder:
    """Write three heads that no round sees as a dataset."""
    cases = []
    for number, split in enumerate(("train", "train", "validation")):
        head = _head(work, 900 + number)
        volume = read_volume(head.series)
        name = f"own{number}"
        cases.append(
            Case(
                id=name,
                patient=name,
                split=split,
                shape=volume.voxels_kji.shape,
                spacing_kji=volume.source.spacing_kji,
                affine_lps=tuple(tuple(row) for row in volume.affine_lps.tolist()),
                image_sha256=write_array(folder, name, "image.npy", volume.voxels_kji[None]),
                label_sha256=write_array(
                    folder, name, "label.npy", np.asarray(head.head.brain_kji, np.uint8)
                ),
            )
        )
    write_dataset(
        folder,
        Dataset(
            name="own",
            version="1",
            task="segmentation",
            classes={1: BRAIN.label},
            channels=("image",),
            modalities=("MR",),
            segments=(BRAIN,),
            cases=tuple(cases),
        ),
    )
    return read_dataset(folder)


def _dot(truth: Mask) -> Mask:
    dot = np.zeros_like(truth)
    dot[tuple(np.argwhere(truth)[len(np.argwhere(truth)) // 2])] = True
    return dot
