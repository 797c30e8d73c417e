"""Samples a second of the trainer, beside MONAI's usual way: one network, one data; and two ranks.

The comparison with nnU-Net is :mod:`benchmarks.lessons.nnunet`.

The peer is MONAI's CacheDataset, DataLoader and SupervisedTrainer as their documentation uses them,
with the same images, patch, batch, optimiser and loss, and the same kinds of augmentation. They are
measured in turns; the best of several counts, since others use the machine. MONAI's engines need
pytorch-ignite, which radloop does not: `pip install --no-deps --target FOLDER pytorch-ignite`, and
``PYTHONPATH=FOLDER make bench B=learning PART=speed``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from benchmarks.lessons import nnunet
from benchmarks.lessons.common import SEED, Clock, changed
from benchmarks.lessons.retina import network
from benchmarks.table import Row
from models.learning.cases import (
    Case,
    Dataset,
    DatasetFolder,
    read_dataset,
    write_array,
    write_dataset,
)
from models.learning.graph import Graph, read_graph
from models.learning.networks import build_loss, build_network
from models.learning.planning import Plan, make_plan
from models.learning.trainer import train
from tests.learning import SEGMENTS

CASES, SIDE, PATCH, BATCH, ROUNDS, STEPS = 12, 512, 128, 8, 3, 24
FASTER, WAITING, RANKS = 1.2, 0.10, 1.7
WIDE: Final = (32, 64, 128, 256)
_NOT_MEASURED: Final = {
    "beside MONAI's defaults on a GPU": "this benchmark learns on the processor",
}
GRAPH: Final[dict[str, Any]] = {
    "node": [
        {"name": "images", "kind": "source"},
        {"name": "columns", "kind": "flip", "from": ["images"], "axes": ["columns"]}
        | {"probability": 0.5},
        {"name": "rows", "kind": "flip", "from": ["columns"], "axes": ["rows"], "probability": 0.5},
        {"name": "turned", "kind": "rotate", "from": ["rows"], "degrees": [-15, 15]}
        | {"probability": 0.3},
        {"name": "greys", "kind": "intensity", "from": ["turned"], "gamma": [0.7, 1.4]}
        | {"probability": 0.5},
        {"name": "noisy", "kind": "noise", "from": ["greys"], "share": [0, 0.1]}
        | {"probability": 0.3},
        {"name": "train", "kind": "sink", "from": ["noisy"]},
    ]
}


def rows(work: Path) -> Iterator[Row]:
    """Yield the rates side by side, then two ranks beside one."""
    folder, graph = _dataset(work), read_graph(GRAPH)
    mixed = _plan(folder)
    single = changed(mixed, precision="single")
    clock = Clock()
    has_peer = find_spec("ignite") is not None
    ours, exact, theirs, waited = [], [], [], []
    for turn in range(ROUNDS):
        for plan, found in ((mixed, ours), (single, exact)):
            rate, idle = _ours(folder, plan, graph, work / f"{plan.precision}{turn}", work)
            found.append(rate)
            if plan is mixed:
                waited.append(idle)
        if has_peer:
            theirs.append(_monai(folder, single))
    yield from _beside_monai(ours, exact, theirs, clock)
    yield Row(
        "speed: share of a step that waits for its batch, best of the turns",
        "",
        round(min(waited), 4),
        target=f"< {WAITING:.0%}",
        met=min(waited) < WAITING,
    )
    yield from _ranks(folder, mixed, work)
    yield from nnunet.rows(folder, mixed, work)
    for what, why in _NOT_MEASURED.items():
        yield Row(f"speed: {what} (not measured: {why})", "1/s", None, target=">= 2 x")


def _beside_monai(
    ours: list[float], exact: list[float], theirs: list[float], clock: Clock
) -> Iterator[Row]:
    what = f"speed: samples a second, 2D U-Net, {BATCH} x {PATCH} x {PATCH}, best of {ROUNDS}"
    peer = "MONAI CacheDataset, DataLoader, SupervisedTrainer"
    for name, found in (("as planned", ours), ("single precision", exact)):
        best = max(found)
        if not theirs:
            why = f"{what}, {name} (MONAI's trainer not measured: pytorch-ignite is not installed)"
            yield Row(why, "1/s", round(best, 2), target=f">= {FASTER} x")
            continue
        beside = max(theirs)
        yield Row(
            f"{what}, {name} ({clock.said()})",
            "1/s",
            round(best, 2),
            peer,
            round(beside, 2),
            round(best / beside, 2),
            f">= {FASTER} x" if found is ours else "",
            best / beside >= FASTER if found is ours else None,
        )


def _dataset(work: Path) -> DatasetFolder:
    """Return grey images with two kinds of blobs; their content does not matter here."""
    folder = work / "data"
    if (folder / "dataset.json").is_file():
        return read_dataset(folder)
    draw = np.random.default_rng(SEED)
    cases = []
    for number in range(CASES):
        image = draw.normal(0, 1, (1, 1, SIDE, SIDE)).astype(np.float32)
        label = (draw.random((1, SIDE // 32, SIDE // 32)).repeat(32, 1).repeat(32, 2) * 3) // 1
        name = f"c{number}"
        cases.append(
            Case(
                id=name,
                patient=name,
                split="train",
                shape=(1, SIDE, SIDE),
                image_sha256=write_array(folder, name, "image.npy", image),
                label_sha256=write_array(folder, name, "label.npy", label.astype(np.uint8)),
            )
        )
    write_dataset(
        folder,
        Dataset(
            name="speed",
            version="1",
            task="segmentation",
            classes={1: "Bright", 2: "Dark"},
            channels=("grey",),
            modalities=("MR",),
            segments=SEGMENTS,
            cases=tuple(cases),
        ),
    )
    return read_dataset(folder)


def _plan(folder: DatasetFolder) -> Plan:
    return changed(
        make_plan(folder, seed=SEED),
        patch=(PATCH, PATCH),
        batch=BATCH,
        labelled=0.0,
        network=network((16, 32, 64)).model_dump(mode="json", by_alias=True),
        steps=STEPS,
        steps_an_epoch=STEPS // 2,
    )


def _ours(
    folder: DatasetFolder, plan: Plan, graph: Graph, run: Path, work: Path
) -> tuple[float, float]:
    """Return samples a second of the second epoch, and the share of it that waited."""
    shutil.rmtree(run, ignore_errors=True)
    done = train(
        folder, plan, run, cache=work / "prepared", graph=graph, device=torch.device("cpu")
    )
    second = done.epochs[-1]
    return plan.steps_an_epoch * plan.batch / second.seconds, second.waited_s / second.seconds


def _monai(folder: DatasetFolder, plan: Plan) -> float:
    """Return samples a second of MONAI's own second epoch."""
    from monai.data import CacheDataset, DataLoader
    from monai.engines import SupervisedTrainer
    from monai.transforms import (
        Compose,
        RandAdjustContrastd,
        RandFlipd,
        RandGaussianNoised,
        RandRotated,
        RandSpatialCropd,
        ScaleIntensityRangePercentilesd,
        ToTensord,
    )

    both = ["image", "label"]
    items = [
        {
            "image": np.array(folder.image(case))[:, 0],
            "label": np.array(folder.label(case)).astype(np.float32),
        }
        for case in folder.dataset.cases
    ]
    before = ScaleIntensityRangePercentilesd("image", 0.5, 99.5, 0, 1, clip=True)
    way = Compose(
        [
            before,
            RandSpatialCropd(both, (PATCH, PATCH), random_size=False),
            RandFlipd(both, prob=0.5, spatial_axis=0),
            RandFlipd(both, prob=0.5, spatial_axis=1),
            RandRotated(both, range_x=0.26, prob=0.3, mode=["bilinear", "nearest"]),
            RandAdjustContrastd("image", prob=0.5, gamma=(0.7, 1.4)),
            RandGaussianNoised("image", prob=0.3, std=0.1),
            ToTensord(both),
        ]
    )
    # As many samples in an epoch as ours: each image several times.
    epoch = items * (plan.steps_an_epoch * plan.batch // len(items))
    data = CacheDataset(epoch, way, progress=False)
    torch.manual_seed(SEED)
    net = build_network(plan)
    began: list[float] = []
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=2,
        train_data_loader=DataLoader(data, batch_size=plan.batch, shuffle=True),
        network=net,
        optimizer=torch.optim.AdamW(net.parameters(), lr=plan.rate, weight_decay=plan.decay),
        loss_function=_whole_numbers(build_loss(plan)),
    )
    from ignite.engine import Events

    trainer.add_event_handler(Events.EPOCH_STARTED, lambda _: began.append(time.perf_counter()))
    trainer.run()
    return len(epoch) / (time.perf_counter() - began[-1])


