"""Norms that learn quickly say and learn what PyTorch's own do."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.learning.norms import with_quick_norms

LAST = {2: torch.channels_last, 3: torch.channels_last_3d}
KINDS: dict[int, type[nn.InstanceNorm2d | nn.InstanceNorm3d]] = {
    2: nn.InstanceNorm2d,
    3: nn.InstanceNorm3d,
}


def pair(dimensions: int, *, affine: bool) -> tuple[nn.Module, nn.Module]:
    """Return a norm as PyTorch has it, and the quick one, with equal weights."""
    torch.manual_seed(3)
    plain = nn.Sequential(KINDS[dimensions](4, affine=affine)).double()
    if affine:
        nn.init.normal_(plain[0].weight)
        nn.init.normal_(plain[0].bias)
    quick = nn.Sequential(KINDS[dimensions](4, affine=affine)).double()
    quick.load_state_dict(plain.state_dict())
    return plain, with_quick_norms(quick)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("layout", ["last", "first"])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_same_is_said_and_learnt(dimensions: int, layout: str, affine: bool) -> None:
    plain, quick = pair(dimensions, affine=affine)
    torch.manual_seed(4)
    given = torch.randn(3, 4, *(5, 6, 7)[:dimensions], dtype=torch.float64) * 3 + 2
    if layout == "last":
        given = given.to(memory_format=LAST[dimensions])
    weights = torch.randn_like(given)
    found = []
    for norm in (plain, quick):
        mine = given.clone().requires_grad_()
        answer = norm(mine)
        (answer * weights).sum().backward()
        found.append([answer, mine.grad, *(each.grad for each in norm.parameters())])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert list(quick.state_dict()) == list(plain.state_dict())


def test_maps_stay_as_convolutions_like_them() -> None:
    _, quick = pair(2, affine=True)
    given = torch.randn(2, 4, 8, 8, dtype=torch.float64).to(memory_format=torch.channels_last)
    assert quick(given).is_contiguous(memory_format=torch.channels_last)


def test_one_voxel_has_no_deviation() -> None:
    plain, quick = pair(2, affine=True)
    for norm in (plain, quick):
        with pytest.raises(ValueError, match="spatial element"):
            norm(torch.zeros(2, 4, 1, 1, dtype=torch.float64))
