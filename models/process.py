"""The child process that runs models, and its owner's side.

A GPU error, a segmentation fault or the kernel's out-of-memory killer must end neither the worker
nor the front, and an idle worker must not carry torch. So models run in a child, started afresh as
``python -m models.process`` (never forked), which keeps the last few of them warm.

The two talk over one Unix socket that keeps packets apart: each message is one packet of JSON, one
of the classes below. Voxels and labels lie in anonymous shared memory (memfd) that travels with the
question: nothing touches the disk, and nothing is left behind by a child that was killed. What
MONAI prints goes to the child's own output and cannot disturb the talk.

=======================================  =======================================================
What happens                             What the caller gets
=======================================  =======================================================
the child says a coded error             that error; the child goes on
the child meets an unexpected error      :class:`PredictorFault` with its traceback; a new child
                                         is started by the next call, since a GPU error sticks
the child dies over a question           :class:`dicom.errors.PredictorDied`; likewise
the child died before it took a question nothing: a new child is asked, once
no answer in time                        :class:`dicom.errors.PredictorTimeout`; it is killed
the owner dies                           the child ends by itself
=======================================  =======================================================
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import json
import math
import mmap
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from dicom import errors
from dicom.errors import (
    OutOfMemory,
    PredictorDied,
    PredictorTimeout,
    RadloopError,
    error_of,
)
from models.prediction import Canceled, Labels, Prediction, Progress, check_volume
from models.registry import SHIPPED, Registry

if TYPE_CHECKING:  # torch stays out of the owner
    from models.predictor import Predictor

# Seconds between two looks at `canceled`, and between two words of progress.
_PULSE_S = 0.1
# Seconds that a child gets to end a window after it was told to stop.
_GRACE_S = 10.0
# A packet must fit the socket's buffer; texts are cut to an eighth of it: JSON makes them longer.
_PACKET_BYTES = 64 * 1024

# What the child may know of its owner's environment: nothing that could hold a secret.
_ENVIRONMENT = frozenset({"PATH", "HOME", "TMPDIR", "TZ", "LANG", "LANGUAGE", "VIRTUAL_ENV"})
_ENVIRONMENT |= {"LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONHASHSEED", "PYTHONDONTWRITEBYTECODE"}
_ENVIRONMENT_PREFIXES = ("LC_", "CUDA_", "NVIDIA_", "OMP_", "MKL_", "KMP_", "MALLOC_", "PYTORCH_")


class PredictorFault(RuntimeError):
    """An unexpected error in the child: a bug; its traceback is the message."""


class _NotTaken(Exception):
    """The child ended before it took the question: not the question's doing."""


# --- messages -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ask:
    """Owner to child: predict. Comes with two descriptors: the voxels, and room for the labels."""

    call: int
    bundle: str
    shape: list[int]
    dtype: str
    affine_lps: list[list[float]]


@dataclass(frozen=True, slots=True)
class Stop:
    """Owner to child: end this call before its next window."""

    call: int


@dataclass(frozen=True, slots=True)
class Took:
    """Child to owner: this question is in work; what ends the child from here is its doing."""

    call: int


@dataclass(frozen=True, slots=True)
class Share:
    """Child to owner: so much of the network's windows is done, 0 to 1."""

    call: int
    share: float


@dataclass(frozen=True, slots=True)
class Done:
    """Child to owner: the labels lie in the room that came with the question."""

    call: int
    forward_s: float
    total_s: float
    device: str
    bundle_sha256: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Child to owner: a coded error."""

    call: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Broke:
    """Child to owner: an unexpected error; the child ends after it."""

    traceback: str


Message: TypeAlias = Ask | Stop | Took | Share | Done | Failed | Broke
_KINDS: dict[str, type[Message]] = {
    kind.__name__: kind for kind in (Ask, Stop, Took, Share, Done, Failed, Broke)
}


def _send(link: socket.socket, message: Message, descriptors: Sequence[int] = ()) -> None:
    packet = json.dumps({"kind": type(message).__name__, **asdict(message)}).encode()
    socket.send_fds(link, [packet], list(descriptors))


def _receive(link: socket.socket) -> tuple[Message | None, list[int]]:
    """Return the next message and its descriptors; None when the other side is gone."""
    try:
        packet, descriptors, _, _ = socket.recv_fds(link, _PACKET_BYTES, 2)
    except ConnectionError:
        return None, []
    if not packet:
        return None, []
    fields = json.loads(packet)
    return _KINDS[fields.pop("kind")](**fields), descriptors


def _readable(link: socket.socket, within_s: float) -> bool:
    """Return whether a message, or the other side's end, can be received within that time."""
    poll = select.poll()  # not select(): a busy worker has descriptors beyond 1023
    poll.register(link, select.POLLIN)
    return bool(poll.poll(math.ceil(within_s * 1000)))


