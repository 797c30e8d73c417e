"""The owner's side: one child that predicts, asked one question at a time."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from dicom import errors
from dicom.errors import PredictorDied, PredictorTimeout, error_of
from models.prediction import Canceled, Image, Prediction, Progress, from_arrays
from models.process.messages import (
    PULSE_S,
    Ask,
    Broke,
    Done,
    Failed,
    Message,
    Share,
    Stop,
    Took,
    close_all,
    confidence_of,
    readable,
    receive,
    send,
    share_image,
    shared_arrays,
)
from models.registry import SHIPPED

# Seconds that a child gets to end a window after it was told to stop.
_GRACE_S = 10.0

# What the child may know of its owner's environment: nothing that could hold a secret.
_ENVIRONMENT = frozenset({"PATH", "HOME", "TMPDIR", "TZ", "LANG", "LANGUAGE", "VIRTUAL_ENV"})
_ENVIRONMENT |= {"LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONHASHSEED", "PYTHONDONTWRITEBYTECODE"}
_ENVIRONMENT_PREFIXES = ("LC_", "CUDA_", "NVIDIA_", "OMP_", "MKL_", "KMP_", "MALLOC_", "PYTORCH_")


class PredictorFault(RuntimeError):
    """An unexpected error in the child: a bug; its traceback is the message."""


class _NotTaken(Exception):
    """The child ended before it took the question: not the question's doing."""


