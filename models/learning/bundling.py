"""A finished training as a MONAI bundle: what the node serves, and others can use too."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import asdict, dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import BaseModel

from models.bundle import Bundle, read_bundle
from models.learning.beginning import check_codes
from models.learning.cases import COLOUR, Dataset
from models.learning.networks import network_configuration
from models.learning.planning import Plan
from models.learning.preparing import intensity_steps, spatial_steps
from models.learning.run import Trained
from models.learning.trainer import best_weights

_OVERLAP: Final = 0.5
_SURE: Final = 0.3  # boxes that a detection tells of; those that are less sure are guesses
_FAMILY: Final = {"value": "123110", "scheme": "DCM", "meaning": "Artificial Intelligence"}
_MEASURES: Final = {"classification": "recall", "detection": "average precision at half overlap"}
_NO_LICENCE: Final = (
    "The licence of the data is not known. Do not pass these weights on before it is.\n"
)


@dataclass(frozen=True, slots=True)
class Title:
    """What a bundle is called, and what for.

    Attributes
    ----------
    name, version : str
        ``NAME@VERSION`` is the bundle's identity.
    title, description, intended_use : str
        For people.
    """

    name: str
    version: str
    title: str = ""
    description: str = ""
    intended_use: str = "To show and to correct on a screen, and for research."


def write_bundle(folder: Path, trained: Trained, dataset: Dataset, title: Title) -> Bundle:
    """Write the best weights of a training as a bundle, and read it back.

    Parameters
    ----------
    folder : Path
        Where bundles are; ``NAME@VERSION`` is made in it, whole or not at all.

    Raises
    ------
    CannotTrain
        When the dataset's classes have no codes: results could not be written.
    InvalidBundle
        When the name or version is none.
    FileExistsError
        When there is such a bundle: versions are not written over.
    """
    plan = trained.plan
    check_codes(dataset)
    target = folder / f"{title.name}@{title.version}"
    if target.exists():
        raise FileExistsError(f"{target.name} is there already")
    half = folder / f".{target.name}.part"
    shutil.rmtree(half, ignore_errors=True)
    for name in ("configs", "models", "docs"):
        (half / name).mkdir(parents=True)
    torch.save(best_weights(trained.run), half / "models" / "model.pt")
    _write_json(half / "configs" / "metadata.json", _metadata(plan, dataset, title, trained))
    _write_json(half / "configs" / "inference.json", _inference(plan))
    _write_json(half / "configs" / "train.json", plan.model_dump(mode="json"))
    (half / "docs" / "README.md").write_text(_readme(trained, dataset, title), encoding="utf-8")
    (half / "LICENSE").write_text(f"{dataset.licence}\n" if dataset.licence else _NO_LICENCE)
    half.replace(target)
    return read_bundle(target)


def _metadata(plan: Plan, dataset: Dataset, title: Title, trained: Trained) -> dict[str, Any]:
    chosen = trained.best.scores.mean
    names = dict(sorted(dataset.classes.items()))
    defined = {str(number): name for number, name in names.items()}
    if plan.task == "segmentation":
        defined = {"0": "background", **defined}
    elif plan.task == "multilabel":
        defined = {str(at): name for at, name in enumerate(names.values())}
    axes = ["*"] * plan.dimensions
    image = {
        "type": "image",
        "format": "magnitude",
        "num_channels": plan.in_channels,
        "spatial_shape": axes,
        "dtype": "float32",
        "value_range": [0, 1],
        "is_patch_data": plan.task != "classification",
        "channel_def": {str(at): name for at, name in enumerate(dataset.channels)},
    }
    said = {
        "type": "probabilities",
        "format": plan.task if plan.task in _MEASURES else "segmentation",
        "num_channels": plan.out_channels,
        "spatial_shape": axes,
        "dtype": "float32",
        "value_range": [0, 1],
        "is_patch_data": plan.task != "classification",
        "channel_def": defined,
    }
    return {
        "version": title.version,
        "changelog": {title.version: f"learnt from {dataset.identity}"},
        "monai_version": installed("monai"),
        "pytorch_version": torch.__version__.split("+")[0],
        "numpy_version": installed("numpy"),
        "name": title.title or title.name,
        "task": plan.task,
        "description": title.description,
        "authors": "radloop",
        "copyright": dataset.licence,
        "data_source": dataset.source,
        "intended_use": title.intended_use,
        "eval_metrics": {"validation": chosen} if math.isfinite(chosen) else {},
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": said}},
        "radloop": _table(plan, dataset, title, trained),
    }


def _table(plan: Plan, dataset: Dataset, title: Title, trained: Trained) -> dict[str, Any]:
    table: dict[str, Any] = {
        "task": "classification" if plan.task == "classification" else "segmentation",
        "dimensions": f"{plan.dimensions}d",
        "suits": {"modalities": list(dataset.modalities) or ["OT"], "min_slices": 1},
        "algorithm": {"name": f"radloop {title.name}"[:64], "family": _FAMILY},
        "provenance": {
            "dataset": dataset.identity,
            "dataset_sha256": dataset.sha256,
            "seed": str(plan.seed),
            "epoch": str(trained.best_epoch),
            "steps": str(trained.best.step),
        },
    }
    if plan.task == "detection":
        table["task"] = "detection"
        table["findings"] = [row.model_dump(mode="json") for row in dataset.findings]
        table["min_score"] = _SURE
    elif dataset.findings:
        table["findings"] = [row.model_dump(mode="json") for row in dataset.findings]
        table["activation"] = "softmax"
    else:
        table["segments"] = [row.model_dump(mode="json") for row in dataset.segments]
        table["overlapping"] = plan.task == "multilabel"
        names = {row.number: row.label for row in dataset.segments}
        first = 0 if plan.task == "multilabel" else 1
        channels = {str(first + at): names[number] for at, number in enumerate(sorted(names))}
        table["channels"] = {**({} if first == 0 else {"0": "background"}), **channels}
    for name in ("question", "after", "without"):
        said = getattr(dataset, name)
        if said is not None:
            table[name] = (
                said.model_dump(mode="json") if isinstance(said, BaseModel) else asdict(said)
            )
    if dataset.channels == COLOUR:
        table["inputs"] = [{"name": "image", "key": "image", "colour": True}]
    return table


def _inference(plan: Plan) -> dict[str, Any]:
    before = [
        {"_target_": "LoadImaged", "keys": "image"},
        {"_target_": "EnsureChannelFirstd", "keys": "image"},
        *spatial_steps(plan),
        *intensity_steps(plan),
    ]
    inferer: dict[str, Any] = {"_target_": "SimpleInferer"}
    after: list[dict[str, Any]] = []
    if plan.typical_box is not None:
        inferer = {
            "_target_": "CentreInferer",
            "labels": list(range(1, plan.classes + 1)),
            "typical_box": list(plan.typical_box),
            "roi_size": list(plan.patch),
        }
    elif plan.task != "classification":
        inferer = {
            "_target_": "SlidingWindowInferer",
            "roi_size": list(plan.patch),
            "sw_batch_size": 1 if plan.dimensions == 3 else 4,
            "overlap": _OVERLAP,
            "mode": "gaussian",
        }
        overlap = plan.task == "multilabel"
        activation = {"sigmoid": True} if overlap else {"softmax": True}
        back = {
            "_target_": "Invertd",
            "keys": "pred",
            "transform": "@preprocessing",
            "orig_keys": "image",
            "nearest_interp": False,
            "to_tensor": True,
        }
        decided = {"threshold": 0.5} if overlap else {"argmax": True}
        after = [
            {"_target_": "Activationsd", "keys": "pred", **activation},
            *([back] if spatial_steps(plan) else []),
            {"_target_": "AsDiscreted", "keys": "pred", **decided},
        ]
    return {
        "imports": ["$import torch"],
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "network_def": network_configuration(plan),
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": before},
        "inferer": inferer,
        "postprocessing": {"_target_": "Compose", "transforms": after},
    }


def _readme(trained: Trained, dataset: Dataset, title: Title) -> str:
    best, plan = trained.best, trained.plan
    rows = "\n".join(
        f"| {dataset.classes[int(number)]} | {score:.3f} |"
        for number, score in best.scores.classes.items()
    )
    counts = {split: len(dataset.of(split)) for split in ("train", "validation", "test")}
    measure = _MEASURES.get(plan.task, "Dice")
    return f"""# {title.title or title.name}

{title.description}

- Learnt from `{dataset.identity}` (sha256 `{dataset.sha256[:16]}...`): {counts["train"]} cases,
  chosen on {counts["validation"]}; {counts["test"]} left aside for testing.
- Source of the data: {dataset.source or "not recorded"}
- Licence of the data: {dataset.licence or "not recorded"}
- Intended use: {title.intended_use}
- Seed {plan.seed}, {best.step} steps, epoch {best.number}.

| on the validation split | {measure} |
|---|---|
{rows}

These figures chose the epoch, so they flatter it; `radloop evaluate` measures on the test split.
"""


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")
