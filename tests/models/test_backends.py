"""Ways to run a network: the fastest is taken, and only when it says the same."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from monai.inferers.inferer import SlidingWindowInferer

from dicom.phantom import head_mr
from models.backends import (
    DICE,
    Chosen,
    LeanTorch,
    OpenVino,
    PlainTorch,
    ShortTorch,
    SideBySide,
    choose,
    choosing,
    disagreement,
)
from models.backends import chosen as remembering
from models.backends.interleaved import Interleaved, interleaved
from models.backends.lean import lean
from models.building import build
from models.bundle import read_bundle
from models.prediction import Image
from models.registry import SHIPPED
from models.sliding import Sliding, slide
from models.tensors import plain, volume_tensor

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(remembering, "_KNOWN", {})
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
    torch.set_num_threads(before)


def needs_openvino() -> None:
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("openvino is not installed")


def network(width: int = 16) -> torch.nn.Module:
    torch.manual_seed(0)
    with torch.inference_mode(False), torch.no_grad():
        made = torch.nn.Sequential(
            torch.nn.Conv3d(1, width, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.Conv3d(width, width, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.Conv3d(width, 2, 1),
        ).eval()
        said = made(halves())
        between = (said[:, 1] - said[:, 0]).mean()
        made[-1].bias[0] += between  # so that either half is a class of its own
    return made


def halves(size: int = 32) -> torch.Tensor:
    """An image with a bright and a dark half, far apart for every network."""
    image = torch.full((1, 1, size, size, size), -4.0)
    image[..., size // 2 :] = 4.0
    return image


class Steps(torch.nn.Module):
    """A threshold so fine that 16 bits cannot see it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Conv3d(1, 1, 1)
        torch.nn.init.ones_(self.layer.weight)
        torch.nn.init.zeros_(self.layer.bias)

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        return (self.layer(windows) - 1000.5) * 1.0


def test_openvino_says_what_torch_says() -> None:
    needs_openvino()
    torch.manual_seed(1)
    windows = torch.randn(2, 1, 16, 12, 20)
    ours = OpenVino(network(), windows)
    for given in (windows, windows[:1], torch.randn(1, 1, 8, 8, 8)):  # the last by torch
        torch.testing.assert_close(ours(given), network()(given), atol=1e-4, rtol=1e-4)


def test_several_windows_side_by_side_say_what_they_say_alone() -> None:
    needs_openvino()
    torch.set_num_threads(2)
    windows = torch.randn(5, 1, 16, 12, 20, generator=torch.manual_seed(1))
    ours = SideBySide(network(), windows)
    assert ours.at_once == 2
    for given in (windows, windows[:2], windows[:1], torch.randn(2, 1, 8, 8, 8)):  # by torch
        torch.testing.assert_close(ours(given), network()(given), atol=1e-4, rtol=1e-4)