class PredictorProcess:
    """One child that predicts; started by the first call, and again when it died.

    Calls from several threads wait for their turn.

    Parameters
    ----------
    folders : sequence of Path
        Folders of bundles, as for :class:`models.registry.Registry`.
    device : str
        'auto', 'cpu', 'cuda:0' ...
    threads : int or None
        CPU threads for torch; None for as many as torch chooses.
    timeout_s : float
        Longest time for one call, starting and loading included.
    keep : int
        How many models stay in memory; the one that was used longest ago goes first.
    log : Path or None
        File that what the child prints is added to; None drops it.
    choices : Path or None
        Folder where children keep how networks are run best; None: each finds it out.
    """

    def __init__(
        self,
        folders: Sequence[Path] = (SHIPPED,),
        *,
        device: str = "auto",
        threads: int | None = None,
        timeout_s: float = 600.0,
        keep: int = 2,
        log: Path | None = None,
        choices: Path | None = None,
    ) -> None:
        self._folders = tuple(folder.resolve() for folder in folders)
        self._device = device
        self._threads = threads
        self._timeout_s = timeout_s
        self._keep = keep
        self._log = log
        self._choices = choices.resolve() if choices is not None else None
        self._turn = threading.Lock()
        self._child: _Child | None = None
        self._calls = 0
        self._waiting = 0
        self._waiting_lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """How many calls wait for their turn."""
        return self._waiting

    @property
    def pid(self) -> int | None:
        """Process id of the child; None when there is none."""
        child = self._child
        return child.process.pid if child is not None and child.process.poll() is None else None

    def __enter__(self) -> PredictorProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the child when there is none, so that the first study does not wait for torch.

        A call that is under way has seen to it; this one waits for nobody.
        """
        if self._turn.acquire(blocking=False):
            try:
                self._running()
            finally:
                self._turn.release()

    def stop(self) -> None:
        """End the child; a call that is under way raises PredictorDied."""
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        if self._turn.acquire(blocking=False):  # else the call that is under way closes it
            child.link.close()
            self._turn.release()

    def predict(
        self,
        bundle: str,
        voxels_kji: NDArray[np.generic],
        affine_lps: NDArray[np.float64],
        *,
        progress: Progress | None = None,
        canceled: Canceled | None = None,
        timeout_s: float | None = None,
    ) -> Prediction:
        """Return the labels of one volume, made in the child.

        Parameters
        ----------
        bundle : str
            NAME@VERSION, or NAME for the newest version.
        voxels_kji : ndarray, shape (slices, rows, columns)
            Image in the modality's unit.
        affine_lps : ndarray, float64, shape (4, 4)
            From index (k, j, i, 1) to LPS, mm.
        progress, canceled : callable or None
            As for :meth:`models.predictor.Predictor.predict`; called in this thread. `canceled` is
            asked ten times a second, also while the call waits for its turn.
        timeout_s : float or None
            Longest time from this call's turn to its answer; None is the process's own.

        Raises
        ------
        PredictorDied, PredictorTimeout
            When the child ended, or did not answer in time and was killed.
        Canceled
            When `canceled` said so.
        PredictorFault
            When the child met an unexpected error.
        RadloopError
            What the registry and :meth:`models.predictor.Predictor.predict` raise.
        """
        image = Image(voxels_kji, affine_lps)
        return self.predict_images(
            bundle, {"": image}, progress=progress, canceled=canceled, timeout_s=timeout_s
        )

    def predict_images(
        self,
        bundle: str,
        images: Mapping[str, Image],
        *,
        progress: Progress | None = None,
        canceled: Canceled | None = None,
        timeout_s: float | None = None,
    ) -> Prediction:
        """Return the answer for the images that a bundle needs, made in the child.

        Parameters
        ----------
        images : Mapping of str to Image
            By the names of the bundle's inputs.
        bundle, progress, canceled, timeout_s
            As for :meth:`predict`, which also says what is raised.
        """
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        with self._own_turn(canceled):
            deadline = time.monotonic() + limit_s

            def ask() -> Prediction:
                self._calls += 1
                child = self._running()
                exchange = _Exchange(child, self._calls, deadline, progress, canceled)
                try:
                    return exchange.run(bundle, images)
                finally:
                    if not exchange.answered:  # dead, late, or left in mid-call by an error here
                        self._drop(child)

            try:
                return ask()
            except _NotTaken:  # it was dying before; the kernel says so late
                pass
            try:
                return ask()
            except _NotTaken as ended:
                raise PredictorDied(f"the model's process does not start: {ended}") from None

    @contextmanager
    def _own_turn(self, canceled: Canceled | None) -> Iterator[None]:
        with self._in_line():
            while not self._turn.acquire(timeout=PULSE_S):
                if canceled is not None and canceled():
                    raise errors.Canceled
        try:
            yield
        finally:
            self._turn.release()

    @contextmanager
    def _in_line(self) -> Iterator[None]:
        with self._waiting_lock:
            self._waiting += 1
        try:
            yield
        finally:
            with self._waiting_lock:
                self._waiting -= 1

    def _drop(self, child: _Child) -> None:
        """End a child that cannot be asked again."""
        child.kill()
        child.link.close()
        if self._child is child:
            self._child = None

    def _running(self) -> _Child:
        """Return a living child: the one there is, or a new one."""
        if self._child is not None and self._child.process.poll() is not None:
            self._drop(self._child)
        if self._child is None:
            self._child = _Child.start(
                self._folders, self._device, self._threads, self._keep, self._log, self._choices
            )
        return self._child


@dataclass(frozen=True, slots=True)
class _Child:
    """The running child and the owner's end of the link."""

    process: subprocess.Popen[bytes]
    link: socket.socket

    @classmethod
    def start(
        cls,
        folders: Sequence[Path],
        device: str,
        threads: int | None,
        keep: int,
        log: Path | None,
        choices: Path | None,
    ) -> _Child:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # -P: a folder named like one of our packages where radloop was started stays out.
        command = [sys.executable, "-P", "-m", "models.process", f"--link={theirs.fileno()}"]
        command += [f"--device={device}", f"--keep={keep}", f"--owner={os.getpid()}"]
        if threads is not None:
            command.append(f"--threads={threads}")
        if choices is not None:
            command.append(f"--choices={choices}")
        with theirs, open(log or os.devnull, "ab") as output:  # noqa: PTH123  # may be no Path
            process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
                [*command, *(str(folder) for folder in folders)],
                env=_environment(threads),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(theirs.fileno(),),
            )
        return cls(process, ours)

    def kill(self) -> None:
        """End the process: it holds nothing that would need care."""
        self.process.kill()
        self.process.wait()

    def why(self) -> str:
        """Return how the child ended, in words."""
        try:
            code = self.process.wait(timeout=_GRACE_S)
        except subprocess.TimeoutExpired:
            return "it closed its link"
        if code >= 0:
            return f"exit code {code}"
        return f"killed by {signal.Signals(-code).name}"


