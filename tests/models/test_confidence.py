"""How sure a network is: the same figures as from all its probabilities at once."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from monai.inferers.inferer import SlidingWindowInferer

from models.confidence import Tally
from models.process.messages import confidence_of, told_of
from models.sliding import Sliding, slide


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(7)
    with torch.inference_mode():
        yield
    torch.set_num_threads(before)


def by_hand(probabilities_cxyz: torch.Tensor) -> dict[int, tuple[float, float]]:
    """Return (mean probability, mean normalised entropy at the border) of each class but 0."""
    labels = probabilities_cxyz.argmax(dim=0)
    beside = torch.zeros_like(labels, dtype=torch.bool)
    for axis in range(labels.dim()):
        for step in (1, -1):
            moved = labels.roll(step, axis)
            differs = moved != labels
            differs.select(axis, 0 if step == 1 else -1).fill_(False)
            beside |= differs
    entropy = -(probabilities_cxyz * probabilities_cxyz.log()).sum(dim=0)
    entropy /= math.log(len(probabilities_cxyz))
    found = {}
    for number in labels.unique().tolist():
        if number:
            inside = labels == number
            probability = float(probabilities_cxyz[number][inside].mean())
            found[number] = (probability, float(entropy[inside & beside].mean()))
    return found


@pytest.mark.parametrize("mode", ["constant", "gaussian"])
@pytest.mark.parametrize("axes", [2, 3])
def test_stitched_windows_tell_what_all_probabilities_tell(mode: str, axes: int) -> None:
    convolution = torch.nn.Conv2d if axes == 2 else torch.nn.Conv3d
    network = torch.nn.Sequential(convolution(1, 6, 5, padding=2), convolution(6, 4, 3, padding=1))
    image = 3 * torch.randn(1, 1, *(20, 22, 17)[:axes])
    inferer = SlidingWindowInferer((9,) * axes, 2, 0.4, mode)
    expected = by_hand(torch.softmax(inferer(image, network)[0], dim=0))
    sliding = Sliding.of(inferer, axes)
    assert sliding is not None
    tally = Tally((0, 1, 2, 3))
    slide(image, network, sliding, finish="argmax", tally=tally)
    told = {each.number: each for each in tally.result()}
    assert set(told) == set(expected)
    for number, (probability, entropy) in expected.items():
        assert told[number].probability == pytest.approx(probability, abs=1e-5)
        assert told[number].border_entropy == pytest.approx(entropy, abs=0.06)  # a few are missed


def test_a_whole_map_is_told_exactly_as_logits_and_as_probabilities() -> None:
    logits = torch.nn.functional.avg_pool3d(9 * torch.randn(1, 3, 16, 16, 16), 3, 1, 1)[0]
    expected = by_hand(torch.softmax(logits, dim=0))
    for values in (logits, torch.softmax(logits, dim=0)):
        tally = Tally((0, 1, 2))
        tally.add_map(values)
        told = {one.number: (one.probability, one.border_entropy) for one in tally.result()}
        assert set(told) == set(expected)
        for number, figures in expected.items():
            assert told[number] == pytest.approx(figures, abs=1e-5)


def test_segments_that_may_overlap_are_judged_each_by_itself() -> None:
    logits = torch.full((2, 6, 6, 6), -4.0)
    logits[0, :3] = 2.0
    logits[1, 2:] = 0.0
    tally = Tally((7, 9), threshold=0.5)
    tally.add_map(logits)
    sure, unsure = tally.result()
    assert (sure.number, unsure.number) == (7, 9)
    assert sure.probability == pytest.approx(1 / (1 + math.exp(-2)), abs=1e-6)
    assert (unsure.probability, unsure.border_entropy) == pytest.approx((0.5, 1.0))


def test_what_was_not_found_has_no_figure_and_packets_keep_the_rest() -> None:
    tally = Tally((0, 3, 5))
    logits = torch.zeros(3, 4, 4, 4)
    logits[1] = 5.0  # everywhere: there is no border
    tally.add_map(logits)
    (only,) = tally.result()
    assert only.number == 3
    assert only.border_entropy is None
    again = confidence_of(told_of((only,)))
    assert again is not None
    assert again[0].probability == pytest.approx(only.probability, abs=1e-6)
    assert confidence_of(told_of(None)) is None