def test_ways_for_several_windows_are_tried_where_there_are_several(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    needs_openvino()
    torch.set_num_threads(2)
    monkeypatch.setattr(remembering, "_WORTH_S", 0.0)
    monkeypatch.setattr(choosing, "multiplies_bfloat16", lambda: False)
    several, alone = (Chosen(network(), CPU, key="halves") for _ in range(2))
    assert several.at_once((1, 24, 24, 24)) == 2
    assert several.at_once((1, 400, 400, 400)) == 1  # more than one would take the memory
    given = torch.cat([halves(24)] * 3)
    for windows, one in ((given[:2], several), (given[:1], alone)):
        torch.testing.assert_close(one(windows), network()(windows), atol=1e-3, rtol=1e-3)
    assert several.choice is not None
    assert alone.choice is not None
    assert any(SideBySide.name in reason for reason in several.choice.reasons)
    assert not any(SideBySide.name in reason for reason in alone.choice.reasons)
    torch.testing.assert_close(several(given), network()(given), atol=1e-3, rtol=1e-3)


def test_fewer_bits_say_almost_the_same() -> None:
    windows = halves(24)
    answer, reference = ShortTorch(network(), CPU)(windows), network()(windows)
    assert answer.dtype == torch.float32
    assert not torch.equal(answer, reference)
    assert disagreement(answer, reference) is None


def test_what_disagrees_is_not_taken_and_the_reason_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(choosing, "multiplies_bfloat16", lambda: True)
    with torch.inference_mode(False):
        fine = Steps().eval()
    windows = torch.full((1, 1, 24, 24, 24), 1000.0)
    windows[..., 12:] = 1001.0  # the same number, in bfloat16
    windows[..., :2] = -1000.0
    backend, choice = choose(fine, CPU, windows, (fine(windows), 9.0), ways=["torch bfloat16"])
    assert isinstance(backend, PlainTorch)
    assert choice.backend == "torch"
    assert choice.settled
    assert any("bfloat16" in reason and "but its Dice" in reason for reason in choice.reasons)


def test_what_cannot_run_falls_back() -> None:
    class Stubborn(torch.nn.Module):
        def forward(self, windows: torch.Tensor) -> torch.Tensor:
            if type(windows) is torch.Tensor and not torch.is_inference_mode_enabled():
                raise RuntimeError("not to be traced")
            return torch.cat([windows, -windows], dim=1)

    windows = halves(24)
    plain = (torch.cat([windows, -windows], dim=1), 9.0)
    _, choice = choose(Stubborn(), CPU, windows, plain, ways=["openvino"])
    assert choice.backend == "torch"
    assert any("cannot run" in reason for reason in choice.reasons)


def test_nothing_is_settled_by_an_empty_window() -> None:
    windows = torch.zeros(1, 1, 24, 24, 24)
    empty = torch.cat([windows + 1, windows], dim=1)
    _, choice = choose(network(), CPU, windows, (empty, 9.0))
    assert choice.backend == "torch"
    assert not choice.settled


def test_one_class_that_differs_is_enough_to_disagree() -> None:
    reference = torch.zeros(1, 3, 40, 40, 40)
    reference[:, 0] = 1
    reference[:, 1, :20] = 2
    reference[:, 2, 30:] = 2
    answer = reference.clone()
    answer[:, 2, 30, :2] = 0.9
    assert disagreement(reference, reference) is None
    assert "differs" in str(disagreement(answer, reference))
    answer = reference.clone()
    near = reference.clone()
    near[:, 2, 30] = 1.001
    answer[:, 2, 30] = 0.999
    assert "Dice" in str(disagreement(answer, near))


def test_a_choice_is_kept_for_the_next_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembering, "_WORTH_S", 0.0)
    windows = halves()
    first = Chosen(network(), CPU, key="a", folder=tmp_path)
    said = first(windows)
    assert first.choice is not None
    (kept,) = tmp_path.iterdir()
    monkeypatch.setattr(remembering, "_KNOWN", {})
    second = Chosen(network(), CPU, key="a", folder=tmp_path)
    assert torch.equal(second(windows), said)
    assert second.choice is not None
    assert second.choice.backend == first.choice.backend
    assert second.choice.reasons == first.choice.reasons
    kept.write_text("{")  # half a file of a machine that went down
    monkeypatch.setattr(remembering, "_KNOWN", {})
    third = Chosen(network(), CPU, key="a", folder=tmp_path)
    assert disagreement(third(windows), said) is None
    Chosen(network(), CPU, key="b", folder=tmp_path)(windows)
    assert len(list(tmp_path.iterdir())) == 2


class Large(torch.nn.Module):
    """Counts what it is given; takes windows of at least `fewest` voxels only."""

    def __init__(self, fewest: int = 0) -> None:
        super().__init__()
        self.inner, self.fewest = network(), fewest
        self.sizes: list[int] = []

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        if not torch.jit.is_tracing():
            self.sizes.append(windows.shape[-1])
        if windows.shape[-1] < self.fewest:
            raise RuntimeError("too small")
        answer: torch.Tensor = self.inner(windows)
        return answer


