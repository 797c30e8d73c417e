"""What readers drew, in a real archive, becomes a frozen dataset: voxel for voxel, by patient."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from dicom.errors import Conflict, InvalidDataset
from dicom.volume import read_grid, read_volume
from models.bundle import read_bundle
from pipelines.learning import (
    Material,
    Picked,
    Schedule,
    School,
    ask_dataset,
    freeze_dataset,
    freeze_recent,
    sign,
    withdraw,
)
from pipelines.store import FreezingView
from tests.bundles import write_threshold_bundle
from tests.learning import school_in
from tests.orthanc import servers
from tests.orthanc.drawing import Room, reading_room
from tests.series import write_series
from tests.working import working

pytestmark = pytest.mark.orthanc

PARTS = [{"origin": 1, "label": "liver"}, {"origin": 2, "label": "spleen"}]


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    config = servers.clinical_config(tmp_path / "orthanc")
    with servers.running(config) as (running,), reading_room(tmp_path, running, name="p0") as room:
        yield room


def another(room: Room, folder: Path, name: str) -> None:
    """Let the room be about the series of another patient."""
    room.series = write_series(folder / name, shape_kji=(9, 20, 24), name=name)
    for instance in room.series.instances:
        room.archive.store(instance.path)
    room.study_uid = str(dcmread(room.series.instances[0].path).StudyInstanceUID)
    room.grid = read_grid(room.series)
    room.take_in()


def labels_of(number: int) -> np.ndarray:
    labels = np.zeros((9, 20, 24), np.uint8)
    labels[2:5, 3 : 8 + number, 4:12] = 1
    labels[5:8, 10:16, 10 : 14 + number] = 2
    return labels


def corrected(room: Room, labels: np.ndarray, before: str, author: str = "rita") -> str:
    content = room.document(labels, segments=PARTS, before=before)
    return room.desk.save(content, author=author).id


def ended(school: School, freezing_id: str) -> FreezingView:
    until = time.monotonic() + 120
    while (found := school.freezings.freezing(freezing_id)).is_open:
        assert time.monotonic() < until, found
        time.sleep(0.05)
    return found


def same_as(asked: FreezingView) -> dict[str, object]:
    return {"name": asked.name, "picked": Picked.from_json(asked.picked), "asked_by": "sara"}


def look(schedule: Schedule, asked: FreezingView) -> FreezingView:
    schedule.look()
    return asked


def test_corrections_are_frozen_by_patient_and_stay_apart(room: Room, tmp_path: Path):
    school = school_in(tmp_path, room.database)
    withdrawn: set[str] = set()
    material = Material(
        archive=room.archive,
        studies=room.studies,
        patient_of=lambda study_id: f"patient of {study_id}",
        is_withdrawn=withdrawn.__contains__,
        key=b"key",
    )
    picked = Picked(models=("organs",), fusion="majority")
    results, images, studies = [], [], []
    for number in range(5):
        if number:
            another(room, tmp_path, f"p{number}")
        results.append(room.result(labels_of(0), "liver", "spleen", job=f"job {number}"))
        images.append(read_volume(room.series).voxels_kji)
        studies.append(room.images.study_id)
        if number < 4:
            corrected(room, labels_of(number), results[-1])
    room.corrections.assess(
        results[4], verdict="accepted", reason=None, comment=None, author="rita"
    )

    frozen = freeze_dataset(school, material, "organs", picked, by="anna").folder
    known = school.datasets.dataset("organs@1")
    assert known.sha256 == frozen.dataset.sha256
    assert sorted(frozen.dataset.classes.values()) == ["liver", "spleen"]
    assert {row.type.meaning for row in frozen.dataset.segments} == {"Liver", "Spleen"}
    splits = [case.split for case in known.cases]
    assert {split: splits.count(split) for split in splits} == {
        "test": 1,
        "validation": 1,
        "train": 3,
    }
    of_study = {case.study_id: case for case in known.cases}
    by_id = {case.id: case for case in frozen.dataset.cases}
    for number, study_id in enumerate(studies):
        case = by_id[of_study[study_id].case]
        wanted = labels_of(number if number < 4 else 0)
        assert np.array_equal(frozen.label(case), wanted)
        assert np.array_equal(frozen.image(case)[0], images[number])
        assert study_id not in case.patient and case.tags["author"] == "rita"
    frozen.check()
    with pytest.raises(Conflict):
        freeze_dataset(school, material, "organs", picked, by="anna")

    # a second reader of the last patient, and a first one who withdraws
    careless = np.roll(labels_of(0), 2, axis=1)
    corrected(room, careless, results[4], author="sara")
    gone = next(case for case in known.cases if case.split == "train" and case.fused == "")
    withdrawn.add(gone.patient)
    later = freeze_dataset(school, material, "organs", picked, by="anna")
    second = school.datasets.dataset("organs@2")
    assert {one.why for one in later.left_out} == {"withdrawn"}
    assert gone.patient not in {case.patient for case in second.cases}
    kept = {case.patient: case.split for case in known.cases}
    assert all(kept[case.patient] == case.split for case in second.cases)
    if studies[4] != gone.study_id:
        (double,) = [case for case in second.cases if case.study_id == studies[4]]
        assert double.fused == "majority" and sorted(double.authors) == ["rita", "sara"]
        label = later.folder.label(
            next(case for case in later.folder.dataset.cases if case.id == double.case)
        )
        both = labels_of(0) == careless
        assert (label[~both] == 0).all() and np.array_equal(label[both], careless[both])

    # nothing that is learnt from is in a shadow run
    recent = freeze_recent(school, material, second, picked, tmp_path / "shadow")
    learnt = {case.patient for case in second.cases if case.split != "test"}
    names = {material.pseudonym(patient) for patient in learnt}
    assert recent is None or not names & {case.patient for case in recent.dataset.cases}
    with pytest.raises(InvalidDataset):
        freeze_dataset(school, material, "other", Picked(models=("heart",)), by="anna")

    # a person picks cases, one of them is labelled otherwise; a training follows by itself
    picked = Picked(series=tuple(case.series_id for case in known.cases), classes={"spleen": "-"})
    sign(school, read_bundle(write_threshold_bundle(school.bundles, "bad")), by="anna")
    withdraw(school, "bad@0.1.0", by="anna", why="misses lesions")  # nothing begins with it
    wish = {"name": "livers", "minutes": 5.0, "start_from": "bad@0.1.0"}
    asked = ask_dataset(school, name="livers", picked=picked, asked_by="rita", then=wish)
    with pytest.raises(Conflict):
        ask_dataset(school, name="livers", picked=picked, asked_by="sara")
    schedule = Schedule(school, material, ())
    with working(schedule, tmp_path, "datasets"):
        schedule.look()
        made = ended(school, asked.id)
        assert (made.state, made.error_message) == ("completed", None)
        again = ended(school, look(schedule, ask_dataset(school, **same_as(asked))).id)
    assert made.left_out == {"withdrawn": 1} and made.dataset == "livers@1"
    assert list(school.shelf.get("livers").dataset.classes.values()) == ["liver"]
    training = school.trainings.training(made.training_id)
    assert (training.bundle, training.dataset) == ("livers@0.1.0", "livers@1")
    assert training.start_from is None
    assert again.error_code == "conflict" and again.dataset is None
