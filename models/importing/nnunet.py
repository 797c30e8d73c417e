"""nnU-Net v2's results folders, TotalSegmentator's among them, made into bundles.

The bundle holds the weights of the folds as plain tensors, and in its inference.json what
:mod:`models.adapters.nnunet` needs of the plans.
"""

from __future__ import annotations

from pathlib import Path

import torch

from dicom.errors import CannotImport
from models.adapters.nnunet import ARCHITECTURES
from models.importing.codebook import Codebook
from models.importing.draft import About, Json, write_model
from models.importing.nnunet_results import PLANS, Plan, Results, read_weights


def write_nnunet(
    root: Path, results: Results, about: About, codebook: Codebook, *, mirroring: bool
) -> None:
    """Write the bundle of a results folder into a draft.

    Parameters
    ----------
    root : Path
        The draft.
    results : Results
        From :func:`models.importing.nnunet_results.read_results`.
    about : About
        Who it is.
    codebook : Codebook
        Codes of the classes.
    mirroring : bool
        Whether to average over mirrored copies, where the training says that it helps.

    Raises
    ------
    MissingCodes
        Naming the classes without codes.
    CannotImport
        When a checkpoint cannot be read as plain weights, or the folds do not fit together.
    """
    segments = codebook.segments(results.classes)
    state: dict[str, torch.Tensor] = {}
    mirrored: set[tuple[int, ...]] = set()
    for number, (fold, path) in enumerate(results.checkpoints.items()):
        weights, axes = read_weights(path, fold)
        mirrored.add(axes)
        state |= {f"folds.{number}.{name}": value for name, value in weights.items()}
    if len(mirrored) != 1:
        raise CannotImport("the folds were trained with different mirroring")
    (root / "models").mkdir()
    torch.save(state, root / "models" / "model.pt")
    write_model(
        root,
        about,
        segments,
        _configuration(results, mirrored.pop() if mirroring else ()),
        inputs=results.channels,
        outputs=_outputs(results),
        table={
            "values": {str(segment.number): segment.label for segment in segments},
            "inputs": [{"name": name} for name in results.channels],
        },
    )


def _outputs(results: Results) -> list[str]:
    """Return what each of the network's channels is."""
    if results.regions is not None:
        return [results.classes[label] for label in results.regions]
    names = {0: "background", **results.classes}
    return [names.get(number, f"label {number}") for number in range(max(names) + 1)]


def _configuration(results: Results, mirror_axes: tuple[int, ...]) -> dict[str, Json]:
    plan = results.plan
    architecture, arguments, imported = _architecture(plan)
    intensities: list[Json] = []
    for each in results.intensities:
        wanted = ("mean", "std", "percentile_00_5", "percentile_99_5")
        intensities.append({name: each[name] for name in wanted if name in each})
    prepare: Json = {
        "_target_": "models.adapters.NnunetPreprocessd",
        "keys": "image",
        "spacing_mm": [*plan.spacing],
        "transpose": [*results.transpose],
        "schemes": [*plan.normalization_schemes],
        "use_mask": [*plan.use_mask_for_norm],
        "intensities": intensities,
    }
    steps: list[Json] = [
        {"_target_": "LoadImaged", "keys": "image"},
        {"_target_": "EnsureChannelFirstd", "keys": "image"},
        {"_target_": "Orientationd", "keys": "image", "axcodes": results.axes, "labels": None},
        prepare,
    ]
    network: Json = {
        "_target_": "models.adapters.NnunetNetwork",
        "architecture": architecture,
        "arguments": arguments,
        "imported": [*imported],
        "in_channels": len(results.channels),
        "out_channels": len(_outputs(results)),
        "folds": len(results.checkpoints),
        "mirror_axes": [*mirror_axes],
    }
    regions: Json = None if results.regions is None else [*results.regions]
    restore: Json = {
        "_target_": "models.adapters.NnunetRestored",
        "keys": "pred",
        "regions": regions,
    }
    return {
        "network_def": network,
        "preprocessing": {"_target_": "Compose", "transforms": steps},
        "inferer": {
            "_target_": "models.adapters.EvenWindows",
            "roi_size": [*plan.patch_size],
            "overlap": 0.5,
        },
        "postprocessing": {"_target_": "Compose", "transforms": [restore]},
    }


def _architecture(plan: Plan) -> tuple[str, dict[str, Json], list[str]]:
    """Return the network's class, its arguments, and which of them are classes of torch."""
    if plan.architecture is not None:
        name = str(plan.architecture.get("network_class_name"))
        arguments = plan.architecture.get("arch_kwargs")
        imported = plan.architecture.get("_kw_requires_import")
        if not isinstance(arguments, dict) or not isinstance(imported, list):
            raise CannotImport(f"{PLANS}: architecture lacks its arguments")
        if ARCHITECTURES.fullmatch(name) is None:
            raise CannotImport(f"{PLANS}: the network {name} is none of nnU-Net's own")
        return name, arguments, [str(each) for each in imported]
    if plan.UNet_class_name is None:
        raise CannotImport(f"{PLANS}: it does not say which network it is")
    stages = len(plan.n_conv_per_stage_encoder)
    plain = plan.UNet_class_name == "PlainConvUNet"
    depth = "n_conv_per_stage" if plain else "n_blocks_per_stage"
    widest, base = plan.unet_max_num_features, plan.UNet_base_num_features
    older: dict[str, Json] = {
        "n_stages": stages,
        "features_per_stage": [min(base * 2**stage, widest) for stage in range(stages)],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[*each] for each in plan.conv_kernel_sizes],
        "strides": [[*each] for each in plan.pool_op_kernel_sizes],
        depth: [*plan.n_conv_per_stage_encoder],
        "n_conv_per_stage_decoder": [*plan.n_conv_per_stage_decoder],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    name = f"dynamic_network_architectures.architectures.unet.{plan.UNet_class_name}"
    return name, older, ["conv_op", "norm_op", "dropout_op", "nonlin"]
