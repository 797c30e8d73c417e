"""A worker that is killed in the midst of a collection, an export or a withdrawal goes on."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from node.orthanc import OrthancConfig
from pipelines.custody import Patient
from pipelines.custody.stores import Stores
from pipelines.exporting import _Done, check_manifest
from pipelines.sharing.files import ExportFiles
from pipelines.store import (
    Database,
    DatasetCase,
    Datasets,
    DatasetView,
    NewExport,
    SeriesFilter,
    Versions,
)
from tests.orthanc.servers import OrthancPair, RunningOrthanc
from tests.orthanc.sharing import LIVER, House, InTurn, sharing_house
from tests.working import engine_in

pytestmark = pytest.mark.orthanc

MOMENTS: dict[str, tuple[type, str, bool]] = {
    "a case is written": (_Done, "note", True),
    "the dataset has its name": (ExportFiles, "finished", False),
    "the collections have forgotten": (Stores, "remove_from_collections", True),
    "the archive has forgotten": (Stores, "remove_studies", True),
    "the exports are gone": (Stores, "remove_exports", True),
}
"""Where a worker dies: in which method, and whether after it (else before)."""


def work(
    folder: Path, database: str, clinical: OrthancConfig, research: OrthancConfig, dies: str = ""
) -> None:
    """Carry everything out until killed, as the worker does."""
    if dies:
        die_at(*MOMENTS[dies])
    first, second = RunningOrthanc(clinical), RunningOrthanc(research)
    house = House(
        first.archive(), second.archive(), Database(database), folder, OrthancPair(first, second)
    )
    rooms = (house.collecting(), house.exporting(), house.withdrawing())
    engine = engine_in(folder, [spec for room in rooms for spec in room.specs()], "datasets")
    engine.start()
    while True:
        for room in rooms:
            room.hand_over(engine)
        time.sleep(0.05)


def die_at(owner: type, name: str, afterwards: bool) -> None:
    real = getattr(owner, name)

    def dying(*arguments: Any, **more: Any) -> Any:
        answer = real(*arguments, **more) if afterwards else None
        os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(owner, name, dying)


class Workers:
    """Workers of a house, one after the other."""

    def __init__(self, house: House) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.orthanc.sharing", "pipelines.engine"])
        both = house.servers.clinical.config, house.servers.research.config
        self._given = (house.folder, str(house.database.engine.url), *both)

    def start(self, dies: str = "") -> multiprocessing.process.BaseProcess:
        worker = self._context.Process(target=work, args=(*self._given, dies))
        worker.start()
        return worker

    def killed(self, dies: str) -> None:
        """Let a worker die at a moment."""
        worker = self.start(dies)
        worker.join(240)
        assert worker.exitcode == -signal.SIGKILL

    def until(self, true: Callable[[], bool]) -> None:
        """Let a worker work until something is so."""
        worker = self.start()
        try:
            until(true)
        finally:
            worker.kill()
            worker.join()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 240
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with sharing_house(tmp_path_factory.mktemp("house")) as house:
        yield house


@pytest.fixture(scope="module")
def workers(house: House) -> Workers:
    return Workers(house)


def test_a_killed_collection_goes_on_and_every_study_is_stored_once(
    house: House, workers: Workers
) -> None:
    collection = house.pick("interrupted", LIVER)
    house.servers.research.signal(signal.SIGSTOP)  # the first study's copies wait to be stored
    first = workers.start()
    copies = house.folder / "collecting" / collection / "copies"
    until(lambda: any(copies.rglob("*.dcm")))
    first.kill()
    first.join()
    assert house.collections.collection(collection).state == "in_progress"
    assert house.collections.collection(collection).stored == 0
    house.servers.research.signal(signal.SIGCONT)
    workers.until(lambda: not house.collections.collection(collection).is_open)
    view = house.collections.collection(collection)
    assert (view.state, view.stored, view.attempt) == ("completed", 4, 1)
    assert house.research.statistics().instances == 24 + view.labels
    assert not list((house.folder / "collecting").iterdir())


def test_a_killed_export_looks_finished_only_when_it_is(
    house: House, workers: Workers, tmp_path: Path
) -> None:
    collection = house.pick("for an export", LIVER)
    house.collecting().run(collection, InTurn())
    order = NewExport(
        *("livers", "liver", collection, SeriesFilter(), ("nifti",), 0, 0, "", True, "", "", "rob")
    )
    export = house.exports.begin(order).id
    home = house.files.home(export)
    workers.killed("a case is written")
    assert not house.exports.export(export).is_there
    assert home.is_dir() and all(path.name.startswith(".") for path in home.iterdir())
    workers.killed("the dataset has its name")
    assert not house.exports.export(export).is_there  # nobody is offered it yet
    workers.until(lambda: house.exports.export(export).is_there)
    view = house.exports.export(export)
    assert (view.state, view.attempt) == ("completed", 1)
    target = house.files.target(view)
    assert [path for path in home.iterdir() if path != target] == []
    zipfile.ZipFile(target).extractall(tmp_path)
    assert check_manifest(tmp_path / "livers") == []
    assert len(list((tmp_path / "livers").rglob("*.nii.gz"))) >= 4


def test_a_killed_withdrawal_removes_all_that_can_be_and_says_what_stays(
    house: House, workers: Workers
) -> None:
    collection = house.pick("of two patients", LIVER, SeriesFilter(body_part=("LIVER",)))
    house.collecting().run(collection, InTurn())
    order = NewExport(
        *("both", "liver", collection, SeriesFilter(), ("dicom",), 0, 0, "", False, "", "", "rob")
    )
    export = house.exports.begin(order).id
    house.exporting().run(export, InTurn())
    pseudonym = house.node_vault.pseudonym("Quis-88213")  # of the study's b and c
    case = DatasetCase("case", pseudonym, "train")
    now = datetime.now(UTC)
    Datasets(house.database).add(
        DatasetView("livers@1", "livers", 1, "0" * 64, None, "rob", now, (case,))
    )
    Versions(house.database).sign(
        "liver@2", sha256="0" * 64, signature="0" * 64, by="rob", dataset="livers@1"
    )
    before = house.research.statistics()

    custody = house.custody
    asked = custody.withdrawing.ask(Patient("Quis-88213"), by="cleo", reason="by letter")
    house.withdrawing().find(asked)
    found = custody.withdrawals.one(asked).found
    assert {one.kind for one in found} == {"study", "collection", "export", "dataset", "model"}
    assert {one.name for one in found if one.kind in ("dataset", "model")} == {
        "livers@1",
        "liver@2",
    }
    assert house.research.statistics() == before  # only told

    assert custody.withdrawals.confirm(asked, by="carl")
    for moment in list(MOMENTS)[2:]:
        workers.killed(moment)
        assert custody.withdrawals.one(asked).state == "confirmed"
    workers.until(lambda: custody.withdrawals.one(asked).state == "done")
    ended = custody.withdrawals.one(asked)
    became = {(one.kind, one.became) for one in ended.found}
    assert became == {
        *((kind, "removed") for kind in ("study", "collection", "export")),
        *((kind, "stays") for kind in ("dataset", "model")),
    }
    assert all(one.why for one in ended.found)
    patient = house.vault(LIVER).pseudonym("Quis-88213")
    assert house.research.lookup("patients", patient) == ()
    assert house.research.statistics().patients == before.patients - 1
    assert house.collections.holding(patient) == []
    assert not house.files.home(export).exists()
    assert not house.exports.export(export).is_there
    assert house.clinical.statistics().patients == 3  # care goes on

    again = house.pick("after it", LIVER, SeriesFilter(body_part=("LIVER",)))
    house.collecting().run(again, InTurn())
    codes = [one.reason_code for one in house.collections.members(again)]
    assert sorted(code or "" for code in codes) == ["", "patient_withdrawn", "patient_withdrawn"]
    assert house.custody.held.all(state="held") == []  # nobody has to decide anything
