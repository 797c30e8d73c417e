"""A network over an image: ours beside MONAI's sliding window, on the same weights and threads.

Ours and the peers run in turns; the best of several counts. The first of ours, which chooses the
back-end, is told as a row of its own. What a GPU does is not measured here.
"""

from __future__ import annotations

import gc
import multiprocessing
import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from monai.inferers.inferer import SlidingWindowInferer
from monai.networks.nets.unet import UNet

from benchmarks.table import Row, machine, publish
from dicom.phantom import head_mr
from models.backends import DICE, Chosen
from models.building import build
from models.bundle import read_bundle
from models.prediction import Image
from models.predictor import Predictor
from models.sliding import Sliding, slide
from models.tensors import plain, volume_tensor

BUNDLE = Path(__file__).parents[1] / "models/bundles/mr_brain"
THREADS, ROUNDS = 2, 3
ONE, FOUR = 3.0, 2.0
CLASSES, LARGE = 104, (512, 512, 600)
MEMORY_GB = 4.0
CPU = torch.device("cpu")


def rows() -> list[Row]:
    """Return every row of the table."""
    torch.set_num_threads(THREADS)
    return [*_unet(), *_brain(), *_stitch(), *_overhead()]


def _unet() -> list[Row]:
    """Measure a plain U-Net over windows of 96, weights and image from a seed."""
    torch.manual_seed(0)
    network = UNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=2,
        channels=[16, 32, 64, 128, 256],
        strides=[2, 2, 2, 2],
        num_res_units=2,
        norm="BATCH",
    ).eval()
    coarse = torch.randn(1, 1, 24, 24, 20)
    image = torch.nn.functional.interpolate(coarse, (192, 192, 160), mode="trilinear")
    with torch.inference_mode():  # both classes appear, as in a trained network's answer
        said = network(image[:, :, :96, :96, :96])
        network.model[-1][-1].conv.unit0.conv.bias[0] += (said[:, 1] - said[:, 0]).median()
    return _beside("unet, windows of 96, 192 x 192 x 160", network, image, (96, 96, 96))


def _brain() -> list[Row]:
    """Measure the bundle's own network over its own windows on a phantom's head."""
    parts = build(read_bundle(BUNDLE), CPU)
    volume = head_mr(seed=0)
    image = Image(volume.voxels_kji, volume.affine_lps)
    with torch.inference_mode():
        ready = plain(parts.preprocess({"image": volume_tensor([image])})["image"])[None]
    window = tuple(parts.inferer.roi_size)  # type: ignore[union-attr]
    return _beside("mr_brain, its own windows, a head", parts.network, ready, window)


def _beside(
    what: str, network: torch.nn.Module, image: torch.Tensor, window: tuple[int, ...]
) -> list[Row]:
    peers = {
        1: SlidingWindowInferer(window, 1, 0.25),
        4: SlidingWindowInferer(window, 4, 0.25),
    }
    sliding = Sliding(window, (0.25, 0.25, 0.25))
    chosen = Chosen(network, CPU, key=what)
    with torch.inference_mode():
        first_s, _ = _timed(lambda: slide(image, chosen, sliding))
        ours, theirs = [], {batch: [] for batch in peers}
        for _ in range(ROUNDS):
            took, answer = _timed(lambda: slide(image, chosen, sliding))
            ours.append(took)
            for batch, peer in peers.items():
                took, reference = _timed(lambda peer=peer: peer(image, network))
                theirs[batch].append(took)
        same = _dice(answer.argmax(1), reference.argmax(1))
    best = min(ours)
    backend = chosen.choice.backend if chosen.choice else "torch"
    made = []
    for batch, target in ((1, ONE), (4, FOUR)):
        peer_s = min(theirs[batch])
        made.append(
            Row(
                f"{what}; by {backend}",
                "s",
                round(best, 3),
                f"MONAI, sw_batch_size={batch}",
                round(peer_s, 3),
                round(peer_s / best, 2),
                f">= {target:.0f} x",
                peer_s / best >= target,
            )
        )
    return [
        *made,
        Row(f"{what}, Dice", "", round(same, 5), target=f">= {DICE}", met=same >= DICE),
        Row(f"{what}, the first time, choosing", "s", round(first_s, 3)),
    ]


def _stitch() -> list[Row]:
    """Measure the memory of stitching many classes of a large image, in a process of its own."""
    asked = multiprocessing.get_context("spawn")
    with asked.Pool(1) as pool:
        peak_gb, took = pool.apply(_stitch_alone)
    return [
        Row(
            f"{CLASSES} classes on {' x '.join(map(str, LARGE))}, peak memory",
            "GB",
            round(peak_gb, 2),
            target=f"<= {MEMORY_GB:.0f} GB",
            met=peak_gb <= MEMORY_GB,
        ),
        Row("the same, stitching with a network that does next to nothing", "s", round(took, 1)),
    ]


def _stitch_alone() -> tuple[float, float]:
    torch.set_num_threads(THREADS)
    image = torch.zeros((1, 1, *LARGE))
    weights = torch.linspace(-1, 1, CLASSES)[None, :, None, None, None]
    answer = torch.empty((1, CLASSES, 96, 96, 96))
    with torch.inference_mode():
        took, _ = _timed(
            lambda: slide(
                image,
                lambda windows: torch.mul(windows, weights, out=answer),
                Sliding((96, 96, 96), (0.25, 0.25, 0.25), "gaussian"),
                finish="argmax",
            )
        )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, took


def _overhead() -> list[Row]:
    """Measure what a prediction of 300 slices takes beside its forward passes."""
    predictor = Predictor(read_bundle(BUNDLE), device="cpu", threads=THREADS)
    volume = head_mr(seed=0)
    voxels = torch.from_numpy(volume.voxels_kji.astype(np.float32))[None, None]
    large = torch.nn.functional.interpolate(voxels, (300, 512, 512), mode="trilinear")[0, 0]
    scale = np.array(volume.voxels_kji.shape) / np.array(large.shape)
    affine_lps = volume.affine_lps.copy()
    affine_lps[:3, :3] = affine_lps[:3, :3] * scale
    found = [predictor.predict(large.numpy(), affine_lps) for _ in range(ROUNDS)]
    least = min(each.total_s - each.forward_s for each in found)
    return [
        Row(
            "a prediction of 300 slices of 512 x 512, beside the forward passes",
            "s",
            round(least, 3),
            target="<= 0.4 s",
            met=least <= 0.4,
        )
    ]


def _timed(run: Callable[[], torch.Tensor]) -> tuple[float, torch.Tensor]:
    gc.collect()
    begun = time.perf_counter()
    answer = run()
    return time.perf_counter() - begun, answer


def _dice(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def main() -> None:
    """Measure, print and write the table."""
    about = machine()
    publish("inference", rows(), about)


if __name__ == "__main__":
    main()
