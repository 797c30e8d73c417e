"""A small network that takes clicks, trained here in seconds, and its bundle.

It is shown balls of one brightness, some of which the mask holds already, and learns what DeepEdit
learns: a click inside adds the ball that was clicked on, a click outside takes one away.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.networks.nets.unet import UNet

from models.prompts.promptable import gaussians
from models.prompts.values import Point
from models.tasks import Prompted
from tests.bundles import inference, metadata, write_bundle

PROMPTS = {
    "positive": "positive",
    "negative": "negative",
    "previous": "before",
    "sigma_mm": 4.0,
    "reach_mm": 24.0,
    "any_structure": True,
}
_ASKED = Prompted("positive", "negative", "before", "", 4.0, 24.0, True)
_NETWORK: dict[str, Any] = {
    "spatial_dims": 3,
    "in_channels": 4,
    "out_channels": 2,
    "channels": [8, 16],
    "strides": [2],
    "num_res_units": 0,
}
_SIZE = (24, 24, 24)
_ROUNDS = 260


def balls(
    random: np.random.Generator, centres: list[tuple[int, int, int]], shape: tuple[int, int, int]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return an image of balls of one brightness, and the mask of each."""
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    masks = []
    for centre in centres:
        radius = random.uniform(2.5, 4.0)
        masks.append(((grid - centre) ** 2).sum(axis=-1) <= radius**2)
    image = 100 + 400 * np.any(masks, axis=0) + random.normal(0, 20, shape)
    return image.astype(np.float32), masks


def _example(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return four channels and the mask that they mean."""
    centres = [(6, 6, 6), (6, 17, 17), (17, 6, 17), (17, 17, 6)]
    moved = [tuple(int(c + random.integers(-1, 2)) for c in centre) for centre in centres]
    image, masks = balls(random, moved, _SIZE)  # type: ignore[arg-type]
    said = random.choice(["none", "held", "positive", "negative"], size=len(masks))
    before = np.zeros(_SIZE, bool)
    target = np.zeros(_SIZE, bool)
    clicks: dict[str, list[Point]] = {"positive": [], "negative": []}
    for mask, word in zip(masks, said, strict=True):
        inside = np.argwhere(mask)
        click = Point(*(int(n) for n in inside[random.integers(len(inside))]))
        if word in ("held", "negative"):
            before |= mask
        if word in clicks:
            clicks[word].append(click)
        if word in ("held", "positive"):
            target |= mask
    maps = [gaussians(_SIZE, clicks[word], (1.0, 1.0, 1.0), _ASKED) for word in clicks]
    return np.stack([image / 500, *maps, before.astype(np.float32)]), target


@cache
def trained(rounds: int) -> dict[str, torch.Tensor]:
    """Return the weights of the network; trained once for all tests."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several wait for each other where the machine is busy
    try:
        return _trained(rounds)
    finally:
        torch.set_num_threads(threads)


def _trained(rounds: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    random = np.random.default_rng(5)
    network = UNet(**_NETWORK)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(rounds):
        examples = [_example(random) for _ in range(2)]
        given = torch.from_numpy(np.stack([one for one, _ in examples]).astype(np.float32))
        wanted = torch.from_numpy(np.stack([mask for _, mask in examples])).long()
        loss = torch.nn.functional.cross_entropy(
            network(given), wanted, weight=torch.tensor([1.0, 2.0])
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval().state_dict()


def write_clicked_bundle(folder: Path, *, rounds: int = _ROUNDS, **table: Any) -> Path:
    """Write the bundle `clicked`; `table` changes what its table says of prompts."""
    names = ["image", "positive", "negative", "before"]
    document = metadata()
    document["name"] = "Clicked"
    document["radloop"]["inputs"] = [{"name": name, "key": name} for name in names]
    document["radloop"]["prompts"] = {**PROMPTS, **table}
    plain = document["network_data_format"]["inputs"]["image"]
    document["network_data_format"]["inputs"] = {name: dict(plain) for name in names}
    configuration = inference()
    configuration["preprocessing"]["transforms"] = [
        {"_target_": "LoadImaged", "keys": names},
        {"_target_": "EnsureChannelFirstd", "keys": names},
        {
            "_target_": "ScaleIntensityRanged",
            "keys": "image",
            "a_min": 0.0,
            "a_max": 500.0,
            "b_min": 0.0,
            "b_max": 1.0,
        },
    ]
    configuration["network_def"] = {"_target_": "UNet", **_NETWORK}
    configuration["inferer"] = {"_target_": "SlidingWindowInferer", "roi_size": [48, 48, 48]}
    return write_bundle(folder, "clicked", document, configuration, trained(rounds))
