"""A network over an image: ours beside MONAI's sliding window, on the same weights and threads.

Ours and the peers run in turns, each part of the table in a process of its own; the best of several
counts. The first of ours, which chooses the back-end, is told as a row of its own.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import SimpleITK
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
from models.regrid import Along, interpolated
from models.sliding import Sliding, slide
from models.tensors import plain, volume_tensor

BUNDLE = Path(__file__).parents[1] / "models/bundles/mr_brain"
THREADS, ROUNDS, TAUGHT = 2, 3, 80
ONE, FOUR, GPU = 3.0, 2.0, 2.0
CLASSES, LARGE = 104, (512, 512, 600)
MEMORY_GB = 4.0
CPU = torch.device("cpu")


def rows() -> list[Row]:
    """Return every row of the table."""
    # Threads that wait sleep, as in the process that predicts in a node (models/process/owner.py).
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    parts = (_unet, _brain, _resampling, _stitch, _overhead, _unet_on_gpu)
    made = []
    for part in parts:
        with multiprocessing.get_context("spawn").Pool(1) as apart:
            made += apart.apply(_part, (part,))
    return made


def _part(part: Callable[[], list[Row]]) -> list[Row]:
    torch.set_num_threads(THREADS)
    return part()


def _unet() -> list[Row]:
    """Measure a plain U-Net over windows of 96, on the CPU."""
    return _beside("unet, windows of 96, 168 x 168 x 96", *_network_and_image(), (96, 96, 96))


def _unet_on_gpu() -> list[Row]:
    """Measure the same on a GPU, beside the same defaults in float32."""
    what = "unet, windows of 96, on a GPU"
    if not torch.cuda.is_available():
        return [Row(f"{what}: not measured, there was none", "s", None, target=f">= {GPU:.0f} x")]
    device = torch.device("cuda:0")
    network, image = _network_and_image()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    what = f"unet, windows of 96, on {torch.cuda.get_device_name(device)}"
    return _beside(what, network.to(device), image.to(device), (96, 96, 96), {1: GPU})


def _network_and_image() -> tuple[torch.nn.Module, torch.Tensor]:
    """Return a U-Net that was taught a little, and an image; both from a seed.

    It learns to tell a phantom's brain from the rest for a few dozen steps: what chance makes of
    weights is undecided in nearly every voxel, and no test of agreement.
    """
    torch.manual_seed(0)
    network = UNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=2,
        channels=[16, 32, 64, 128, 256],
        strides=[2, 2, 2, 2],
        num_res_units=2,
        norm="BATCH",
    )
    head = head_mr(seed=0, slices=100, size=128)
    image, brain = (
        torch.nn.functional.interpolate(
            torch.from_numpy(each.astype(np.float32))[None, None], (168, 168, 96), mode="trilinear"
        )
        for each in (head.voxels_kji / head.voxels_kji.max(), head.brain_kji)
    )
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    places = torch.Generator().manual_seed(0)
    for _ in range(TAUGHT):
        x, y, z = (int(torch.randint(0, n - 48, (), generator=places)) for n in image.shape[2:])
        block = (..., slice(x, x + 48), slice(y, y + 48), slice(z, z + 48))
        wanted = (brain[block][:, 0] > 0.5).long()
        loss = torch.nn.functional.cross_entropy(network(image[block]), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval(), image


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
    what: str,
    network: torch.nn.Module,
    image: torch.Tensor,
    window: tuple[int, ...],
    targets: Mapping[int, float] = MappingProxyType({1: ONE, 4: FOUR}),
) -> list[Row]:
    peers = {batch: SlidingWindowInferer(window, batch, 0.25) for batch in targets}
    sliding = Sliding(window, (0.25, 0.25, 0.25))
    chosen = Chosen(network, image.device, key=what)
    with torch.inference_mode():
        first, _ = _timed(lambda: slide(image, chosen, sliding, at_once=chosen.at_once))
        ours: list[_Took] = []
        theirs: dict[int, list[_Took]] = {batch: [] for batch in peers}
        for _ in range(ROUNDS):
            took, answer = _timed(lambda: slide(image, chosen, sliding, at_once=chosen.at_once))
            ours.append(took)
            for batch, peer in peers.items():
                took, reference = _timed(lambda peer=peer: peer(image, network))
                theirs[batch].append(took)
        same = _dice(answer.argmax(1), reference.argmax(1))
    best = _best(ours)
    backend = chosen.choice.backend if chosen.choice else "torch"
    made = []
    for batch, target in targets.items():
        named, of_peer = f"MONAI, sw_batch_size={batch}", _best(theirs[batch])
        ratio = of_peer.s / best.s
        made += [
            Row(
                f"{what}; by {backend}",
                "s",
                round(best.s, 3),
                named,
                round(of_peer.s, 3),
                round(ratio, 2),
                f">= {target:.0f} x",
                ratio >= target,
            ),
            Row(
                f"{what}; processor time",
                "s",
                round(best.processor_s, 3),
                named,
                round(of_peer.processor_s, 3),
                round(of_peer.processor_s / best.processor_s, 2),
            ),
        ]
    return [
        *made,
        Row(f"{what}, Dice", "", round(same, 5), target=f">= {DICE}", met=same >= DICE),
        Row(f"{what}, the first time, choosing", "s", round(first.s, 3)),
    ]


def _resampling() -> list[Row]:
    """Measure the way to the network's grid beside SimpleITK's resampling, and how they differ."""
    volume = head_mr(seed=0)
    voxels = torch.from_numpy(volume.voxels_kji.astype(np.float32))[None, None]
    large = torch.nn.functional.interpolate(voxels, (300, 256, 256), mode="trilinear")[0, 0]
    source = large.numpy()
    step = 1.5
    size = [int((n - 1) / step) + 1 for n in source.shape]
    slices, rows, columns = (
        Along.at(np.arange(n) * step, count, "border")
        for n, count in zip(size, source.shape, strict=True)
    )
    image = SimpleITK.GetImageFromArray(source)
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(THREADS)
    reference = SimpleITK.Image(size[::-1], SimpleITK.sitkFloat32)
    reference.SetSpacing([step] * 3)
    ours, theirs = [], []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        found = interpolated(source, (slices, rows, columns), threads=THREADS)
        ours.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        expected = SimpleITK.Resample(image, reference, interpolator=SimpleITK.sitkLinear)
        theirs.append(time.perf_counter() - begun)
    apart = np.abs(found - SimpleITK.GetArrayViewFromImage(expected)).max() / np.ptp(source)
    what = f"resampling {' x '.join(map(str, source.shape))} to 1.5 mm, linear"
    best, peer = min(ours), min(theirs)
    return [
        Row(what, "s", round(best, 4), "SimpleITK", round(peer, 4), round(peer / best, 2)),
        Row(
            f"{what}, largest difference, of the range",
            "",
            float(f"{apart:.2g}"),
            target="<= 1e-05",
            met=bool(apart <= 1e-5),
        ),
    ]


def _stitch() -> list[Row]:
    """Measure the memory of stitching many classes of a large image: this whole process's peak."""
    peak_gb, took = _stitch_alone()
    return [
        Row(
            f"{CLASSES} classes on {' x '.join(map(str, LARGE))}, peak memory",
            "GB",
            round(peak_gb, 2),
            target=f"<= {MEMORY_GB:.0f} GB",
            met=peak_gb <= MEMORY_GB,
        ),
        Row("the same, stitching with a network that does next to nothing", "s", round(took.s, 1)),
        Row("the same, processor time", "s", round(took.processor_s, 1)),
    ]


def _stitch_alone() -> tuple[float, _Took]:
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


@dataclass(frozen=True, slots=True)
class _Took:
    """Seconds on the clock, and those of all threads on their processors."""

    s: float
    processor_s: float


def _timed(run: Callable[[], torch.Tensor]) -> tuple[_Took, torch.Tensor]:
    gc.collect()
    begun, worked = time.perf_counter(), time.process_time()
    answer = run()
    return _Took(time.perf_counter() - begun, time.process_time() - worked), answer


def _best(each: Sequence[_Took]) -> _Took:
    return _Took(min(took.s for took in each), min(took.processor_s for took in each))


def _dice(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def main() -> None:
    """Measure, print and write the table."""
    about = machine()
    publish("inference", rows(), about)


if __name__ == "__main__":
    main()
