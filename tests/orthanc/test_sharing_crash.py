"""A collection whose worker is killed half-way goes on, and stores every study once."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from node.orthanc import OrthancConfig
from pipelines.engine import Engine
from pipelines.store import Database
from tests.orthanc.servers import OrthancPair, RunningOrthanc
from tests.orthanc.sharing import LIVER, House, sharing_house

pytestmark = pytest.mark.orthanc


def work(folder: Path, database: str, clinical: OrthancConfig, research: OrthancConfig) -> None:
    """Carry collections out until killed, as the worker does."""
    first, second = RunningOrthanc(clinical), RunningOrthanc(research)
    house = House(
        first.archive(), second.archive(), Database(database), folder, OrthancPair(first, second)
    )
    runs = house.collecting()
    engine = Engine(
        f"sqlite:///{folder / 'engine.db'}",
        executor_id="test",
        version="test",
        workflows=runs.specs(),
        limits={"datasets": 1},
    )
    engine.start()
    while True:
        runs.hand_over(engine)
        time.sleep(0.05)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 240
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_killed_worker_goes_on_and_every_study_is_stored_once(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process
    with sharing_house(tmp_path) as house:
        both = house.servers.clinical.config, house.servers.research.config
        given = (house.folder, str(house.database.engine.url), *both)
        collection = house.pick("interrupted", LIVER)
        house.servers.research.signal(signal.SIGSTOP)  # the first study's copies wait to be stored
        first = process(target=work, args=given)
        first.start()
        copies = house.folder / "collecting" / collection / "copies"
        until(lambda: any(copies.rglob("*.dcm")))
        first.kill()
        first.join()
        assert house.collections.collection(collection).state == "in_progress"
        assert house.collections.collection(collection).stored == 0
        house.servers.research.signal(signal.SIGCONT)
        second = process(target=work, args=given)
        second.start()
        try:
            until(lambda: not house.collections.collection(collection).is_open)
        finally:
            second.kill()
            second.join()
        view = house.collections.collection(collection)
        assert (view.state, view.stored, view.attempt) == ("completed", 4, 1)
        assert house.research.statistics().instances == 24 + view.labels
        assert not list((house.folder / "collecting").iterdir())