def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let windows be large at 64 voxels a side, and pieces of them 32."""
    monkeypatch.setattr(remembering, "_WORTH_S", 0.0)
    monkeypatch.setattr(remembering, "_MOST_VOXELS", 64**3 - 1)
    monkeypatch.setattr(remembering, "_PIECE", 32)
    monkeypatch.setattr(remembering, "_STEP", 8)


def test_of_a_very_large_window_a_piece_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    needs_openvino()
    large(monkeypatch)
    monkeypatch.setattr(choosing, "multiplies_bfloat16", lambda: False)
    made = Large()
    chosen = Chosen(made, CPU, key="large")
    said = chosen(halves(64))
    torch.testing.assert_close(said, made.inner(halves(64)), atol=1e-4, rtol=1e-4)
    assert chosen.choice is not None
    assert any(reason.startswith("openvino") for reason in chosen.choice.reasons)
    assert chosen.choosing_s > 0
    assert set(made.sizes[:1]) == {32}
    other = halves(72)
    torch.testing.assert_close(chosen(other), made.inner(other), atol=1e-4, rtol=1e-4)


def test_a_network_that_takes_no_pieces_is_run_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    large(monkeypatch)
    made = Large(fewest=64)
    chosen = Chosen(made, CPU, key="whole")
    assert torch.equal(chosen(halves(64)), made.inner(halves(64)))
    assert torch.equal(chosen(halves(64)), made.inner(halves(64)))
    assert made.sizes == [32, 64, 64]


def test_what_would_fill_the_memory_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "free_bytes", lambda: 1)
    held = iter([0, 10, 0, 10, 0, 10])
    monkeypatch.setattr(choosing, "held_bytes", lambda: next(held))
    plain = (network()(halves()), 9.0)
    _, choice = choose(network(), CPU, halves(), plain, example=halves(16), times_as_large=8.0)
    assert choice.backend == "torch"
    assert any("GB" in reason for reason in choice.reasons)


class Norms(torch.nn.Module):
    """What lean() changes: norms after convolutions, norms of few channels, activations."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        up = torch.nn.ConvTranspose3d(6, 4, 3, stride=2, padding=1, output_padding=1)
        shared = torch.nn.BatchNorm3d(4)
        everywhere = torch.nn.ReLU()
        self.steps = torch.nn.Sequential(
            everywhere,  # of what the caller holds
            torch.nn.Sequential(torch.nn.Conv3d(1, 6, 3, padding=1, stride=2), torch.nn.Dropout()),
            torch.nn.Sequential(torch.nn.BatchNorm3d(6), torch.nn.PReLU()),
            torch.nn.Sequential(up, torch.nn.BatchNorm3d(4)),
            shared,
            torch.nn.Conv3d(4, 4, 1),
            shared,  # twice: in the weights of no convolution
            torch.nn.Conv3d(4, 4, 3, padding=1),
            torch.nn.InstanceNorm3d(4, affine=True),
            torch.nn.LeakyReLU(),
            torch.nn.Conv3d(4, 20, 1),
            torch.nn.InstanceNorm3d(20),
            everywhere,
            torch.nn.Conv3d(20, 2, 1),
        )
        for norm in (each for each in self.modules() if isinstance(each, torch.nn.BatchNorm3d)):
            torch.nn.init.uniform_(norm.running_mean, -1, 1)
            torch.nn.init.uniform_(norm.running_var, 0.5, 2)
            torch.nn.init.uniform_(norm.weight, 0.5, 2)
        self.eval()

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.steps(windows)
        return answer


def test_a_lean_copy_says_the_same_and_leaves_the_network_as_it_was() -> None:
    with torch.inference_mode(False):
        made = Norms()
    windows = torch.randn(2, 1, 16, 12, 8, generator=torch.manual_seed(5))
    before = {name: each.clone() for name, each in made.state_dict().items()}
    reference = made(windows)
    copy = lean(made, torch.float32)
    norms = [each for each in copy.modules() if isinstance(each, torch.nn.BatchNorm3d)]
    assert len(norms) == 1
    assert sum(isinstance(each, Interleaved) for each in copy.modules()) == 1
    given = windows.clone()
    torch.testing.assert_close(copy(windows), reference, atol=1e-4, rtol=1e-4)
    short = LeanTorch(made)(windows)
    assert short.dtype == torch.float32
    assert float((short - reference).abs().max()) < 0.05 * float(reference.max() - reference.min())
    assert all(torch.equal(each, before[name]) for name, each in made.state_dict().items())
    assert torch.equal(made(windows), reference)
    assert torch.equal(windows, given)
    overwriting = [each for each in copy.modules() if getattr(each, "inplace", False)]
    assert [type(each) for each in overwriting] == [torch.nn.LeakyReLU]


