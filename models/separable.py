"""Resampling axis by axis, for the grids that most bundles resample between.

MONAI resamples through a dense grid of coordinates: three numbers for every voxel that is made.
Between two grids whose axes are parallel, which is what Spacingd and its way back are, each axis
can be interpolated by itself, with the same result up to rounding. :func:`quick_resampling` lets
MONAI's own transforms do so; where axes turn, and for other modes, MONAI's way stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from monai.networks.layers.spatial_transforms import AffineTransform
from monai.transforms.spatial import functional
from monai.utils.misc import ensure_tuple

_SLICES = 2  # where slices are, among the axes as they lie in memory
_PARALLEL = 1e-6
"""Off-diagonal terms below this move no voxel of a thousand by more than a thousandth of one."""


@contextmanager
def quick_resampling() -> Iterator[None]:
    """Let MONAI's spatial transforms resample axis by axis where they can."""
    before = functional.AffineTransform  # type: ignore[attr-defined]  # MONAI exports nothing
    functional.AffineTransform = SeparableAffine  # type: ignore[attr-defined]  # likewise
    try:
        yield
    finally:
        functional.AffineTransform = before  # type: ignore[attr-defined]  # likewise


class SeparableAffine(AffineTransform):
    """MONAI's AffineTransform, quick where source and target axes are parallel."""

    def forward(
        self,
        src: torch.Tensor,
        theta: torch.Tensor,
        spatial_size: Sequence[int] | int | None = None,
    ) -> torch.Tensor:
        """Return `src`, shape (b, c, ...), resampled by `theta`, which maps target to source."""
        size = () if spatial_size is None else tuple(int(n) for n in ensure_tuple(spatial_size))
        if not self._is_simple(src, theta, size):
            resampled: torch.Tensor = super().forward(src, theta, spatial_size)
            return resampled
        rank = len(size)
        scale = torch.diagonal(theta)[:rank].double().tolist()
        shift = theta[:rank, -1].double().tolist()
        # In memory slices come first, as in the volumes of this house, then rows, then columns:
        # along slices whole planes are copied. So what shrinks does so from the slices on, what
        # grows ends with them.
        turned = [0, 1, *range(rank + 1, 1, -1)]
        made = src.permute(turned).contiguous()
        shrinking = [n for n in reversed(range(rank)) if size[n] <= src.shape[n + 2]]
        growing = [n for n in range(rank) if n not in shrinking]
        for axis in (*shrinking, *growing):
            at = torch.arange(size[axis], dtype=torch.float64) * scale[axis] + shift[axis]
            made = self._along(made, rank + 1 - axis, at.to(src.device))
        return made.permute(turned)

    def _is_simple(self, src: torch.Tensor, theta: torch.Tensor, size: tuple[int, ...]) -> bool:
        rank = len(size)
        if theta.dim() != 2 or src.dim() != rank + 2 or theta.shape != (rank + 1, rank + 1):
            return False
        if self.normalized or self.zero_centered or not self.reverse_indexing:
            return False
        if self.mode not in ("bilinear", "nearest") or self.padding_mode not in ("zeros", "border"):
            return False
        turn = theta[:rank, :rank] - torch.diag(torch.diagonal(theta[:rank, :rank]))
        return bool((turn.abs() < _PARALLEL).all())

    def _along(self, src: torch.Tensor, axis: int, at: torch.Tensor) -> torch.Tensor:
        """Return `src` with the values at places `at`, in voxels, along one axis."""
        last = src.shape[axis] - 1
        if self.padding_mode == "border":
            at = at.clamp(0, last)
        shape = [1] * src.dim()
        shape[axis] = len(at)
        if self.mode == "nearest":
            nearest = at.float().round()
            inside = ((nearest >= 0) & (nearest <= last)).to(src.dtype).reshape(shape)
            taken = src.index_select(axis, nearest.clamp(0, last).long())
            return taken if bool(inside.all()) else taken * inside
        below = at.floor()
        part = at - below
        low, high = below.clamp(0, last).long(), (below + 1).clamp(0, last).long()
        of_low = (1 - part) * ((below >= 0) & (below <= last))
        of_high = part * ((below >= -1) & (below < last))
        if axis == _SLICES:
            return _by_slices(src, low, high, of_low, of_high)
        made = src.index_select(axis, low).mul_(of_low.to(src.dtype).reshape(shape))
        return made.addcmul_(src.index_select(axis, high), of_high.to(src.dtype).reshape(shape))


def _by_slices(
    src: torch.Tensor,
    low: torch.Tensor,
    high: torch.Tensor,
    of_low: torch.Tensor,
    of_high: torch.Tensor,
) -> torch.Tensor:
    """Return each slice as a sum of two; slice by slice they stay in the processor's cache."""
    made = src.new_empty((*src.shape[:_SLICES], len(low), *src.shape[_SLICES + 1 :]))
    taken = zip(low.tolist(), high.tolist(), of_low.tolist(), of_high.tolist(), strict=True)
    for n, (a, b, share_a, share_b) in enumerate(taken):
        into = made[:, :, n]
        torch.mul(src[:, :, a], share_a, out=into)
        if share_b:
            into.add_(src[:, :, b], alpha=share_b)
    return made
