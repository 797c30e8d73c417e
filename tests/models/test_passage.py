"""The way to a network's grid and home in one pass says what MONAI's steps say one by one."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import (
    Activationsd,
    AsDiscreted,
    Compose,
    CropForegroundd,
    DivisiblePadd,
    EnsureChannelFirstd,
    Invertd,
    Orientationd,
    ScaleIntensityRanged,
    Spacingd,
)

from models.bundle import read_bundle
from models.passage import Passage, WayHome
from models.prediction import Image
from models.predictor import Predictor
from models.regrid import Along, largest_at
from models.tensors import stand_in, volume_tensor
from tests.bundles import write_threshold_bundle

SHAPE_KJI = (19, 23, 30)
SPACING = (2.5, 0.8, 0.7)
TURNS = [
    (order, signs)
    for order in itertools.permutations(range(3))
    for signs in [(1, 1, 1), (-1, 1, -1), (-1, -1, -1)]
]


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    torch.set_num_threads(1)


def image(order=(2, 1, 0), signs=(1, 1, 1), dtype=np.int16) -> Image:
    """Noise on a grid whose axis k, j, i runs along patient axis order[0], order[1], order[2]."""
    affine_lps = np.eye(4)
    affine_lps[:3, :3] = 0
    for axis in range(3):
        affine_lps[order[axis], axis] = SPACING[axis] * signs[axis]
    affine_lps[:3, 3] = (5.0, -7.0, 11.0)
    voxels = np.random.default_rng(1).integers(-1000, 1000, SHAPE_KJI).astype(dtype)
    return Image(voxels, affine_lps)


def preprocessing(*tail, pixdim=(1.5, 1.5, 1.5), **spacing) -> Compose:
    return Compose(
        [
            EnsureChannelFirstd("image"),
            Orientationd("image", axcodes="RAS"),
            Spacingd("image", pixdim=pixdim, dtype=torch.float32, **spacing),
            *tail,
        ]
    )


def both(given: Image, steps: Compose):
    """What MONAI's steps give, and what the passage gives."""
    passage = Passage.of(steps)
    assert passage is not None
    expected = steps({"image": volume_tensor([given])})
    made = passage.forth({"image": (given, stand_in(given))}, 2)
    assert made is not None
    return expected["image"], made["image"]


@pytest.mark.parametrize(("order", "signs"), TURNS)
def test_there_it_agrees_whichever_way_the_axes_run(order, signs) -> None:
    expected, made = both(image(order, signs), preprocessing())
    assert made.shape == expected.shape
    torch.testing.assert_close(made.affine, expected.affine)
    torch.testing.assert_close(made.as_tensor(), expected.as_tensor(), atol=2e-2, rtol=0)


@pytest.mark.parametrize("padding", ["border", "zeros"])
@pytest.mark.parametrize("pixdim", [(0.4, 2.0, 1.0), (3.0, 0.8, 6.0), (0.7, 0.8, 2.5)])
def test_there_it_agrees_finer_and_coarser(pixdim, padding) -> None:
    expected, made = both(image(), preprocessing(pixdim=pixdim, padding_mode=padding))
    torch.testing.assert_close(made.as_tensor(), expected.as_tensor(), atol=2e-2, rtol=0)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_voxels_of_any_type_are_read_as_they_are(dtype) -> None:
    expected, made = both(image(dtype=dtype), preprocessing())
    torch.testing.assert_close(made.as_tensor(), expected.as_tensor(), atol=2.0, rtol=1e-5)
    assert made.dtype == torch.float32


def test_what_monai_inverts_by_itself_comes_home_as_from_its_own_steps() -> None:
    steps = preprocessing(CropForegroundd("image", source_key="image"), DivisiblePadd("image", k=8))
    expected, made = both(image(), steps)
    home = steps.inverse({"image": made})["image"]
    expected_home = steps.inverse({"image": expected})["image"]
    assert home.shape == (1, *SHAPE_KJI[::-1])
    torch.testing.assert_close(home.affine, expected_home.affine)
    torch.testing.assert_close(home.as_tensor(), expected_home.as_tensor(), atol=5e-2, rtol=0)


@pytest.mark.parametrize(("order", "signs"), TURNS)
@pytest.mark.parametrize("channels", [2, 4])
def test_back_the_largest_channel_is_monais(order, signs, channels) -> None:
    steps = preprocessing(DivisiblePadd("image", k=8))
    post = [invert(steps), AsDiscreted("pred", argmax=True)]
    expected, found = there_and_back(image(order, signs), steps, post, channels)
    assert found.shape == expected.shape
    assert (found != expected).double().mean() < 1e-4  # rounding, where two are all but equal
    assert len(np.unique(found)) == channels


