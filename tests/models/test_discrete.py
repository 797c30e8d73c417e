"""The quick argmax is torch's, in every order of memory."""

from itertools import permutations

import pytest
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms import AsDiscreted, Compose

from models.discrete import QuickDiscrete, largest_channel, quicken


@pytest.mark.parametrize("channels", [2, 3, 7, 300])
@pytest.mark.parametrize("order", list(permutations((1, 2, 3))))
@pytest.mark.parametrize("at_once", [1, 70, 1 << 21])
def test_it_is_torchs_argmax_ties_included(
    channels: int, order: tuple[int, ...], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.discrete._AT_ONCE", at_once)
    drawn = torch.randint(0, 5, (channels, 4, 5, 6), generator=torch.manual_seed(channels)).float()
    values = drawn.permute(0, *order)
    assert torch.equal(largest_channel(values).long(), values.argmax(dim=0, keepdim=True))


def test_monais_transform_keeps_its_meaning() -> None:
    image = MetaTensor(torch.randn(3, 4, 5, 6), affine=torch.diag(torch.tensor([2.0, 3, 4, 1])))
    for arguments in (
        {"argmax": True},
        {"argmax": True, "to_onehot": 3},
        {"threshold": 0.2},
        {"argmax": True, "dtype": torch.int32},
    ):
        plain, quick = (Compose([AsDiscreted(keys="pred", **arguments)]) for _ in range(2))
        quicken(quick)
        assert isinstance(quick.transforms[0].converter, QuickDiscrete)
        wanted, found = (each({"pred": image.clone()})["pred"] for each in (plain, quick))
        assert torch.equal(wanted, found)
        assert wanted.dtype == found.dtype
        assert torch.equal(found.affine, image.affine)