def _whole_numbers(loss: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    return lambda logits, labels: loss(logits, labels.long())


def _ranks(folder: DatasetFolder, plan: Plan, work: Path) -> Iterator[Row]:
    """Yield samples a second of two ranks beside one, each of one thread.

    The net is wide enough to be bound by computing: beside it neither the makers of samples, which
    take of the same two cores, nor the gradients' way count for much.
    """
    wide = network(WIDE).model_dump(mode="json", by_alias=True)
    plan = changed(plan, network=wide)
    rates = {ranks: max(_launched(folder, plan, work, ranks) for _ in range(2)) for ranks in (1, 2)}
    yield Row(
        f"speed: samples a second, two gloo ranks on two cores, levels of {WIDE[0]} to {WIDE[-1]} "
        "channels",
        "1/s",
        round(rates[2], 2),
        "one rank",
        round(rates[1], 2),
        round(rates[2] / rates[1], 2),
        f">= {RANKS} x",
        rates[2] / rates[1] >= RANKS,
    )


def _launched(folder: DatasetFolder, plan: Plan, work: Path, ranks: int) -> float:
    """Train in ranks of their own processes; return samples a second of the second epoch."""
    run = work / f"ranks{ranks}"
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir(parents=True)
    (run / "plan.ask.json").write_text(plan.model_dump_json())
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(ranks), "-m", "benchmarks.lessons.rank"]
    done = subprocess.run(
        [*command, str(folder.root), str(run), str(work / "prepared")],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return max(float(line) for line in done.stdout.split())
