"""Windows over an image: as MONAI stitches them, in less memory."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.inferers.inferer import SlidingWindowInferer

from dicom import errors
from models.prediction import Canceled
from models.running import Watch, Watched
from models.sliding import NotOneMap, Sliding, slide
from models.stitching import Finish
from tests.examples import examples


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
    torch.set_num_threads(before)


@st.composite
def cases(draw: st.DrawFn) -> tuple[torch.Tensor, torch.nn.Module, SlidingWindowInferer]:
    axes = draw(st.sampled_from([2, 3]))
    size = [draw(st.integers(3, 26)) for _ in range(axes)]
    window = [draw(st.sampled_from([0, 4, 7, 12])) for _ in range(axes)]
    overlap = [draw(st.sampled_from([0.0, 0.25, 0.5, 0.8])) for _ in range(axes)]
    padding, fill = draw(
        st.sampled_from([("constant", 0.0), ("constant", -3.0), ("replicate", 0.0)])
    )
    inferer = SlidingWindowInferer(
        window,
        draw(st.integers(1, 5)),
        overlap,
        draw(st.sampled_from(["constant", "gaussian"])),
        padding_mode=padding,
        cval=fill,
    )
    torch.manual_seed(draw(st.integers(0, 99)))
    convolution = torch.nn.Conv2d if axes == 2 else torch.nn.Conv3d
    network = convolution(2, draw(st.sampled_from([1, 2, 5])), 3, padding=1)
    image = torch.randn(draw(st.integers(1, 2)), 2, *size)
    return image, network, inferer


@given(cases())
@examples(40)
def test_logits_are_those_of_monai(
    case: tuple[torch.Tensor, torch.nn.Module, SlidingWindowInferer],
) -> None:
    image, network, inferer = case
    with torch.inference_mode():
        expected = inferer(image, network)
        sliding = Sliding.of(inferer, image.dim() - 2)
        assert sliding is not None
        logits = slide(image, network, sliding)
        labels = slide(image, network, sliding, finish="argmax")
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    assert labels.shape == (len(image), 1, *image.shape[2:])
    # where two classes are all but equal, rounding decides
    two = expected.topk(2, dim=1).values if expected.shape[1] > 1 else None
    clear = torch.ones_like(labels, dtype=torch.bool)
    if two is not None:
        clear = (two[:, :1] - two[:, 1:]) > 1e-4
    assert torch.equal(labels[clear], expected.argmax(1, keepdim=True)[clear].to(labels.dtype))


def test_an_argmax_holds_no_class_at_full_size() -> None:
    """What the largest tensors take together, seen where torch makes them."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        voxels = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            made = func(*args, **(kwargs or {}))
            if isinstance(made, torch.Tensor):
                self.voxels = max(self.voxels, made.untyped_storage().nbytes() // 4)
            return made

    image = torch.randn(1, 1, 20, 24, 96)
    weights = torch.linspace(-1, 1, 30)[None, :, None, None, None]
    sliding = Sliding((8, 8, 8), (0.25, 0.25, 0.25))
    sizes = {}
    for finish in ("logits", "argmax"):
        with Largest() as seen:
            slide(image, lambda windows: windows * weights, sliding, finish=finish)  # type: ignore[arg-type]
        sizes[finish] = seen.voxels
    assert sizes["logits"] >= 30 * image.numel()
    assert sizes["argmax"] <= 30 * image.numel() / 20


def test_a_large_overlap_waits_in_half_the_bytes_and_says_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = torch.randn(1, 1, 20, 21, 22)
    network = torch.nn.Conv3d(1, 4, 3, padding=1)
    sliding = Sliding((8, 9, 10), (0.5, 0.5, 0.5), "gaussian")
    exact = slide(image, network, sliding)
    monkeypatch.setattr("models.stitching._HELD_BYTES", 0)
    short = slide(image, network, sliding)
    assert not torch.equal(short, exact)
    torch.testing.assert_close(short, exact, atol=5e-3, rtol=5e-3)


def test_background_is_skipped_where_it_is_asked_for() -> None:
    image = torch.zeros(1, 1, 16, 16, 16)
    image[..., 8:] = 1
    seen = []

    def network(windows: torch.Tensor) -> torch.Tensor:
        seen.append(len(windows))
        return torch.cat([torch.ones_like(windows) * 0.5, windows], dim=1)

    sliding = Sliding((8, 8, 8), (0, 0, 0))
    labels = slide(image, network, sliding, finish="argmax", skip=lambda w: not bool(w.any()))
    assert sum(seen) == 4
    assert torch.equal(labels, image.to(torch.uint8))
    blank = torch.zeros_like(image)
    nothing = slide(blank, network, sliding, skip=lambda w: not bool(w.any()))
    assert nothing.shape == (1, 2, 16, 16, 16)
    assert not bool(nothing.any())


def test_progress_comes_window_by_window_and_so_does_the_end() -> None:
    told: list[float] = []
    image = torch.zeros(1, 1, 16, 16, 16)
    inferer = SlidingWindowInferer((8, 8, 8), 1, 0.0)
    sliding = Sliding.of(inferer, 3)
    assert sliding is not None
    for canceled, windows in ((None, 8), ((lambda: len(told) >= 3), 3)):
        told.clear()
        wanted: Canceled | None = canceled
        network = Watched(torch.nn.Identity(), Watch(torch.device("cpu"), told.append, wanted))
        network.expect_windows(inferer, image[0])
        if canceled is None:
            slide(image, network, sliding)
        else:
            with pytest.raises(errors.Canceled):
                slide(image, network, sliding)
        assert told == [n / 8 for n in range(1, windows + 1)]


@pytest.mark.parametrize("finish", ["logits", "argmax"])
def test_as_many_windows_are_given_together_as_the_network_asks_for(finish: Finish) -> None:
    image = torch.randn(1, 2, 20, 18, 9, generator=torch.manual_seed(2))
    sliding = Sliding((8, 8, 8), (0.25, 0.5, 0.0))
    wanted = iter([1, 3, 2, *[5] * 99])
    counts: list[int] = []

    def network(windows: torch.Tensor) -> torch.Tensor:
        counts.append(len(windows))
        return torch.cat([windows, windows.sum(1, keepdim=True)], 1)

    def at_once(shape: tuple[int, ...]) -> int:
        assert shape == (2, 8, 8, 8)
        return next(wanted)

    together = slide(image, network, sliding, finish=finish, at_once=at_once)
    assert counts[:4] == [1, 3, 2, 5]
    assert sum(counts) == math.prod(len(each) for each in sliding.starts(image.shape[2:]))
    torch.testing.assert_close(together, slide(image, network, sliding, finish=finish))


def test_another_grid_is_refused() -> None:
    sliding = Sliding((8, 8, 8), (0, 0, 0))
    with pytest.raises(NotOneMap):
        slide(torch.zeros(1, 1, 8, 8, 8), torch.nn.AvgPool3d(2), sliding)
    with pytest.raises(ValueError, match="axes"):
        slide(torch.zeros(1, 1, 8, 8), torch.nn.Identity(), sliding)


def test_inferers_that_do_more_are_left_to_monai() -> None:
    assert Sliding.of(SlidingWindowInferer((8, 8), with_coord=True), 2) is None
    assert Sliding.of(SlidingWindowInferer((8, 8)), 3) is None


def test_values_beyond_sixteen_bits_are_an_error_and_no_wrong_label(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from dicom.errors import UnsuitableSeries
    from models import stitching

    monkeypatch.setattr(stitching, "_HELD_BYTES", 0)
    image = torch.randn(1, 3, 40, 40, 40, generator=torch.manual_seed(0))
    plan = Sliding.of(SlidingWindowInferer((16, 16, 16), overlap=0.5), 3)
    slide(image, lambda windows: windows * 10, plan, finish="argmax")
    with pytest.raises(UnsuitableSeries):
        slide(image, lambda windows: windows * 1e5, plan, finish="argmax")
