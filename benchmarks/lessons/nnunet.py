"""Samples a second of the trainer, beside nnU-Net v2's own: its plan, patch, batch and images.

nnU-Net plans its network for the patch; ours is the same U-Net as blocks: stages, channels, two
convolutions a stage, the first of them with a stride, instance norm, leaky ReLU, deep supervision.
It differs in that convolutions before a norm have no bias. Each has its own augmentation; ours
draws what nnU-Net draws as often, but knows no coarser copy. Each has its own optimiser and loss,
and as many makers of batches (processes there, threads here). nnU-Net learns in single precision on
a processor; so one of our rows does.

What counts are steps, with the waiting for their batches: neither validation nor checkpoints,
which are short beside nnU-Net's 250 steps, and would be long beside the few here. They are measured
in turns; the best of several counts. nnU-Net goes into a folder of its own, with what radloop lacks
(``pip install nnunetv2`` would bring another torch)::

    pip install --no-deps --target FOLDER nnunetv2 acvl-utils batchgenerators batchgeneratorsv2 \
        dynamic-network-architectures blosc2 ndindex numexpr msgpack connected-components-3d \
        einops pandas scikit-learn joblib cloudpickle narwhals threadpoolctl matplotlib contourpy \
        cycler fonttools kiwisolver pyparsing seaborn
    PYTHONPATH=FOLDER make bench B=learning PART=speed
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import SimpleITK as sitk
import torch

from benchmarks.lessons.common import Clock, changed
from benchmarks.lessons.nnunet_peer import DATASET, FILES
from benchmarks.table import Row
from models.designs.shapes import UNetShape, unet
from models.learning.cases import DatasetFolder
from models.learning.graph import read_graph
from models.learning.planning import Plan, trace_plan
from models.learning.trainer import train

TURNS, STEPS, WORKERS = 3, 5, 2
FASTER: Final = 2.0
_WHAT: Final = "speed: samples a second beside nnU-Net v2's epoch"
GRAPH: Final[dict[str, Any]] = {
    "node": [
        {"name": "images", "kind": "source"},
        {"name": "turned", "kind": "rotate", "from": ["images"], "degrees": [-180, 180]}
        | {"probability": 0.2},
        {"name": "noisy", "kind": "noise", "from": ["turned"], "share": [0, 0.3]}
        | {"probability": 0.1},
        {"name": "softer", "kind": "blur", "from": ["noisy"], "sigma": [0.5, 1]}
        | {"probability": 0.1},
        {"name": "brighter", "kind": "intensity", "from": ["softer"], "scale": [0.75, 1.25]}
        | {"probability": 0.15},
        {"name": "contrast", "kind": "intensity", "from": ["brighter"], "scale": [0.75, 1.25]}
        | {"shift": [-0.25, 0.25], "probability": 0.15},
        {"name": "greys", "kind": "intensity", "from": ["contrast"], "gamma": [0.7, 1.5]}
        | {"probability": 0.4},
        {"name": "columns", "kind": "flip", "from": ["greys"], "axes": ["columns"]}
        | {"probability": 0.5},
        {"name": "rows", "kind": "flip", "from": ["columns"], "axes": ["rows"], "probability": 0.5},
        {"name": "train", "kind": "sink", "from": ["rows"]},
    ]
}


def rows(folder: DatasetFolder, plan: Plan, work: Path) -> Iterator[Row]:
    """Yield the rates side by side, with our precision as planned, and in single precision.

    Parameters
    ----------
    folder : DatasetFolder
        Grey images of one slice.
    plan : Plan
        Whose patch and batch both learn with; its network is replaced.
    work : Path
    """
    if find_spec("nnunetv2") is None:
        yield _unmeasured("nnunetv2 is not installed")
        return
    clock = Clock()
    ours: dict[str, list[float]] = {"mixed": [], "single": []}
    theirs: list[float] = []
    try:
        with _peer(folder, plan, work / "nnunet") as (about, learn):
            like = _like(plan, about)
            for turn in range(TURNS):
                theirs.append(_rate(learn(), plan.batch))
                for precision, found in ours.items():
                    run = work / f"beside-nnunet-{precision}-{turn}"
                    found.append(_ours(folder, changed(like, precision=precision), run, work))
    except (BrokenPipeError, json.JSONDecodeError):
        yield _unmeasured("it ended; its log in the part's folder says why")
        return
    beside = max(theirs)
    sides = " x ".join(str(side) for side in plan.patch)
    channels = about["channels"]
    stages = f"{len(channels)} stages of {channels[0]} to {max(channels)} channels"
    parameters = f"{trace_plan(like).parameters:,} parameters beside {about['parameters']:,}"
    took = f"cpu, {torch.get_num_threads()} thread(s), {clock.seconds:.0f} s"
    for precision, found in ours.items():
        best = max(found)
        is_planned = precision == plan.precision
        yield Row(
            f"{_WHAT}, {stages}, {plan.batch} x {sides}, {parameters}, best of {TURNS}, "
            f"{'as planned' if is_planned else f'{precision} precision'} ({took})",
            "1/s",
            round(best, 2),
            f"nnU-Net {about['version']}, nnUNetTrainer",
            round(beside, 2),
            round(best / beside, 2),
            f">= {FASTER:g} x" if is_planned else "",
            best / beside >= FASTER if is_planned else None,
        )


def _unmeasured(why: str) -> Row:
    return Row(f"{_WHAT} (not measured: {why})", "1/s", None, target=f">= {FASTER:g} x")


@contextmanager
def _peer(folder: DatasetFolder, plan: Plan, work: Path) -> Iterator[tuple[dict[str, Any], Any]]:
    """Start nnU-Net; yield its plan, and what lets it learn and says when steps began."""
    shutil.rmtree(work, ignore_errors=True)
    for name in ("preprocessed", "results"):
        (work / name).mkdir(parents=True)
    _write_raw(folder, work / "raw" / DATASET)
    asked = {"folder": str(work), "patch": plan.patch, "batch": plan.batch, "steps": STEPS}
    asked |= {"workers": WORKERS, "threads": torch.get_num_threads()}
    command = [sys.executable, "-m", "benchmarks.lessons.nnunet_peer", json.dumps(asked)]
    with (
        (work / "log").open("w") as log,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        assert process.stdin is not None and process.stdout is not None
        questions, answers = process.stdin, process.stdout

        def learn() -> list[float]:
            questions.write("\n")
            questions.flush()
            began: list[float] = json.loads(answers.readline())
            return began

        yield json.loads(answers.readline()), learn  # it ends when nothing can be asked any more


def _write_raw(folder: DatasetFolder, raw: Path) -> None:
    """Write the cases as nnU-Net has them."""
    dataset = folder.dataset
    for part in ("imagesTr", "labelsTr"):
        (raw / part).mkdir(parents=True)
    for case in dataset.cases:
        image = sitk.GetImageFromArray(folder.image(case)[0])
        sitk.WriteImage(image, str(raw / "imagesTr" / f"{case.id}_0000{FILES}"))
        label = sitk.GetImageFromArray(folder.label(case))
        sitk.WriteImage(label, str(raw / "labelsTr" / f"{case.id}{FILES}"))
    about = {
        "channel_names": dict(enumerate(dataset.modalities)),
        "labels": {"background": 0, **{name: n for n, name in dataset.classes.items()}},
        "numTraining": len(dataset.cases),
        "file_ending": FILES,
    }
    (raw / "dataset.json").write_text(json.dumps(about))


def _like(plan: Plan, about: dict[str, Any]) -> Plan:
    """Return the plan with nnU-Net's network as blocks."""
    strides = tuple(tuple(by) for by in about["strides"][1:])  # the first stage has none
    design = unet(UNetShape(channels=about["channels"], strides=strides, deep=True, down="stride"))
    network = design.model_dump(mode="json", by_alias=True)
    return changed(plan, network=network, steps=2 * STEPS, steps_an_epoch=STEPS)


def _ours(folder: DatasetFolder, plan: Plan, run: Path, work: Path) -> float:
    """Return samples a second of our second epoch's steps."""
    shutil.rmtree(run, ignore_errors=True)
    began: list[float] = []

    def noted() -> bool:  # asked before each step
        began.append(time.perf_counter())
        return False

    train(
        folder,
        plan,
        run,
        cache=work / "prepared",
        graph=read_graph(GRAPH),
        device=torch.device("cpu"),
        workers=WORKERS,
        canceled=noted,
    )
    shutil.rmtree(run)
    return _rate(began[STEPS:], plan.batch)


def _rate(began: Sequence[float], batch: int) -> float:
    return batch * (len(began) - 1) / (began[-1] - began[0])
