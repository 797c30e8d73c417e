"""The child: runs models for its owner, and keeps the last few of them warm."""

from __future__ import annotations

import argparse
import faulthandler
import gc
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from dicom.errors import OutOfMemory, RadloopError
from models.prediction import Image, Prediction, to_arrays
from models.process.messages import (
    PACKET_BYTES,
    PULSE_S,
    Ask,
    Broke,
    Done,
    Failed,
    Share,
    Stop,
    Took,
    close_all,
    readable,
    receive,
    send,
    share_arrays,
    shared_image,
    told_of,
)
from models.registry import Registry

if TYPE_CHECKING:  # torch is loaded once the owner knows the child
    from models.predictor import Predictor


class _Server:
    """The child: answers questions until its owner is gone."""

    def __init__(
        self,
        link: socket.socket,
        folders: Sequence[Path],
        device: str,
        threads: int | None,
        keep: int,
        choices: Path | None,
    ) -> None:
        self._link = link
        self._folders = folders
        self._device = device
        self._threads = threads
        self._keep = keep
        self._choices = choices
        self._warm: OrderedDict[str, Predictor] = OrderedDict()
        self._told_at = 0.0

    def serve(self) -> None:
        """Answer until the owner closes the link."""
        import models.predictor  # noqa: F401  # torch is loaded while the owner prepares

        while True:
            message, descriptors = receive(self._link)
            if message is None:
                return
            if isinstance(message, Ask):
                send(self._link, Took(message.call))
                self._answer(message, descriptors)

    def _answer(self, ask: Ask, descriptors: Sequence[int]) -> None:
        """Predict, and send the answer or the coded error."""
        try:
            prediction = self._predict(ask, descriptors)
        except RadloopError as error:
            if isinstance(error, OutOfMemory):
                self._warm.clear()
                gc.collect()
            send(self._link, Failed(ask.call, error.code, error.message[: PACKET_BYTES // 8]))
            return
        parts, descriptor = share_arrays(to_arrays(prediction.answer))
        done = Done(
            ask.call,
            prediction.forward_s,
            prediction.total_s,
            prediction.device,
            prediction.bundle_sha256,
            prediction.run_by[: PACKET_BYTES // 8],
            prediction.choosing_s,
            told_of(prediction.confidence),
            parts,
        )
        send(self._link, done, [descriptor])
        close_all([descriptor])

    def _predict(self, ask: Ask, descriptors: Sequence[int]) -> Prediction:
        try:
            images = {
                head["name"]: shared_image(head, descriptor)
                for head, descriptor in zip(ask.images, descriptors, strict=True)
            }
        finally:
            close_all(descriptors)
        predictor = self._predictor(ask.bundle)
        return predictor.predict_images(
            _named(images, predictor),
            progress=lambda share: self._tell_share(ask.call, share),
            canceled=lambda: self._told_to_stop(ask.call),
        )

    def _predictor(self, name: str) -> Predictor:
        """Return the predictor, warm when it can be.

        A bundle that changes on disk under the same version stays as it was loaded; the result
        carries the hash of what ran.
        """
        from models.predictor import open_predictor

        if name not in self._warm:
            registry = Registry(self._folders)
            bundle = registry.get(name)
            name = bundle.identity
            if name not in self._warm:
                made = open_predictor(
                    bundle,
                    lambda: registry,
                    device=self._device,
                    threads=self._threads,
                    at_hand=self._warm,
                    choices=self._choices,
                )
                while len(self._warm) >= self._keep:
                    self._warm.popitem(last=False)
                self._warm[name] = made
        self._warm.move_to_end(name)
        return self._warm[name]

    def _tell_share(self, call: int, share: float) -> None:
        now = time.monotonic()
        if share >= 1.0 or now - self._told_at >= PULSE_S:
            self._told_at = now
            send(self._link, Share(call, share))

    def _told_to_stop(self, call: int) -> bool:
        while readable(self._link, 0.0):
            message, _ = receive(self._link)
            if message is None:
                os._exit(0)
            if message == Stop(call):
                return True
        return False


def _named(images: dict[str, Image], predictor: Predictor) -> dict[str, Image]:
    """Return the images by name; one without a name is the only one that the bundle needs."""
    if set(images) == {""}:
        return {predictor.bundle.inputs[0].name: images[""]}
    return images


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
    """Run the child; called by :class:`models.process.PredictorProcess` alone."""
    parser = argparse.ArgumentParser(prog="python -m models.process", description=main.__doc__)
    parser.add_argument("--link", type=int, required=True, help="descriptor of the socket")
    parser.add_argument("--owner", type=int, required=True, help="process id of the owner")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--keep", type=int, default=2)
    parser.add_argument("--choices", type=Path)
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
        send(link, Broke(text[-PACKET_BYTES // 8 :]))
        sys.__excepthook__(kind, error, trace)

    sys.excepthook = tell_and_end
    server = _Server(
        link, options.folders, options.device, options.threads, options.keep, options.choices
    )
    server.serve()
