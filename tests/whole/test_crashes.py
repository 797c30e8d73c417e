"""Power cuts in small: whatever is killed, whenever, each study ends with exactly one SEG."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from dicom.errors import PeerError, RadloopError
from dicom.phantom import WrittenHead, write_head_study
from tests.examples import few_or_many
from tests.whole.nodes import Node, running_node, until, write_config

pytestmark = pytest.mark.orthanc

ROUNDS = few_or_many(3, 25)
VICTIMS = {
    "predictor": ("models.process",),
    "worker": ("node", "worker"),
    "front": ("node", "front"),
    "archive": ("Orthanc", "orthanc-clinical"),
}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, bundles: Path) -> Iterator[Node]:
    config = write_config(tmp_path_factory.mktemp("crashes"), bundles)
    with running_node(config) as running:
        yield running


def send_until_stored(node: Node, written: WrittenHead, folder: Path) -> None:
    """Send as a PACS does: again, until every instance was taken."""

    def stored() -> bool:
        try:
            node.send(folder)
            with node.archive() as archive:
                return all(archive.holds(i.sop_instance_uid) for i in written.series.instances)
        except RadloopError:
            return False

    until(stored, timeout_s=90)


def kill_one(node: Node, victim: str, after_s: float) -> str:
    """Kill -9 a process of the node at that moment; say what was hit."""
    time.sleep(after_s)
    process = node.child(*VICTIMS[victim])
    if process is None:
        return "nothing: it was not running"
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return "nothing: it was gone"
    return victim


@pytest.mark.timeout(240 * ROUNDS)
def test_every_study_ends_with_exactly_one_segmentation(node: Node, tmp_path: Path):
    """In each round every process is killed once, while the studies of the round are on their way.

    Nothing waits for a recovery, so that a study may be hit by all four.
    """
    rng = random.Random(20)
    hits: list[str] = []
    for turn in range(ROUNDS):
        sent: list[str] = []
        for victim in VICTIMS:
            folder = tmp_path / str(len(hits))
            written = write_head_study(folder, seed=1000 + len(hits), slices=20, size=64)
            send_until_stored(node, written, folder)
            sent.append(written.study.study_uid)
            hits.append(kill_one(node, victim, rng.uniform(0.0, 4.0)))
        for study_uid in sent:
            job = node.ended_job(study_uid, timeout_s=180)
            assert (job.state, job.error_code) == ("completed", None), (turn, hits)

        def one_each(sent: Sequence[str] = sent) -> bool:
            try:
                return all(len(node.segmentations(study_uid)) == 1 for study_uid in sent)
            except PeerError:
                return False  # it is being started again

        until(one_each, timeout_s=60)
    assert {"worker", "front", "archive"} <= set(hits)  # something real was killed


@pytest.mark.timeout(400)
def test_the_node_catches_up_with_what_came_while_it_was_down(
    tmp_path: Path, bundles: Path
) -> None:
    config = write_config(tmp_path, bundles)
    written = write_head_study(tmp_path / "study", seed=77, slices=20, size=64)
    with running_node(config, goes_on=True) as node:
        worker = node.child(*VICTIMS["worker"])
        assert worker is not None
        worker.suspend()  # the archive takes the study, nobody reads the feed
        node.send(tmp_path / "study")
        assert node.jobs_of(written.study.study_uid) == []
        worker.kill()
    with running_node(config) as node:
        job = node.ended_job(written.study.study_uid)
        assert job.state == "completed"
        assert len(node.segmentations(written.study.study_uid)) == 1