class _Exchange:
    """One question to the child, up to its answer."""

    def __init__(
        self,
        child: _Child,
        call: int,
        deadline: float,
        progress: Progress | None,
        canceled: Canceled | None,
    ) -> None:
        self.answered = False
        self._taken = False
        self._child = child
        self._call = call
        self._deadline = deadline
        self._progress = progress
        self._canceled = canceled

    def run(self, bundle: str, images: Mapping[str, Image]) -> Prediction:
        shared = [share_image(name, image) for name, image in images.items()]
        descriptors = [descriptor for _, descriptor in shared]
        try:
            self._tell(Ask(self._call, bundle, [head for head, _ in shared]), descriptors)
        finally:
            close_all(descriptors)
        return self._answer()

    def _tell(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        try:
            send(self._child.link, message, descriptors)
        except ConnectionError:
            raise self._died() from None

    def _answer(self) -> Prediction:
        while True:
            message, descriptors = self._next()
            try:
                match message:
                    case Took(call=self._call):
                        self._taken = True
                    case Share(call=self._call, share=share):
                        if self._progress is not None:
                            self._progress(share)
                    case Failed(call=self._call, code=code, message=text):
                        self.answered = True
                        raise error_of(code, text)
                    case Done(call=self._call):
                        prediction = _prediction(message, descriptors[0])
                        self.answered = True
                        return prediction
                    case Broke(traceback=text):
                        raise PredictorFault(text)
                    case _:  # a word of a call that is over
                        continue
            finally:
                close_all(descriptors)

    def _next(self) -> tuple[Message, list[int]]:
        """Return the child's next message, and look at the clock and at `canceled` meanwhile."""
        while True:
            left_s = self._deadline - time.monotonic()
            if left_s <= 0:
                raise PredictorTimeout("the prediction did not end in its time and was stopped")
            if self._canceled is not None and self._canceled():
                self._cancel()
            if readable(self._child.link, min(left_s, PULSE_S)):
                message, descriptors = receive(self._child.link)
                if message is None:
                    raise self._died()
                return message, descriptors

    def _cancel(self) -> None:
        """Tell the child to stop; its answer is the error, or it is killed after the grace."""
        self._canceled = None
        self._tell(Stop(self._call))
        self._deadline = min(self._deadline, time.monotonic() + _GRACE_S)
        with suppress(PredictorTimeout, PredictorDied, _NotTaken):
            self._answer()
        raise errors.Canceled

    def _died(self) -> Exception:
        why = self._child.why()
        if not self._taken:
            return _NotTaken(why)
        return PredictorDied(f"the model's process ended in mid-call: {why}")


def _prediction(done: Done, descriptor: int) -> Prediction:
    """Return the prediction; its arrays stay in the memory that the child filled and let go."""
    return Prediction(
        answer=from_arrays(shared_arrays(done.parts, descriptor)),
        forward_s=done.forward_s,
        total_s=done.total_s,
        device=done.device,
        bundle_sha256=done.bundle_sha256,
        run_by=done.run_by,
        choosing_s=done.choosing_s,
        confidence=confidence_of(done.confidence),
    )


def _environment(threads: int | None) -> dict[str, str]:
    """Return the child's environment."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _ENVIRONMENT or name.startswith(_ENVIRONMENT_PREFIXES)
    }
    kept["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
    kept["PYTHONUNBUFFERED"] = "1"
    # Threads that wait sleep instead of spinning: on two shared cores a forward pass of mr_brain
    # takes 0.9 s so, and 2.0 s otherwise.
    kept.setdefault("OMP_WAIT_POLICY", "passive")
    if threads is not None:
        kept["OMP_NUM_THREADS"] = str(threads)
    return kept