@pytest.mark.parametrize("spatial", [2, 3])
@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("width", "stride", "padding", "more"),
    [
        (3, 2, 1, 1),
        (2, 2, 0, 0),
        (4, 2, 1, 0),
        (3, 3, 0, 0),
        (5, 2, 2, 1),
        (1, 2, 0, 1),
        (3, 1, 1, 0),
    ],
)
def test_blocks_beside_each_other_are_the_transposed_convolution(
    spatial: int, kind: torch.dtype, width: int, stride: int, padding: int, more: int
) -> None:
    kinds = {2: torch.nn.ConvTranspose2d, 3: torch.nn.ConvTranspose3d}
    with torch.random.fork_rng():
        torch.manual_seed(6)
        usual = kinds[spatial](5, 2, width, stride, padding, more, bias=width != 4).to(kind)
    other = interleaved(usual)
    assert other is not None
    features = torch.randn(2, 5, *(4, 6, 3)[:spatial], generator=torch.manual_seed(7)).to(kind)
    small = 0.05 if kind is torch.bfloat16 else 1e-5
    with torch.no_grad():
        for given in (features, features.movedim(1, -1).contiguous().movedim(-1, 1)):
            torch.testing.assert_close(other(given), usual(given), atol=small, rtol=small)


def test_other_transposed_convolutions_are_left_as_they_are() -> None:
    up = torch.nn.ConvTranspose3d
    for usual in (
        up(4, 8, 3, 2, 1, 1),  # many channels
        up(4, 2, 3, 2, 1),  # a smaller image
        up(4, 2, 3, 2, 1, 1, groups=2),
        up(4, 2, 2, 2, dilation=2),
        torch.nn.Conv3d(4, 2, 3),
        torch.nn.ReLU(),
    ):
        assert interleaved(usual) is None
    assert interleaved(up(4, 2, (3, 2, 1), (2, 2, 1), (1, 0, 0), (1, 0, 0))) is not None


@pytest.mark.parametrize("way", [LeanTorch.name, OpenVino.name])
def test_mr_brain_in_every_way_is_what_monai_makes_of_it(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own weights, in float32 and in a window of half a head."""
    if way == OpenVino.name:
        needs_openvino()
    monkeypatch.setattr(choosing, "multiplies_bfloat16", lambda: True)
    parts = build(read_bundle(SHIPPED / "mr_brain"), CPU)
    head = head_mr(seed=0, slices=100, size=128)
    image = volume_tensor([Image(head.voxels_kji, head.affine_lps)])
    ready = plain(parts.preprocess({"image": image})["image"])[None]
    ready = ready[..., : ready.shape[-1] // 2 // 16 * 16]  # half of it takes half the time
    reference = parts.network(ready)
    backend, choice = choose(parts.network, CPU, ready, (reference, 1e9), ways=[way])
    assert choice.backend == way, choice.reasons
    inferer = SlidingWindowInferer(tuple(ready.shape[2:]), 1, 0.25, "gaussian")
    sliding = Sliding.of(inferer, 3)
    assert sliding is not None
    expected = inferer(ready, parts.network).argmax(1) == 1
    found = slide(ready, backend, sliding, finish="argmax")[:, 0] == 1
    dice = float(2 * (found & expected).sum() / (found.sum() + expected.sum()))
    assert expected.sum() > 10_000
    assert dice >= DICE


WATCHED = """
import socket, sys

def refused(*_, **__):
    raise SystemExit("a connection was tried")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = refused
import torch
from models.backends import OpenVino

with torch.inference_mode():
    OpenVino(torch.nn.Conv3d(1, 2, 3), torch.zeros(1, 1, 8, 8, 8))(torch.ones(1, 1, 8, 8, 8))
from openvino.tools.ovc import convert_impl, telemetry_utils

for module in (convert_impl, telemetry_utils):
    assert module.tm.__name__ == "openvino.tools.ovc.telemetry_stub", module.__name__
assert not [name for name in sys.modules if name.startswith("openvino_telemetry.")]
print("silent")
"""


def test_openvino_tells_nobody() -> None:
    needs_openvino()
    ran = subprocess.run(
        [sys.executable, "-c", WATCHED], capture_output=True, text=True, check=False
    )
    assert ran.stdout.strip() == "silent", ran.stderr
