"""The child may die, hang or fail; its owner gets a reason, and the next call works."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from dicom.errors import (
    Canceled,
    InvalidBundle,
    OutOfMemory,
    PredictorDied,
    PredictorTimeout,
    UnknownBundle,
    UnsuitableSeries,
)
from models.prediction import Prediction
from models.process import PredictorFault, PredictorProcess
from models.registry import Registry
from tests.bundles import (
    inference,
    metadata,
    threshold_state,
    write_bundle,
    write_slow_bundle,
    write_threshold_bundle,
)

ROOT = Path(__file__).parents[2]
SMALL = np.random.default_rng(3).normal(100, 20, (6, 9, 12)).astype(np.float32)
SLOW = np.zeros((40, 40, 40), dtype=np.int16)  # half a minute in the slow bundle
AFFINE = np.diag([2.0, 1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles: threshold, other, slow, chatty, faulty, huge, and broken."""
    folder = tmp_path_factory.mktemp("bundles")
    write_threshold_bundle(folder)
    write_threshold_bundle(folder, "other", threshold=110)
    write_slow_bundle(folder)
    more = {
        "chatty": {"_target_": "DataStatsd", "keys": "image", "prefix": "a word too many"},
        "faulty": {"_target_": "ScaleIntensityd", "keys": "not_there"},
        "huge": {"_target_": "Resized", "keys": "image", "spatial_size": [200_000] * 3},
    }
    for name, step in more.items():
        configuration = inference()
        configuration["preprocessing"]["transforms"].append(step)
        write_bundle(folder, name, metadata(), configuration, threshold_state(100))
    (write_threshold_bundle(folder, "broken") / "LICENSE").unlink()
    return folder


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "predictor.log"


@pytest.fixture(scope="module")
def process(folder: Path, log: Path) -> Iterator[PredictorProcess]:
    """One child for all tests; those that kill it leave the next one a new one."""
    with PredictorProcess([folder], device="cpu", threads=1, timeout_s=120, log=log) as process:
        yield process


class SlowCall:
    """A call of the slow bundle in a thread, known to have begun."""

    def __init__(self, process: PredictorProcess, timeout_s: float | None = None) -> None:
        self.error: BaseException | None = None
        self.cancel = threading.Event()
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(process, timeout_s))
        self._thread.start()
        assert self._begun.wait(60)

    def _run(self, process: PredictorProcess, timeout_s: float | None) -> None:
        try:
            process.predict(
                "slow",
                SLOW,
                AFFINE,
                progress=lambda share: self._begun.set(),
                canceled=self.cancel.is_set,
                timeout_s=timeout_s,
            )
        except BaseException as error:  # noqa: BLE001  # it is what the test looks at
            self.error = error
        self._begun.set()

    def end(self) -> BaseException | None:
        """Wait for the call's end and return how it ended."""
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.error


def predict(process: PredictorProcess, voxels: NDArray[np.generic] = SMALL) -> Prediction:
    prediction = process.predict("threshold", voxels, AFFINE)
    np.testing.assert_array_equal(prediction.labels_kji, voxels > 100)
    return prediction


def gone(pid: int | None) -> bool:
    """Whether that process ends within a while; a zombie has ended."""
    for _ in range(200):
        if pid is None or not psutil.pid_exists(pid):
            return True
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


def pid_of(process: PredictorProcess) -> int:
    assert process.pid is not None
    return process.pid


@pytest.mark.parametrize(
    "voxels",
    [
        SMALL,
        SMALL.astype(np.int16),
        SMALL.astype(np.uint8),
        SMALL.astype(">f8"),
        SMALL.transpose(2, 0, 1)[::-1, :, ::2],
    ],
)
def test_every_kind_of_array_arrives_as_it_is(
    process: PredictorProcess, folder: Path, voxels: NDArray[np.generic]
) -> None:
    prediction = predict(process, voxels)
    assert prediction.labels_kji.dtype == np.uint8
    assert prediction.device == "cpu"
    assert 0 < prediction.forward_s < prediction.total_s
    assert prediction.bundle_sha256 == Registry([folder]).get("threshold").sha256


def test_the_child_stays_between_calls(process: PredictorProcess) -> None:
    predict(process)
    before = process.pid
    predict(process)
    assert process.pid == before


def test_more_bundles_than_stay_warm_take_turns(folder: Path) -> None:
    with PredictorProcess([folder], device="cpu", threads=1, keep=1) as process:
        for _ in range(2):
            for name, threshold in (("threshold", 100), ("other@0.1.0", 110)):
                labels = process.predict(name, SMALL, AFFINE).labels_kji
                np.testing.assert_array_equal(labels, threshold < SMALL)


