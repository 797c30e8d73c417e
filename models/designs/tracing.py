"""What a design comes to for a patch: shapes, parameters, what each block sees, memory.

All of it is computed from the document, as PyTorch will have it; the tests compare with PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from dicom.errors import InvalidDesign
from models.designs.document import (
    GROUPS,
    IMAGE,
    Attention,
    Block,
    Convolutions,
    Deep,
    Design,
    Down,
    Head,
    Join,
    Up,
)

Shape = tuple[int, ...]
BYTES: Final = 4
"""Of a float32."""

_WEIGHT_BYTES: Final = 20  # weight, gradient, AdamW's two moments, the average
_INDEX_BYTES: Final = 8  # where each maximum was
_AT_WORK: Final = 3  # of the largest map: gradient in, gradient out, the layer's own


@dataclass(frozen=True, slots=True)
class Figures:
    """What one block comes to.

    Attributes
    ----------
    name, kind : str
    takes_from : tuple of str
    channels : int
        That come out.
    shape : tuple of int
        Of the map that comes out, along x, y (and z).
    level : int
        How often the map has been made coarser.
    parameters : int
    sees : tuple of int
        Voxels of the patch along each axis that a voxel of the map depends on, at most.
    kept_bytes : int
        Of maps that a training keeps for the way back, for the whole batch.
    says : str
        What it does, in words.
    """

    name: str
    kind: str
    takes_from: tuple[str, ...]
    channels: int
    shape: Shape
    level: int
    parameters: int
    sees: Shape
    kept_bytes: int
    says: str


@dataclass(frozen=True, slots=True)
class Traced:
    """What a design comes to.

    Attributes
    ----------
    blocks : tuple of Figures
        In the order in which they are computed.
    parameters : int
    sees : tuple of int
        As of a block, of the answer.
    step_bytes : int
        An estimate of what a step of a training takes, in float32.
    """

    blocks: tuple[Figures, ...]
    parameters: int
    sees: Shape
    step_bytes: int


@dataclass(slots=True)
class _Map:
    channels: int
    shape: Shape
    level: int
    reach: tuple[Reach, ...] = field(default_factory=tuple)

    @property
    def values(self) -> int:
        return self.channels * math.prod(self.shape)


@dataclass(frozen=True, slots=True, eq=False)
class Reach:
    """Along one axis: the first and last voxel of the patch that each position depends on.

    Attributes
    ----------
    first, last : ndarray, shape (positions,)
    """

    first: npt.NDArray[np.int64]
    last: npt.NDArray[np.int64]

    @classmethod
    def of_image(cls, side: int) -> Reach:
        """Return that of the patch itself."""
        return cls(np.arange(side), np.arange(side))

    def convolved(self, kernel: int) -> Reach:
        """Return it after a convolution that keeps the size."""
        at = np.arange(len(self.first))
        before = np.maximum(at - kernel // 2, 0)
        after = np.minimum(at + kernel // 2, len(at) - 1)
        return Reach(self.first[before], self.last[after])

    def every(self, stride: int) -> Reach:
        """Return it of every so many positions."""
        return Reach(self.first[::stride], self.last[::stride])

    def coarser(self, by: int) -> Reach:
        """Return it after pooling: one of so many positions."""
        whole = len(self.first) // by * by
        return Reach(self.first[:whole:by], self.last[by - 1 : whole : by])

    def transposed(self, kernel: int, stride: int) -> Reach:
        """Return it after a transposed convolution to exactly so many times the positions."""
        at = np.arange(len(self.first) * stride)[:, None]
        places = at + kernel // 2 - np.arange(kernel)[None]
        fits = (places % stride == 0) & (places >= 0) & (places // stride < len(self.first))
        known = np.clip(places // stride, 0, len(self.first) - 1)
        nothing = len(self.first) ** 2 * stride
        return Reach(
            np.where(fits, self.first[known], nothing).min(axis=1),
            np.where(fits, self.last[known], -nothing).max(axis=1),
        )

    def whole(self) -> Reach:
        """Return it of one position that depends on all of them."""
        return Reach(self.first.min(keepdims=True), self.last.max(keepdims=True))

    def finer(self, by: int, *, linear: bool) -> Reach:
        """Return it with each position made so many; interpolated between neighbours."""
        at = np.arange(len(self.first) * by)
        low = high = at // by
        if linear and by > 1:
            place = (at + 0.5) / by - 0.5
            low = np.clip(np.floor(place).astype(int), 0, len(self.first) - 1)
            high = np.clip(np.ceil(place).astype(int), 0, len(self.first) - 1)
        return Reach(self.first[low], self.last[high])

    def joined(self, other: Reach) -> Reach:
        """Return what depends on both."""
        return Reach(np.minimum(self.first, other.first), np.maximum(self.last, other.last))

    @property
    def widest(self) -> int:
        """Voxels that a position depends on, at most."""
        return int((self.last - self.first).max()) + 1


def trace(
    design: Design, *, in_channels: int, out_channels: int, patch: Shape, batch: int = 1
) -> Traced:
    """Return what a design comes to for a patch.

    Parameters
    ----------
    design : Design
    in_channels, out_channels : int
        Of the image; of the answer.
    patch : tuple of int
        Along x, y (and z).
    batch : int
        Patches in a step.

    Raises
    ------
    InvalidDesign
        When it does not fit together on such a patch; the message names the block.
    """
    channels = channels_of(design, in_channels=in_channels, out_channels=out_channels)
    work = _Tracing(design, channels, len(patch), batch)
    work.maps[IMAGE] = _Map(in_channels, patch, 0, tuple(Reach.of_image(side) for side in patch))
    found = tuple(work.figures(block) for block in design.in_order())
    answer = work.maps[design.head.name]
    if not design.head.whole and answer.shape != patch:
        raise InvalidDesign(
            f"block {design.head.name}: answers on {_sides(answer.shape)} voxels, but the patch "
            f"has {_sides(patch)}: the ups do not undo the downs"
        )
    parameters = sum(one.parameters for one in found)
    largest = max(one.values for one in work.maps.values())
    return Traced(
        blocks=found,
        parameters=parameters,
        sees=_widest(answer),
        step_bytes=step_bytes(found, parameters, largest * batch),
    )


def step_bytes(blocks: Iterable[Figures], parameters: int, largest: int) -> int:
    """Return an estimate of what a step of a training takes, in float32.

    Parameters
    ----------
    largest : int
        Values of the largest map, of the whole batch.
    """
    kept = sum(one.kept_bytes for one in blocks)
    return parameters * _WEIGHT_BYTES + kept + _AT_WORK * largest * BYTES


@dataclass(slots=True)
class _Tracing:
    design: Design
    channels: dict[str, int]
    dimensions: int
    batch: int
    maps: dict[str, _Map] = field(default_factory=dict)

    def figures(self, block: Block) -> Figures:
        given = [self.maps[name] for name in block.from_]
        made, parameters, kept, says = self._made(block, given)
        self.maps[block.name] = made
        if self._is_kept(block):
            kept += made.values * BYTES
        return Figures(
            name=block.name,
            kind=block.kind,
            takes_from=block.from_,
            channels=made.channels,
            shape=made.shape,
            level=made.level,
            parameters=parameters,
            sees=_widest(made),
            kept_bytes=kept * self.batch,
            says=says,
        )

    def _made(self, block: Block, given: list[_Map]) -> tuple[_Map, int, int, str]:
        """Return what comes out, how many parameters, bytes kept within, and what it does."""
        first = given[0]
        if isinstance(block, Convolutions):
            return self._convolutions(block, first)
        if isinstance(block, Down):
            return self._down(block, first)
        if isinstance(block, Up):
            return self._up(block, first)
        if isinstance(block, Join | Attention):
            self._same_size(block, given)
        if isinstance(block, Join):
            return self._join(block, given)
        if isinstance(block, Attention):
            return self._attention(block, given)
        whole = isinstance(block, Head) and block.whole
        shape = (1,) * self.dimensions if whole else first.shape
        reach = first.reach
        if whole:  # the mean over the map: all that any of its voxels sees
            reach = tuple(one.whole() for one in reach)
        answers = self.channels[block.name]
        made = _Map(answers, shape, first.level, reach)
        says = "one answer an image" if whole else "an answer a voxel"
        if isinstance(block, Deep):
            says = "a coarse answer, for training only"
        kept = first.channels * BYTES if whole else 0
        return made, (first.channels + 1) * answers, kept, says

    def _convolutions(self, block: Convolutions, given: _Map) -> tuple[_Map, int, int, str]:
        by = self._factors(block)
        is_coarser = math.prod(by) > 1
        if is_coarser:
            self._divisible(block, given, by)
        made = _Map(block.channels, _divided(given.shape, by), given.level + is_coarser)
        made.reach = tuple(
            one.convolved(block.kernel).every(factor)
            for one, factor in zip(given.reach, by, strict=True)
        )
        for _ in range(block.count - 1):
            made.reach = tuple(one.convolved(block.kernel) for one in made.reach)
        parameters, widths = 0, [given.channels, *[block.channels] * block.count]
        for before, after in pairwise(widths):
            parameters += self._unit_parameters(block, before, after, block.kernel)
        values = made.values
        kept = (block.count - 1) * values * self._kept_a_unit()
        kept += values * (self._kept_a_unit() - BYTES)  # its output is the block's
        words = f"{block.count} x convolution {block.kernel}"
        if is_coarser:
            words += f", the first of every {_sides(by)} voxels"
        if block.residual:
            words += ", residual"
            if given.channels != block.channels or is_coarser:
                parameters += self._unit_parameters(block, given.channels, block.channels, 1)
                kept += values * BYTES * (self.design.norm != "none")
        if block.dropout:
            words += f", dropout {block.dropout:g}"
        return made, parameters, kept, words

    def _kept_a_unit(self) -> int:
        """Return the bytes a value that autograd keeps of a convolution and what follows it."""
        kept = BYTES  # the output, which the next layer keeps
        if self.design.norm != "none":
            kept += BYTES  # the convolution's output, which the norm keeps
        if self.design.activation != "relu":
            kept += BYTES  # what the activation was given
        return kept

    def _unit_parameters(self, block: Block, before: int, after: int, kernel: int) -> int:
        weights: int = before * after * kernel**self.dimensions
        if self.design.norm == "none":
            return weights + after
        if self.design.norm == "group" and after % GROUPS:
            raise InvalidDesign(
                f"block {block.name}: {after} channels are no multiple of {GROUPS}, which the "
                "group norm needs"
            )
        return weights + 2 * after

    def _down(self, block: Down, given: _Map) -> tuple[_Map, int, int, str]:
        by = self._factors(block)
        self._divisible(block, given, by)
        made = _Map(
            given.channels,
            _divided(given.shape, by),
            given.level + 1,
            tuple(one.coarser(factor) for one, factor in zip(given.reach, by, strict=True)),
        )
        parameters, kept = 0, 0
        if block.how == "convolution":
            parameters = given.channels**2 * math.prod(by) + given.channels
        if block.how == "max":
            kept = made.values * _INDEX_BYTES
        words = {"max": "the largest of", "average": "the mean of", "convolution": "one learnt of"}
        return made, parameters, kept, f"{words[block.how]} {_sides(by)} voxels"

    def _divisible(self, block: Convolutions | Down, given: _Map, by: Shape) -> None:
        for side, factor in zip(given.shape, by, strict=True):
            if side % factor:
                raise InvalidDesign(
                    f"block {block.name}: {_sides(given.shape)} voxels cannot be divided by "
                    f"{_sides(by)}; another patch, or fewer downs before it"
                )
        if math.prod(given.shape) == math.prod(by) and self.design.norm == "instance":
            raise InvalidDesign(
                f"block {block.name}: one voxel would be left, of which there is no instance norm"
            )

    def _up(self, block: Up, given: _Map) -> tuple[_Map, int, int, str]:
        by = self._factors(block)
        linear = block.how == "linear"
        made = _Map(
            block.channels,
            tuple(side * factor for side, factor in zip(given.shape, by, strict=True)),
            max(0, given.level - 1),
            tuple(
                one.finer(factor, linear=linear)
                for one, factor in zip(given.reach, by, strict=True)
            ),
        )
        size = 1 if linear else math.prod(by)
        parameters = given.channels * block.channels * size + block.channels
        kept = given.channels * math.prod(made.shape) * BYTES if linear else 0
        words = "interpolated" if linear else "learnt"
        return made, parameters, kept, f"{_sides(by)} times finer, {words}"

    def _join(self, block: Join, given: list[_Map]) -> tuple[_Map, int, int, str]:
        made = _Map(self.channels[block.name], given[0].shape, given[0].level, _all_of(given))
        return made, 0, 0, "added" if block.how == "add" else "side by side"

    def _attention(self, block: Attention, given: list[_Map]) -> tuple[_Map, int, int, str]:
        first, second = given
        made = _Map(first.channels, first.shape, first.level, _all_of(given))
        parameters = (first.channels + second.channels + 2) * block.channels + block.channels + 1
        voxels = math.prod(first.shape)
        kept = (block.channels * (1 if self.design.activation == "relu" else 2) + 1) * voxels
        return made, parameters, kept * BYTES, f"{block.from_[0]} where {block.from_[1]} says so"

    def _same_size(self, block: Block, given: list[_Map]) -> None:
        for name, one in zip(block.from_, given, strict=True):
            if one.shape != given[0].shape:
                raise InvalidDesign(
                    f"block {block.name}: {block.from_[0]} has {_sides(given[0].shape)} voxels, "
                    f"{name} has {_sides(one.shape)}"
                )

    def _factors(self, block: Convolutions | Down | Up) -> Shape:
        by = (block.by,) * self.dimensions if isinstance(block.by, int) else block.by
        if len(by) != self.dimensions:
            raise InvalidDesign(
                f"block {block.name}: by has {len(by)} factors, the image {self.dimensions} axes"
            )
        return by

    def _is_kept(self, block: Block) -> bool:
        """Whether a layer that takes from the block keeps what it is given for the way back."""
        for one in self.design.block:
            adds = isinstance(one, Join) or (isinstance(one, Up) and one.how == "linear")
            whole = isinstance(one, Head) and one.whole
            if block.name in one.from_ and not adds and not whole:
                return True
        # A ReLU keeps its own output, whoever takes it.
        return isinstance(block, Convolutions) and self.design.activation == "relu"


def _divided(shape: Shape, by: Shape) -> Shape:
    return tuple(side // factor for side, factor in zip(shape, by, strict=True))


def channels_of(design: Design, *, in_channels: int, out_channels: int) -> dict[str, int]:
    """Return how many channels come out of each block, and of the image.

    Raises
    ------
    InvalidDesign
        When maps of other widths are added.
    """
    found = {IMAGE: in_channels}
    for block in design.in_order():
        given = [found[name] for name in block.from_]
        if isinstance(block, Convolutions | Up):
            found[block.name] = block.channels
        elif isinstance(block, Head | Deep):
            found[block.name] = out_channels
        elif isinstance(block, Join) and block.how == "concatenate":
            found[block.name] = sum(given)
        else:
            if isinstance(block, Join) and len(set(given)) > 1:
                raise InvalidDesign(
                    f"block {block.name}: {' and '.join(map(str, given))} channels cannot be added"
                )
            found[block.name] = given[0]
    return found


def _all_of(given: list[_Map]) -> tuple[Reach, ...]:
    reach = list(given[0].reach)
    for other in given[1:]:
        reach = [one.joined(two) for one, two in zip(reach, other.reach, strict=True)]
    return tuple(reach)


def _widest(one: _Map) -> Shape:
    return tuple(axis.widest for axis in one.reach)


def _sides(shape: Shape) -> str:
    return " x ".join(str(side) for side in shape)