@pytest.mark.parametrize("channels", [2, 3])
def test_of_channels_that_are_equal_the_first_is_the_largest(channels) -> None:
    axes = tuple(Along.at(np.arange(9) * 0.7, 6, "border") for _ in range(3))
    equal = np.random.default_rng(0).normal(size=(1, 6, 6, 6)).astype(np.float32)
    found = largest_at(np.repeat(equal, channels, axis=0), axes, threads=1)
    assert not found.any()


def test_a_softmax_on_the_source_grid_changes_no_largest() -> None:
    steps = preprocessing()
    post = [invert(steps), Activationsd("pred", softmax=True), AsDiscreted("pred", argmax=True)]
    expected, found = there_and_back(image(), steps, post, 3)
    assert (found != expected).double().mean() < 1e-4


@pytest.mark.parametrize("padding", ["border", "zeros"])
def test_back_each_channel_reaches_the_threshold_where_monais_does(padding) -> None:
    steps = preprocessing(CropForegroundd("image", source_key="image"), padding_mode=padding)
    post = [Activationsd("pred", sigmoid=True), invert(steps)]
    expected, found = there_and_back(image(), steps, post, 3, threshold=0.6)
    assert 0 < found.double().mean() < 1
    assert (found != (expected >= 0.6)).double().mean() < 1e-4


def test_turned_axes_and_other_steps_are_left_to_monai() -> None:
    given = image()
    oblique = given.affine_lps.copy()
    angle = 0.3
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    oblique[:2, :2] = turn @ oblique[:2, :2]
    oblique[:2, 2] = turn @ given.affine_lps[:2, 2]
    tilted = Image(given.voxels, oblique)
    diagonal = preprocessing()
    diagonal.transforms[2].spacing_transform.diagonal = True  # resampled to upright axes
    passage = Passage.of(diagonal)
    assert passage is not None
    assert passage.forth({"image": (tilted, stand_in(tilted))}, 1) is None
    nearest = Passage.of(preprocessing(mode="nearest"))
    assert nearest is not None
    assert nearest.forth({"image": (given, stand_in(given))}, 1) is None
    assert Passage.of(Compose([EnsureChannelFirstd("image")])) is None
    scaled = [EnsureChannelFirstd("image"), ScaleIntensityRanged("image", 0, 1, 0, 1)]
    assert Passage.of(Compose([*scaled, *preprocessing().transforms[1:]])) is None
    assert home_of(preprocessing(), [AsDiscreted("pred", argmax=True)]) is None


def test_a_bundle_brings_no_channel_home_at_full_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = read_bundle(write_threshold_bundle(tmp_path, threshold=0.0, spacing_mm=1.5))
    given = image()
    predictor = Predictor(bundle, device="cpu", threads=1)
    with monkeypatch.context() as patch:
        patch.setattr(Passage, "forth", lambda *_: None)
        patch.setattr(WayHome, "back", lambda *_: None)
        expected = predictor.predict_images({bundle.inputs[0].name: given}).answer
    monkeypatch.setattr(Invertd, "__call__", None)  # would fail
    found = predictor.predict_images({bundle.inputs[0].name: given}).answer
    assert found.labels_kji.flags.c_contiguous
    assert 0 < found.labels_kji.mean() < 1
    assert (found.labels_kji != expected.labels_kji).mean() < 1e-4


# --- small things -------------------------------------------------------------------------------


def invert(steps: Compose) -> Invertd:
    return Invertd("pred", transform=steps, orig_keys="image", nearest_interp=False)


def home_of(steps: Compose, post, threshold=None) -> WayHome | None:
    return WayHome.of(Passage.of(steps), steps, Compose(post), "pred", threshold)


def there_and_back(given: Image, steps: Compose, post, channels: int, threshold=None):
    """What MONAI's postprocessing gives of an answer made of noise, and what the way home does."""
    ready = steps({"image": volume_tensor([given])})
    torch.manual_seed(2)
    noise = torch.randn(channels, *ready["image"].shape[1:])
    answer = MetaTensor(noise, meta=dict(ready["image"].meta))
    home = home_of(steps, post, threshold)
    assert home is not None
    found = home.back({**ready, "pred": answer.clone()}, stand_in(given), 2)
    assert found is not None
    expected = Compose(post)({**ready, "pred": answer})
    assert found["pred"].shape[1:] == SHAPE_KJI[::-1]
    return expected["pred"].as_tensor(), found["pred"].as_tensor()
