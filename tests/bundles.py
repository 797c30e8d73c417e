"""Small bundles for tests, whole and real: MONAI loads them, torch runs them.

``write_threshold_bundle`` makes the one that most tests want: a network of one 1x1x1 convolution
that calls everything above a threshold brain. It resamples nothing and takes milliseconds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BRAIN = {
    "number": 1,
    "label": "Brain",
    "category": {"value": "91723000", "scheme": "SCT", "meaning": "Anatomical Structure"},
    "type": {"value": "12738006", "scheme": "SCT", "meaning": "Brain"},
    "region": None,
    "laterality": None,
    "rgb": [236, 152, 62],
}


def metadata(version: str = "0.1.0") -> dict[str, Any]:
    """The metadata.json of a bundle that finds the brain; tests change what they need."""
    return {
        "version": version,
        "name": "Threshold",
        "description": "Everything above a threshold.",
        "authors": "radloop's tests",
        "monai_version": "1.6.1",
        "pytorch_version": "2.13.0",
        "numpy_version": "2.0.0",
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": "magnitude",
                    "num_channels": 1,
                    "spatial_shape": ["*", "*", "*"],
                    "dtype": "float32",
                    "value_range": [0, 4095],
                    "is_patch_data": False,
                    "channel_def": {"0": "image"},
                }
            },
            "outputs": {
                "pred": {
                    "type": "image",
                    "format": "segmentation",
                    "num_channels": 2,
                    "spatial_shape": ["*", "*", "*"],
                    "dtype": "float32",
                    "value_range": [0, 1],
                    "is_patch_data": False,
                    "channel_def": {"0": "background", "1": "brain"},
                }
            },
        },
        "radloop": {
            "segments": [dict(BRAIN)],
            "suits": {"modalities": ["MR", "CT"], "min_slices": 1},
            "algorithm": {
                "name": "Threshold",
                "family": {
                    "value": "123110",
                    "scheme": "DCM",
                    "meaning": "Artificial Intelligence",
                },
            },
        },
    }


def inference(
    *,
    window: Sequence[int] | None = None,
    overlap: float = 0.25,
    spacing_mm: float | None = None,
    invert: bool = True,
    kernel: int = 1,
) -> dict[str, Any]:
    """The inference.json: one convolution of that many voxels, two channels, argmax.

    With `spacing_mm` the image is turned to RAS and resampled, and the answer brought back, by
    Invertd or, without `invert`, left to SaveImaged as many bundles do.
    """
    load = [
        {"_target_": "LoadImaged", "keys": "image"},
        {"_target_": "EnsureChannelFirstd", "keys": "image"},
    ]
    finish: list[dict[str, Any]] = [
        {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
        {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir"},
    ]
    if spacing_mm is not None:
        pixdim = [spacing_mm] * 3
        load.append({"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"})
        load.append({"_target_": "Spacingd", "keys": "image", "pixdim": pixdim})
    if spacing_mm is not None and invert:
        back = {
            "_target_": "Invertd",
            "keys": "pred",
            "orig_keys": "image",
            "transform": "@preprocessing",
            "nearest_interp": False,
        }
        finish.insert(0, back)
    inferer: dict[str, Any] = {"_target_": "SimpleInferer"}
    if window is not None:
        inferer = {
            "_target_": "SlidingWindowInferer",
            "roi_size": list(window),
            "overlap": overlap,
        }
    return {
        "imports": ["$import glob"],
        "output_dir": "/nowhere",
        "dataset": {"_target_": "Dataset", "data": "$glob.glob('*')"},
        "preprocessing": {"_target_": "Compose", "transforms": load},
        "network_def": {
            "_target_": "torch.nn.Conv3d",
            "in_channels": 1,
            "out_channels": 2,
            "kernel_size": kernel,
            "padding": kernel // 2,
        },
        "inferer": inferer,
        "postprocessing": {"_target_": "Compose", "transforms": finish},
    }


def write_bundle(
    folder: Path,
    name: str,
    metadata: dict[str, Any],
    inference: dict[str, Any],
    state: dict[str, Any],
) -> Path:
    """Write a bundle of these parts, `state` as models/model.pt; return its folder."""
    import torch  # so that a test which only names a bundle does not wait for torch

    root = folder / name
    for part in ("configs", "models", "docs"):
        (root / part).mkdir(parents=True)
    (root / "configs/metadata.json").write_text(json.dumps(metadata, indent=2))
    (root / "configs/inference.json").write_text(json.dumps(inference, indent=2))
    torch.save(state, root / "models/model.pt")
    (root / "docs/README.md").write_text(f"# {name}\n\nMade by a test.\n")
    (root / "LICENSE").write_text("Apache-2.0\n")
    return root


def write_threshold_bundle(
    folder: Path,
    name: str = "threshold",
    version: str = "0.1.0",
    threshold: float = 100.0,
    **configuration: Any,
) -> Path:
    """Write a bundle that calls every voxel above `threshold` brain; return its folder.

    `configuration` goes to :func:`inference`.
    """
    return write_bundle(
        folder, name, metadata(version), inference(**configuration), threshold_state(threshold)
    )


def write_kidney_bundle(folder: Path, side: str) -> Path:
    """Write a threshold bundle for PET that calls all that it finds the kidney of one side."""
    root = write_threshold_bundle(folder, f"kidney_{side}", threshold=200.0)
    path = root / "configs/metadata.json"
    document = json.loads(path.read_text())
    laterality = {"value": "7771000", "scheme": "SCT", "meaning": "Left"}
    if side == "right":
        laterality = {"value": "24028007", "scheme": "SCT", "meaning": "Right"}
    document["radloop"]["segments"][0].update(
        label="Kidney",
        type={"value": "64033007", "scheme": "SCT", "meaning": "Kidney"},
        laterality=laterality,
    )
    document["radloop"]["suits"]["modalities"] = ["PT"]
    document["network_data_format"]["outputs"]["pred"]["channel_def"]["1"] = "kidney"
    path.write_text(json.dumps(document))
    return root


def write_slow_bundle(folder: Path, name: str = "slow", version: str = "0.1.0") -> Path:
    """Write a threshold bundle that takes one small window per voxel: half a minute for 40^3."""
    return write_threshold_bundle(folder, name, version, window=(4, 4, 4), overlap=0.9)


def threshold_state(
    threshold: float, *, kernel: int = 1, at: tuple[int, int, int] = (0, 0, 0)
) -> dict[str, Any]:
    """Weights: channel 0 is nought, channel 1 the image at offset `at`, less the threshold."""
    import torch

    weight = torch.zeros(2, 1, kernel, kernel, kernel)
    middle = kernel // 2
    weight[1, 0, middle + at[0], middle + at[1], middle + at[2]] = 1.0
    return {"weight": weight, "bias": torch.tensor([0.0, -float(threshold)])}


LESION = {**BRAIN, "number": 2, "label": "Lesion"}
NODULE = {
    "number": 0,
    "label": "Nodule",
    "code": {"value": "27925004", "scheme": "SCT", "meaning": "Nodule"},
}
CLEAR = {
    "number": 1,
    "label": "Clear",
    "code": {"value": "17621005", "scheme": "SCT", "meaning": "Normal"},
}


def write_scripted_bundle(
    folder: Path,
    name: str,
    network: Any,
    *,
    table: dict[str, Any],
    channels: Sequence[str] = ("background", "brain"),
    in_channels: int = 1,
    dimensions: int = 3,
    **parts: Any,
) -> Path:
    """Write a bundle of any kind around a module that torch can script; return its folder.

    `table` goes into configs/radloop.json, over what every table needs; `channels` name the
    network's outputs; `parts` stand for sections of inference.json.
    """
    import torch

    document = metadata()
    own = document.pop("radloop")
    if table.get("task") in ("classification", "detection"):
        own.pop("segments")
    image = document["network_data_format"]["inputs"]["image"]
    image.update(num_channels=in_channels, spatial_shape=["*"] * dimensions)
    document["network_data_format"]["outputs"]["pred"].update(
        num_channels=len(channels), channel_def={str(n): each for n, each in enumerate(channels)}
    )
    configuration = {**inference(), **parts}
    configuration.pop("network_def", None)
    root = write_bundle(folder, name, document, configuration, {})
    (root / "models/model.pt").unlink()
    torch.jit.script(network).save(str(root / "models/model.ts"))
    (root / "configs/radloop.json").write_text(json.dumps({**own, **table}))
    return root


def steps(*last: dict[str, Any]) -> dict[str, Any]:
    """A chain of transforms, as a section of inference.json has it."""
    return {"_target_": "Compose", "transforms": list(last)}