def _room(size: int) -> int:
    """Return a descriptor of new anonymous memory of that many bytes."""
    descriptor = os.memfd_create("radloop-volume")
    os.ftruncate(descriptor, size)
    return descriptor


def _array(descriptor: int, shape: Sequence[int], dtype: DTypeLike) -> NDArray[np.generic]:
    """Return shared memory as an array; it lives as long as the array, the descriptor may close."""
    count = int(np.prod(shape))
    memory = mmap.mmap(descriptor, count * np.dtype(dtype).itemsize)
    return np.frombuffer(memory, dtype=dtype, count=count).reshape(shape)


# --- the owner's side ---------------------------------------------------------------------------


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
    ) -> None:
        self._folders = tuple(folder.resolve() for folder in folders)
        self._device = device
        self._threads = threads
        self._timeout_s = timeout_s
        self._keep = keep
        self._log = log
        self._turn = threading.Lock()
        self._child: _Child | None = None
        self._calls = 0

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
        """Start the child when there is none, so that the first study does not wait for torch."""
        with self._turn:
            self._running()

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
        affine_lps = np.asarray(affine_lps, dtype=np.float64)
        check_volume(voxels_kji, affine_lps)
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        with self._own_turn(canceled):
            deadline = time.monotonic() + limit_s

            def ask() -> Prediction:
                self._calls += 1
                child = self._running()
                exchange = _Exchange(child, self._calls, deadline, progress, canceled)
                try:
                    return exchange.run(bundle, voxels_kji, affine_lps)
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
        while not self._turn.acquire(timeout=_PULSE_S):
            if canceled is not None and canceled():
                raise errors.Canceled
        try:
            yield
        finally:
            self._turn.release()

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
                self._folders, self._device, self._threads, self._keep, self._log
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
    ) -> _Child:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # -P: a folder named like one of our packages where radloop was started stays out.
        command = [sys.executable, "-P", "-m", "models.process", f"--link={theirs.fileno()}"]
        command += [f"--device={device}", f"--keep={keep}", f"--owner={os.getpid()}"]
        if threads is not None:
            command.append(f"--threads={threads}")
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

    def run(
        self, bundle: str, voxels_kji: NDArray[np.generic], affine_lps: NDArray[np.float64]
    ) -> Prediction:
        shape = list(voxels_kji.shape)
        room_in, room_out = _room(voxels_kji.nbytes), _room(voxels_kji.size)
        try:
            np.copyto(_array(room_in, shape, voxels_kji.dtype), voxels_kji)
            labels_kji = _array(room_out, shape, np.uint8)
            ask = Ask(self._call, bundle, shape, voxels_kji.dtype.str, affine_lps.tolist())
            self._tell(ask, (room_in, room_out))
        finally:
            os.close(room_in)
            os.close(room_out)
        done = self._answer()
        return Prediction(
            # our own: the child holds the shared one
            answer=Labels(labels_kji.astype(np.uint8)),
            forward_s=done.forward_s,
            total_s=done.total_s,
            device=done.device,
            bundle_sha256=done.bundle_sha256,
        )

    def _tell(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        try:
            _send(self._child.link, message, descriptors)
        except ConnectionError:
            raise self._died() from None

    def _answer(self) -> Done:
        while True:
            message = self._next()
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
                    self.answered = True
                    return message
                case Broke(traceback=text):
                    raise PredictorFault(text)
                case _:  # a word of a call that is over
                    continue

    def _next(self) -> Message:
        """Return the child's next message, and look at the clock and at `canceled` meanwhile."""
        while True:
            left_s = self._deadline - time.monotonic()
            if left_s <= 0:
                raise PredictorTimeout("the prediction did not end in its time and was stopped")
            if self._canceled is not None and self._canceled():
                self._cancel()
            if _readable(self._child.link, min(left_s, _PULSE_S)):
                message, _ = _receive(self._child.link)
                if message is None:
                    raise self._died()
                return message

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


def _environment(threads: int | None) -> dict[str, str]:
    """Return the child's environment."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _ENVIRONMENT or name.startswith(_ENVIRONMENT_PREFIXES)
    }
    kept["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
    kept["PYTHONUNBUFFERED"] = "1"
    # Threads that wait sleep instead of spinning: on two shared cores a forward pass of mr_brain
    # takes 0.9 s so, and 2.0 s otherwise.
    kept.setdefault("OMP_WAIT_POLICY", "passive")
    if threads is not None:
        kept["OMP_NUM_THREADS"] = str(threads)
    return kept


# --- the child's side ---------------------------------------------------------------------------


class _Server:
    """The child: answers questions until its owner is gone."""

    def __init__(
        self,
        link: socket.socket,
        folders: Sequence[Path],
        device: str,
        threads: int | None,
        keep: int,
    ) -> None:
        self._link = link
        self._folders = folders
        self._device = device
        self._threads = threads
        self._keep = keep
        self._warm: OrderedDict[str, Predictor] = OrderedDict()
        self._told_at = 0.0

    def serve(self) -> None:
        """Answer until the owner closes the link."""
        import models.predictor  # noqa: F401  # torch is loaded while the owner prepares

        while True:
            message, descriptors = _receive(self._link)
            if message is None:
                return
            if isinstance(message, Ask):
                _send(self._link, Took(message.call))
                _send(self._link, self._answer(message, *descriptors))

    def _answer(self, ask: Ask, room_in: int, room_out: int) -> Message:
        voxels_kji = _array(room_in, ask.shape, ask.dtype)
        labels_kji = _array(room_out, ask.shape, np.uint8)
        os.close(room_in)
        os.close(room_out)
        try:
            prediction = self._predictor(ask.bundle).predict(
                voxels_kji,
                np.array(ask.affine_lps),
                progress=lambda share: self._tell_share(ask.call, share),
                canceled=lambda: self._told_to_stop(ask.call),
            )
        except RadloopError as error:
            if isinstance(error, OutOfMemory):
                self._warm.clear()
                gc.collect()
            return Failed(ask.call, error.code, error.message[: _PACKET_BYTES // 8])
        np.copyto(labels_kji, prediction.labels_kji)
        return Done(
            ask.call,
            prediction.forward_s,
            prediction.total_s,
            prediction.device,
            prediction.bundle_sha256,
        )

    def _predictor(self, name: str) -> Predictor:
        """Return the predictor, warm when it can be.

        A bundle that changes on disk under the same version stays as it was loaded; the result
        carries the hash of what ran.
        """
        from models.predictor import Predictor

        if name not in self._warm:
            bundle = Registry(self._folders).get(name)
            name = bundle.identity
            if name not in self._warm:
                while len(self._warm) >= self._keep:
                    self._warm.popitem(last=False)
                self._warm[name] = Predictor(bundle, device=self._device, threads=self._threads)
        self._warm.move_to_end(name)
        return self._warm[name]

    def _tell_share(self, call: int, share: float) -> None:
        now = time.monotonic()
        if share >= 1.0 or now - self._told_at >= _PULSE_S:
            self._told_at = now
            _send(self._link, Share(call, share))

    def _told_to_stop(self, call: int) -> bool:
        while _readable(self._link, 0.0):
            message, _ = _receive(self._link)
            if message is None:
                os._exit(0)
            if message == Stop(call):
                return True
        return False


def _end_with_owner(link: socket.socket, owner: int) -> None:
    """End this process as soon as its owner is gone, whatever the main thread is computing.

    PR_SET_PDEATHSIG is not used: it fires when the *thread* that started the child ends, and the
    owner's threads come and go. The link's hang-up says the same of the process; the parent's id is
    looked at too, in case another child of the owner holds a copy of the link.
    """
    poll = select.poll()
    poll.register(link, 0)  # hang-up and error are always reported
    while not poll.poll(1000) and os.getppid() == owner:
        pass
    os._exit(0)


def _be_killed_first() -> None:
    """Let the kernel, short of memory, choose this process, not the archive or the worker."""
    try:
        Path("/proc/self/oom_score_adj").write_text("500")
    except OSError:  # a container without /proc: the kernel's own choice stands
        return


def main() -> None:
    """Run the child; called by :class:`PredictorProcess` alone."""
    parser = argparse.ArgumentParser(prog="python -m models.process", description=main.__doc__)
    parser.add_argument("--link", type=int, required=True, help="descriptor of the socket")
    parser.add_argument("--owner", type=int, required=True, help="process id of the owner")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--keep", type=int, default=2)
    parser.add_argument("folders", type=Path, nargs="+")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is the owner's to handle
    faulthandler.enable()
    _be_killed_first()
    link = socket.socket(fileno=options.link)
    threading.Thread(target=_end_with_owner, args=(link, options.owner), daemon=True).start()

    def tell_and_end(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        text = "".join(traceback.format_exception(kind, error, trace))
        _send(link, Broke(text[-_PACKET_BYTES // 8 :]))
        sys.__excepthook__(kind, error, trace)

    sys.excepthook = tell_and_end
    _Server(link, options.folders, options.device, options.threads, options.keep).serve()


if __name__ == "__main__":
    main()
