"""What the predictor's owner and its child say to each other, and the memory that they share.

Each message is one packet of JSON over a Unix socket that keeps packets apart: one of the classes
below. Voxels and answers lie in anonymous shared memory (memfd) that travels with the packet.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import select
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypeAlias, TypedDict

import numpy as np
from numpy.typing import DTypeLike, NDArray

from models.prediction import Image, SegmentConfidence

# Seconds between two looks at `canceled`, and between two words of progress.
PULSE_S = 0.1
# A packet must fit the socket's buffer; texts are cut to an eighth of it: JSON makes them longer.
PACKET_BYTES = 64 * 1024
_MOST_DESCRIPTORS = 64
_ALIGNED = 64


class Head(TypedDict):
    """An image without its voxels."""

    name: str
    shape: list[int]
    dtype: str
    affine_lps: list[list[float]]
    frame_of_reference_uid: str


class Part(TypedDict):
    """One array in a piece of shared memory."""

    name: str
    shape: list[int]
    dtype: str
    offset: int


@dataclass(frozen=True, slots=True)
class Ask:
    """Owner to child: predict. Comes with one descriptor an image: its voxels.

    A single image without a name is the bundle's only input.
    """

    call: int
    bundle: str
    images: list[Head]


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
    """Child to owner: the answer's arrays, in the memory that comes with it."""

    call: int
    forward_s: float
    total_s: float
    device: str
    bundle_sha256: str
    run_by: str
    choosing_s: float
    confidence: list[tuple[int, float, float | None]] | None
    parts: list[Part]


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


def told_of(
    confidence: Sequence[SegmentConfidence] | None,
) -> list[tuple[int, float, float | None]] | None:
    """Return how sure the network was, as numbers for a packet."""
    if confidence is None:
        return None
    return [
        (each.number, round(each.probability, 6), _rounded(each.border_entropy))
        for each in confidence
    ]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def confidence_of(
    told: Sequence[tuple[int, float, float | None]] | None,
) -> tuple[SegmentConfidence, ...] | None:
    """Return what :func:`told_of` made numbers of."""
    return None if told is None else tuple(SegmentConfidence(*each) for each in told)


def send(link: socket.socket, message: Message, descriptors: Sequence[int] = ()) -> None:
    """Send a message, with descriptors of shared memory."""
    packet = json.dumps({"kind": type(message).__name__, **asdict(message)}).encode()
    socket.send_fds(link, [packet], list(descriptors))


def receive(link: socket.socket) -> tuple[Message | None, list[int]]:
    """Return the next message and its descriptors; None when the other side is gone."""
    try:
        packet, descriptors, _, _ = socket.recv_fds(link, PACKET_BYTES, _MOST_DESCRIPTORS)
    except ConnectionError:
        return None, []
    if not packet:
        return None, []
    fields = json.loads(packet)
    return _KINDS[fields.pop("kind")](**fields), descriptors


def readable(link: socket.socket, within_s: float) -> bool:
    """Return whether a message, or the other side's end, can be received within that time."""
    poll = select.poll()  # not select(): a busy worker has descriptors beyond 1023
    poll.register(link, select.POLLIN)
    return bool(poll.poll(math.ceil(within_s * 1000)))


def close_all(descriptors: Sequence[int]) -> None:
    """Close descriptors; what is mapped of them stays."""
    for descriptor in descriptors:
        os.close(descriptor)


# --- shared memory ------------------------------------------------------------------------------


def share_image(name: str, image: Image) -> tuple[Head, int]:
    """Return an image's head, and a descriptor of new memory with a copy of its voxels."""
    voxels = image.voxels
    descriptor = _room(voxels.nbytes)
    _fill(descriptor, voxels, 0)
    head = Head(
        name=name,
        shape=list(voxels.shape),
        dtype=voxels.dtype.str,
        affine_lps=image.affine_lps.tolist(),
        frame_of_reference_uid=image.frame_of_reference_uid,
    )
    return head, descriptor


def shared_image(head: Head, descriptor: int) -> Image:
    """Return the image of a head, its voxels in the shared memory."""
    voxels = _array(descriptor, head["shape"], head["dtype"], 0)
    return Image(voxels, np.array(head["affine_lps"]), head["frame_of_reference_uid"])


def share_arrays(arrays: Mapping[str, NDArray[np.generic]]) -> tuple[list[Part], int]:
    """Return where each array lies in new memory, and its descriptor."""
    parts: list[Part] = []
    end = 0
    for name, array in arrays.items():
        parts.append(Part(name=name, shape=list(array.shape), dtype=array.dtype.str, offset=end))
        end += math.ceil(array.nbytes / _ALIGNED) * _ALIGNED
    descriptor = _room(end)
    for part, array in zip(parts, arrays.values(), strict=True):
        _fill(descriptor, array, part["offset"])
    return parts, descriptor


def shared_arrays(parts: Sequence[Part], descriptor: int) -> dict[str, NDArray[np.generic]]:
    """Return the arrays that lie in shared memory."""
    return {
        part["name"]: _array(descriptor, part["shape"], part["dtype"], part["offset"])
        for part in parts
    }


def _room(size: int) -> int:
    """Return a descriptor of new anonymous memory of that many bytes."""
    descriptor = os.memfd_create("radloop-volume")
    os.ftruncate(descriptor, size)
    return descriptor


def _fill(descriptor: int, array: NDArray[np.generic], offset: int) -> None:
    """Write an array into shared memory: half the time of mapping it, page by page, and copying."""
    rest = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    while rest.nbytes:
        written = os.pwrite(descriptor, rest, offset)  # a system call takes 2 GB at most
        rest, offset = rest[written:], offset + written


def _array(
    descriptor: int, shape: Sequence[int], dtype: DTypeLike, offset: int
) -> NDArray[np.generic]:
    """Return shared memory as an array; it lives as long as the array, the descriptor may close."""
    count = int(np.prod(shape))
    if count == 0:
        return np.empty(shape, dtype)
    memory = mmap.mmap(descriptor, offset + count * np.dtype(dtype).itemsize)
    return np.frombuffer(memory, dtype=dtype, count=count, offset=offset).reshape(shape)
