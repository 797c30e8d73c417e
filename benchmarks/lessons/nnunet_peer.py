"""nnU-Net's side of the comparison, in a process of its own: it talks much, and wants a folder.

It plans and prepares the raw data there, prints its plan as a line of JSON, and then, for each line
that it reads, trains two epochs and prints when the steps of the second began.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from contextlib import redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch

DATASET: Final = "Dataset001_Speed"
FILES: Final = ".nrrd"
CONFIGURATION: Final = "2d"


def main() -> None:
    """Say the plan, then train whenever a line comes."""
    asked: dict[str, Any] = json.loads(sys.argv[1])
    work = Path(asked["folder"])
    for name in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{name}"] = str(work / name)
    os.environ.update(nnUNet_n_proc_DA=str(asked["workers"]))
    torch.set_num_threads(asked["threads"])
    answers = sys.stdout
    with redirect_stdout(sys.stderr):
        architecture = _prepare(work, tuple(asked["patch"]), asked["batch"])
        trainer = _trainer(asked["steps"])
        trainer.initialize()
        said = {
            "version": version("nnunetv2"),
            "parameters": sum(one.numel() for one in trainer.network.parameters()),
            "channels": architecture["features_per_stage"],
            "strides": architecture["strides"],
        }
        print(json.dumps(said), file=answers, flush=True)
        for _ in sys.stdin:
            print(json.dumps(_steps_of_second_epoch(asked["steps"])), file=answers, flush=True)


def _prepare(work: Path, patch: tuple[int, ...], batch: int) -> dict[str, Any]:
    """Plan as for images of the patch's size, and prepare the images; return the network's plan."""
    from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import (
        DatasetFingerprintExtractor,
    )
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import (
        ExperimentPlanner,
    )
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    raw, prepared = work / "raw" / DATASET, work / "preprocessed" / DATASET
    DatasetFingerprintExtractor(DATASET, num_processes=1).run()
    planner = ExperimentPlanner(DATASET)
    plans = planner.plan_experiment()
    whole = plans["configurations"][CONFIGURATION]
    images = [*(raw / "imagesTr").iterdir()]
    voxels = float(math.prod(plans["original_median_shape_after_transp"]) * len(images))
    chosen = planner.get_plans_for_configuration(
        whole["spacing"], patch, whole["data_identifier"], voxels, {}
    )
    if tuple(chosen["patch_size"]) != patch:
        raise SystemExit(f"nnU-Net plans a patch of {chosen['patch_size']}, not {patch}")
    network: dict[str, Any] = chosen["architecture"]["arch_kwargs"]
    whole |= {"patch_size": list(patch), "batch_size": batch}
    whole["architecture"] = chosen["architecture"]
    planner.save_plans(plans)
    manager = PlansManager(str(prepared / f"{planner.plans_identifier}.json"))
    configuration = manager.get_configuration(CONFIGURATION)
    about = json.loads((raw / "dataset.json").read_text())
    folder = prepared / configuration.data_identifier
    folder.mkdir()
    preprocessor = configuration.preprocessor_class(verbose=False)
    for label in sorted((raw / "labelsTr").iterdir()):
        image = raw / "imagesTr" / f"{label.stem}_0000{FILES}"
        target = str(folder / label.stem)
        preprocessor.run_case_save(target, [str(image)], str(label), manager, configuration, about)
    return network


def _trainer(steps: int) -> Any:  # noqa: ANN401 - nnU-Net's own trainer
    from nnunetv2.run.run_training import get_trainer_from_args

    trainer = get_trainer_from_args(DATASET, CONFIGURATION, "all", device=torch.device("cpu"))
    trainer.num_epochs = 2
    trainer.num_iterations_per_epoch = steps
    trainer.num_val_iterations_per_epoch = 1
    trainer.disable_checkpointing = True
    return trainer


def _steps_of_second_epoch(steps: int) -> list[float]:
    """Train two epochs; return when the second one's steps began, in seconds."""
    trainer = _trainer(steps)
    began: list[float] = []
    learn = trainer.train_step

    def noted(batch: dict[str, Any]) -> Any:  # noqa: ANN401 - as nnU-Net has it
        began.append(time.perf_counter())
        return learn(batch)

    trainer.train_step = noted
    trainer.run_training()
    return began[steps:]


if __name__ == "__main__":
    main()
