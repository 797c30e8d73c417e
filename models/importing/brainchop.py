"""brainchop's folders of MeshNets made into bundles.

What brainchop does around the network, and the bundle's transforms do likewise:

- the head is conformed: axes to left, inferior, anterior; 1 mm; 256 voxels a side. brainchop hands
  tensors on with the first axis last and transposes them again, so that the network sees (i, j, k)
  as MONAI's transforms give it.
- intensities: its viewer cuts the brightest 0.1 % of what is not black and spreads the rest over 0
  to 1. Models that say in model.json that they want quantiles get 5 % and 95 % of all voxels as 0
  and 1, not cut.
- the rest of the black is cut away, but for a margin that the networks were trained with.

Networks with instance normalisation see the whole 256 voxels: what is cut away would change them.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch

from dicom.codes import Rgb
from dicom.errors import CannotImport
from models.importing.codebook import Codebook
from models.importing.draft import About, Json, write_model
from models.importing.meshnet import Converted, convert_meshnet
from models.importing.tfjs import MODEL, read_labels

SIDE = 256
MARGIN = 18
# Above it, probabilities of all classes at the source's size are too much for a small machine:
# labels are brought back instead, to the nearest voxel.
MOST_SMOOTH = 4


def write_brainchop(root: Path, folder: Path, about: About, codebook: Codebook) -> None:
    """Write the bundle of a brainchop folder into a draft.

    Parameters
    ----------
    root : Path
        The draft.
    folder : Path
        With model.json, its weights, and a colormap*.json that names the classes.
    about : About
        Who it is.
    codebook : Codebook
        Codes of the classes; those without a name are called ``class 1``, ``class 2`` ...

    Raises
    ------
    CannotImport
        When it is no MeshNet of one image.
    MissingCodes
        Naming the classes without codes.
    """
    converted = convert_meshnet(folder)
    if converted.architecture.in_channels != 1:
        raise CannotImport(f"the network takes {converted.architecture.in_channels} images, not 1")
    names, colours = _classes(folder, converted.architecture.out_channels)
    segments = codebook.segments(names, colours)
    (root / "models").mkdir()
    torch.save(converted.state, root / "models" / "model.pt")
    write_model(
        root,
        about,
        segments,
        configuration(converted, quantiles=wants_quantiles(folder)),
        inputs=["image"],
        outputs=["background", *(segment.label for segment in segments)],
    )


def wants_quantiles(folder: Path) -> bool:
    """Return whether the comment in a model.json asks for intensities by quantiles."""
    comment = json.loads((folder / MODEL).read_bytes()).get("_comment", "")
    return "quantile" in str(comment).casefold()


def configuration(converted: Converted, *, quantiles: bool) -> dict[str, Json]:
    """Return the inference.json of a converted network."""
    architecture = converted.architecture
    arguments: dict[str, Json] = {**asdict(architecture), "dilations": [*architecture.dilations]}
    cut = {"_target_": "CropForegroundd", "keys": "image", "source_key": "image"}
    percentiles: dict[str, Json] = {
        "_target_": "ScaleIntensityRangePercentilesd",
        "keys": "image",
        "lower": 5.0 if quantiles else 0.0,
        "upper": 95.0 if quantiles else 99.9,
        "b_min": 0.0,
        "b_max": 1.0,
        "clip": not quantiles,
    }
    steps: list[Json] = [
        {"_target_": "LoadImaged", "keys": "image"},
        {"_target_": "EnsureChannelFirstd", "keys": "image"},
        {"_target_": "Orientationd", "keys": "image", "axcodes": "LIA", "labels": None},
        {"_target_": "Spacingd", "keys": "image", "pixdim": [1.0] * 3, "mode": "bilinear"},
        {"_target_": "ResizeWithPadOrCropd", "keys": "image", "spatial_size": [SIDE] * 3},
    ]
    if quantiles:  # shares of the whole cube, the black around the head included
        steps += [percentiles, {**cut, "margin": MARGIN}]
    elif architecture.instance_norm:
        steps.append(percentiles)
    else:
        margin: Json = {"_target_": "BorderPadd", "keys": "image", "spatial_border": MARGIN}
        steps += [{**cut}, percentiles, margin]
    return {
        "bundle_root": ".",
        "output_dir": "$@bundle_root + '/output'",
        "network_def": {"_target_": "models.networks.MeshNet", **arguments},
        "preprocessing": {"_target_": "Compose", "transforms": steps},
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": _after(smooth=architecture.out_channels <= MOST_SMOOTH),
        },
    }


def _after(*, smooth: bool) -> list[Json]:
    """Return the steps from logits to labels on the source's grid."""
    choose: Json = {"_target_": "AsDiscreted", "keys": "pred", "argmax": True}
    back: Json = {
        "_target_": "Invertd",
        "keys": "pred",
        "transform": "@preprocessing",
        "orig_keys": "image",
        "nearest_interp": not smooth,
        "to_tensor": True,
    }
    probabilities: Json = {"_target_": "Activationsd", "keys": "pred", "softmax": True}
    save: Json = {"_target_": "SaveImaged", "keys": "pred", "output_dir": "@output_dir"}
    return [probabilities, back, choose, save] if smooth else [choose, back, save]


def _classes(folder: Path, count: int) -> tuple[dict[int, str], dict[int, Rgb]]:
    """Return names and colours of the classes but the background, by their channel."""
    labels = read_labels(folder, count)
    if labels is None:
        return {number: f"class {number}" for number in range(1, count)}, {}
    names = {number: name for number, (name, _) in enumerate(labels) if number}
    return names, {number: rgb for number, (_, rgb) in enumerate(labels) if number}