def test_progress_comes_in_order_and_ends_at_one(process: PredictorProcess) -> None:
    shares: list[float] = []
    process.predict("slow", SLOW[:12, :12, :12], AFFINE, progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_child_that_dies_fails_that_call_only(
    process: PredictorProcess, number: signal.Signals
) -> None:
    call = SlowCall(process)
    pid = pid_of(process)
    os.kill(pid, number)
    error = call.end()
    assert isinstance(error, PredictorDied)
    assert number.name in error.message
    predict(process)
    assert process.pid != pid


def test_a_child_that_died_between_calls_is_not_noticed(process: PredictorProcess) -> None:
    process.start()
    pid = pid_of(process)
    os.kill(pid, signal.SIGKILL)
    assert gone(pid)
    predict(process)


def test_a_child_that_dies_before_it_takes_the_question_is_replaced(
    process: PredictorProcess,
) -> None:
    process.start()
    pid = pid_of(process)
    os.kill(pid, signal.SIGSTOP)  # it lives, and takes nothing
    watch = threading.Timer(0.3, os.kill, (pid, signal.SIGKILL))
    watch.start()
    predict(process)
    assert process.pid != pid


def test_a_child_that_cannot_start_is_said(folder: Path, tmp_path: Path) -> None:
    with PredictorProcess([folder], device="cpu", log=tmp_path / "log") as process:
        process._threads = "none"  # type: ignore[assignment]  # argparse ends the child
        with pytest.raises(PredictorDied, match="exit code 2"):
            predict(process)


def test_a_call_out_of_time_ends_the_child(process: PredictorProcess) -> None:
    predict(process)
    pid = process.pid
    with pytest.raises(PredictorTimeout):
        process.predict("slow", SLOW, AFFINE, timeout_s=1.0)
    assert gone(pid)
    predict(process)


def test_a_canceled_call_leaves_the_child_warm(process: PredictorProcess) -> None:
    predict(process)
    pid = process.pid
    call = SlowCall(process)
    call.cancel.set()
    assert isinstance(call.end(), Canceled)
    predict(process)
    assert process.pid == pid


def test_who_only_makes_sure_that_there_is_a_child_waits_for_no_call(
    process: PredictorProcess,
) -> None:
    call = SlowCall(process)
    starting = threading.Thread(target=process.start)
    starting.start()
    starting.join(5)
    waited = starting.is_alive()
    call.cancel.set()
    assert isinstance(call.end(), Canceled)
    starting.join()
    assert not waited


def test_a_call_can_be_canceled_while_it_waits_for_its_turn(process: PredictorProcess) -> None:
    call = SlowCall(process)
    with pytest.raises(Canceled):
        process.predict("threshold", SMALL, AFFINE, canceled=lambda: True)
    call.cancel.set()
    call.end()


def test_calls_of_several_threads_wait_for_each_other(process: PredictorProcess) -> None:
    process.start()
    pid = process.pid
    done: list[Prediction] = []
    threads = [
        threading.Thread(target=lambda k=k: done.append(predict(process, SMALL[k:])))
        for k in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 4
    assert process.pid == pid


def test_coded_errors_come_over_and_the_child_stays(process: PredictorProcess) -> None:
    predict(process)
    pid = process.pid
    with pytest.raises(UnknownBundle, match="no bundle nobody is installed"):
        process.predict("nobody", SMALL, AFFINE)
    with pytest.raises(InvalidBundle, match="LICENSE is missing"):
        process.predict("broken", SMALL, AFFINE)
    with pytest.raises(UnsuitableSeries):
        process.predict("threshold", np.full((2, 2, 2), np.nan), AFFINE)
    with pytest.raises(OutOfMemory):
        process.predict("huge", SMALL, AFFINE)
    predict(process)
    assert process.pid == pid


def test_an_unexpected_error_comes_with_its_traceback(process: PredictorProcess) -> None:
    with pytest.raises(PredictorFault, match="not_there") as raised:
        process.predict("faulty", SMALL, AFFINE)
    assert "Traceback" in str(raised.value)
    assert not hasattr(raised.value, "code")
    predict(process)


def test_an_error_in_a_callback_is_the_callers_and_the_next_call_works(
    process: PredictorProcess,
) -> None:
    def fail(share: float) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        process.predict("slow", SLOW, AFFINE, progress=fail)
    predict(process)


def test_what_the_child_prints_disturbs_nothing(process: PredictorProcess, log: Path) -> None:
    labels = process.predict("chatty", SMALL, AFFINE).labels_kji
    np.testing.assert_array_equal(labels, SMALL > 100)
    assert "a word too many" in log.read_text()


def test_stop_ends_the_child_and_a_call_under_way(process: PredictorProcess) -> None:
    call = SlowCall(process)
    pid = pid_of(process)
    process.stop()
    assert process.pid is None
    assert isinstance(call.end(), PredictorDied)
    assert gone(pid)
    process.stop()
    predict(process)


def test_no_secret_and_no_descriptor_reaches_the_child(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RADLOOP_ADMIN_PASSWORD", "hunter2")
    monkeypatch.setenv("PGPASSWORD", "hunter2")
    secret = (tmp_path / "secret").open("w")
    with secret, PredictorProcess([folder], device="cpu", threads=1) as process:
        process.start()
        child = psutil.Process(pid_of(process))
        assert "hunter2" not in Path(f"/proc/{child.pid}/environ").read_text()
        predict(process)
        assert secret.name not in [file.path for file in child.open_files()]


OWNER = """
import sys, threading
from pathlib import Path
import numpy as np
from models.process import PredictorProcess
process = PredictorProcess([Path(sys.argv[1])], device="cpu", threads=1)
starter = threading.Thread(target=process.start)
starter.start()
starter.join()  # the thread that started the child ends, the child must not
process.predict("threshold", np.zeros((2, 2, 2)), np.eye(4))
tell = lambda share=0.0: print(process.pid, flush=True)
if sys.argv[2] == "busy":
    process.predict("slow", np.zeros((40, 40, 40)), np.eye(4), progress=tell)
tell()
sys.stdin.read()
"""


@pytest.mark.parametrize("at", ["idle", "busy"])
def test_the_child_ends_with_its_owner(folder: Path, at: str) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(folder), at],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert psutil.pid_exists(pid)
        owner.kill()
        owner.wait()
        assert gone(pid)
