"""nnU-Net v2's results folders, TotalSegmentator's among them, made into bundles.

A results folder is ``DatasetNNN_NAME/TRAINER__PLANS__CONFIGURATION/`` with dataset.json, plans.json
and ``fold_*/checkpoint_final.pth``. The bundle holds the weights of the folds as plain tensors, and
in its inference.json what :mod:`models.adapters.nnunet` needs of the plans.

nnU-Net does not record which way its training images lay: with mirrored training it hardly matters,
but left and right are told by it. So a person has to say it, but where the images were turned at
reading (NibabelIOWithReorient: RAS), or for TotalSegmentator (RAS).
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dicom.errors import CannotImport
from models.adapters.nnunet import ARCHITECTURES, Scheme
from models.importing.codebook import Codebook
from models.importing.draft import About, Json, write_model

DATASET, PLANS, CHECKPOINT = "dataset.json", "plans.json", "checkpoint_final.pth"
CONFIGURATIONS = ("3d_fullres", "3d_lowres")
Model = TypeVar("Model", bound=BaseModel)

_AXES = re.compile(r"(?=.*[LR])(?=.*[PA])(?=.*[IS])[LRPAIS]{3}")
_FOLDER = re.compile(r"Dataset(\d{3})_(.+)")
_TOTALSEGMENTATOR = re.compile(r"Dataset(\d{3})_TotalSeg")
_MR = re.compile(r"MRI?|T1\w*|T2\w*|FLAIR|ADC|DWI|PD\w*|DCE|noNorm_MR", re.IGNORECASE)
_MODALITIES = {"CT": "CT", "PET": "PT", "PT": "PT", "US": "US"}


class _Plan(BaseModel):
    model_config = ConfigDict(extra="ignore")

    patch_size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    preprocessor_name: Literal["DefaultPreprocessor"]
    normalization_schemes: tuple[Scheme, ...]
    use_mask_for_norm: tuple[bool, ...]
    resampling_fn_data: Literal["resample_data_or_seg_to_shape"]
    resampling_fn_probabilities: Literal["resample_data_or_seg_to_shape"]
    resampling_fn_data_kwargs: dict[str, Any]
    resampling_fn_probabilities_kwargs: dict[str, Any]
    architecture: dict[str, Any] | None = None
    previous_stage: str | None = None
    # Plans of nnU-Net before 2.5 spell the network out so.
    UNet_class_name: Literal["PlainConvUNet", "ResidualEncoderUNet"] | None = None
    UNet_base_num_features: int = 32
    unet_max_num_features: int = 320
    n_conv_per_stage_encoder: tuple[int, ...] = ()
    n_conv_per_stage_decoder: tuple[int, ...] = ()
    pool_op_kernel_sizes: tuple[tuple[int, ...], ...] = ()
    conv_kernel_sizes: tuple[tuple[int, ...], ...] = ()


class _Plans(BaseModel):
    transpose_forward: tuple[int, int, int]
    configurations: dict[str, dict[str, Any]]
    image_reader_writer: str = ""
    foreground_intensity_properties_per_channel: dict[str, dict[str, float]] = {}


class _Dataset(BaseModel):
    channel_names: Annotated[dict[str, str], Field(min_length=1)]
    labels: dict[str, int | list[int]]
    regions_class_order: tuple[int, ...] | None = None
    name: str = ""
    description: str = ""
    reference: str = ""


class _Known(BaseModel):
    task: str
    modality: str
    classes: dict[int, str]


@dataclass(frozen=True, slots=True, eq=False)
class Results:
    """An nnU-Net model as it lies in its folder, understood.

    Attributes
    ----------
    name, family, description, authors, licence : str
        For the bundle's description; the licence is empty where it is not known.
    modalities : tuple of str
        DICOM modalities, as far as the channels' names tell them.
    axes : str
        Which way the training images lay.
    channels : tuple of str
        What each channel of the input is.
    classes : Mapping of int to str
        Label in the answer to the model's name for it, the background left out.
    regions : tuple of int or None
        For a model that was trained on regions: the label of each output channel.
    plan, transpose, intensities
        As the plans say.
    checkpoints : Mapping of str to Path
        By fold.
    notes : Mapping of str to str
        For the bundle's provenance.
    """

    name: str
    family: str
    description: str
    authors: str
    licence: str
    modalities: tuple[str, ...]
    axes: str
    channels: tuple[str, ...]
    classes: Mapping[int, str]
    regions: tuple[int, ...] | None
    plan: _Plan
    transpose: tuple[int, ...]
    intensities: tuple[Mapping[str, float], ...]
    checkpoints: Mapping[str, Path]
    notes: Mapping[str, str] = field(default_factory=dict)


def is_results(folder: Path) -> bool:
    """Return whether a folder is a results folder."""
    return (folder / DATASET).is_file() and (folder / PLANS).is_file()


def results_below(folder: Path) -> list[Path]:
    """Return the results folders in a dataset's folder, or in one of datasets."""
    return sorted(
        path.parent for path in [*folder.glob(f"*/{PLANS}"), *folder.glob(f"*/*/{PLANS}")]
        if is_results(path.parent)
    )  # fmt: skip


def read_results(folder: Path, *, axes: str | None = None, folds: Sequence[str] = ()) -> Results:
    """Return what a results folder holds.

    Parameters
    ----------
    folder : Path
        Named TRAINER__PLANS__CONFIGURATION.
    axes : str, optional
        Which way the training images lay, such as ``RAS``, where that is not known.
    folds : sequence of str
        Which folds; empty for all that there are.

    Raises
    ------
    CannotImport
        When a file is missing or not understood, the configuration is no single 3D network, or
        nobody says which way the images lay.
    """
    dataset = _read(_Dataset, folder / DATASET)
    plans = _read(_Plans, folder / PLANS)
    trainer, *_, configuration = ["", *folder.name.split("__")][-3:]
    plan = _plan(plans, configuration)
    known = _known(folder.parent.name)
    axes = axes or ("RAS" if known or plans.image_reader_writer.endswith("Reorient") else None)
    if axes is None or _AXES.fullmatch(axes) is None:
        raise CannotImport(
            "nnU-Net does not record which way its training images lay; say it with --axes: RAS"
            " where they ran to right, anterior and superior, LPS, LAS ..."
        )
    channels = tuple(dataset.channel_names[str(n)] for n in range(len(dataset.channel_names)))
    if len({len(plan.normalization_schemes), len(plan.use_mask_for_norm), len(channels)}) != 1:
        raise CannotImport(f"{PLANS}: not one normalisation for each of {len(channels)} channels")
    regions = any(isinstance(label, list) for label in dataset.labels.values())
    if regions and dataset.regions_class_order is None:
        raise CannotImport(f"{DATASET}: regions_class_order is missing")
    match = _FOLDER.fullmatch(folder.parent.name)
    name = match[2] if match else dataset.name or folder.parent.name
    intensities = plans.foreground_intensity_properties_per_channel
    return Results(
        name=name,
        family="TotalSegmentator" if known else "nnU-Net v2",
        description=dataset.description or f"{name}, an nnU-Net of configuration {configuration}.",
        authors="TotalSegmentator" if known else dataset.reference[:64] or "unknown",
        licence="Apache-2.0" if known else "",
        modalities=(known.modality,) if known else _modalities(channels),
        axes=axes,
        channels=channels,
        classes=known.classes if known else _classes(dataset),
        regions=dataset.regions_class_order if regions else None,
        plan=plan,
        transpose=plans.transpose_forward,
        intensities=tuple(intensities.get(str(n), {}) for n in range(len(channels))),
        checkpoints=_checkpoints(folder, folds),
        notes={"trainer": trainer, "configuration": configuration, "axes": axes},
    )


def write_nnunet(
    root: Path, results: Results, about: About, codebook: Codebook, *, mirroring: bool
) -> None:
    """Write the bundle of a results folder into a draft.

    Parameters
    ----------
    root : Path
        The draft.
    results : Results
        From :func:`read_results`.
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
        weights, axes = _weights(path, fold)
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


def _architecture(plan: _Plan) -> tuple[str, dict[str, Json], list[str]]:
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


def _plan(plans: _Plans, configuration: str) -> _Plan:
    """Return one configuration, with what it inherits from others."""
    if configuration not in CONFIGURATIONS:
        raise CannotImport(
            f"the configuration {configuration!r} is not supported: {' or '.join(CONFIGURATIONS)}"
        )
    merged: dict[str, Any] = {}
    name: object = configuration
    seen: set[object] = set()
    while name is not None:
        own = plans.configurations.get(str(name))
        if own is None or name in seen:
            raise CannotImport(f"{PLANS}: there is no configuration {name}")
        seen.add(name)
        merged = {**own, **{key: v for key, v in merged.items() if key != "inherits_from"}}
        name = own.get("inherits_from")
    plan = _validated(_Plan, merged, f"{PLANS}: configurations.{configuration}")
    for kind, order, kwargs in (
        ("data", 3, plan.resampling_fn_data_kwargs),
        ("probabilities", 1, plan.resampling_fn_probabilities_kwargs),
    ):
        usual = {"is_seg": False, "order": order, "order_z": 0, "force_separate_z": None}
        if {**usual, **kwargs} != usual:
            raise CannotImport(f"{PLANS}: resampling of {kind} in a way that is not supported")
    return plan


def _classes(dataset: _Dataset) -> dict[int, str]:
    """Return each label's name; of regions those that are written last."""
    if dataset.regions_class_order is not None:
        regions = [
            name
            for name, labels in dataset.labels.items()
            if name != "ignore" and labels not in (0, [0])
        ]
        if len(regions) != len(dataset.regions_class_order):
            raise CannotImport(f"{DATASET}: regions_class_order does not fit the labels")
        return dict(zip(dataset.regions_class_order, regions, strict=True))
    return {
        label: name
        for name, label in dataset.labels.items()
        if isinstance(label, int) and label and name != "ignore"
    }


def _modalities(channels: Sequence[str]) -> tuple[str, ...]:
    found = {
        "MR" if _MR.fullmatch(name) else _MODALITIES.get(name.upper(), "") for name in channels
    }
    return () if "" in found else tuple(sorted(found))


def _checkpoints(folder: Path, folds: Sequence[str]) -> dict[str, Path]:
    present = {path.parent.name[5:]: path for path in folder.glob(f"fold_*/{CHECKPOINT}")}
    if folds:
        missing = sorted(set(folds) - set(present))
        if missing:
            raise CannotImport(f"fold_{missing[0]}/{CHECKPOINT} is missing")
        return {fold: present[fold] for fold in folds}
    chosen = {fold: path for fold, path in sorted(present.items()) if fold != "all"} or present
    if not chosen:
        raise CannotImport(f"fold_*/{CHECKPOINT} is missing: the weights are absent")
    return chosen


def _weights(path: Path, fold: str) -> tuple[dict[str, torch.Tensor], tuple[int, ...]]:
    """Return a fold's weights and the axes that its training mirrored; read as plain data."""
    import numpy as np
    from numpy.core.multiarray import scalar

    # A checkpoint keeps its training's log: numbers of numpy among plain values.
    plain = [scalar, np.dtype, np.ndarray, type(np.dtype("f8")), type(np.dtype("f4"))]
    try:
        with torch.serialization.safe_globals(plain):
            content: object = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, EOFError, pickle.UnpicklingError):
        raise CannotImport(f"fold_{fold}/{CHECKPOINT} cannot be read as plain weights") from None
    if not isinstance(content, dict) or not isinstance(content.get("network_weights"), dict):
        raise CannotImport(f"fold_{fold}/{CHECKPOINT} holds no network_weights")
    weights = {str(name): value for name, value in content["network_weights"].items()}
    if not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise CannotImport(f"fold_{fold}/{CHECKPOINT} holds no network_weights")
    axes = content.get("inference_allowed_mirroring_axes")
    return weights, tuple(int(axis) for axis in axes) if axes else ()


def _known(dataset_folder: str) -> _Known | None:
    """Return what is known of a model of TotalSegmentator, by its dataset's number."""
    match = _TOTALSEGMENTATOR.match(dataset_folder)
    return _totalsegmentator().get(match[1]) if match else None


@cache
def _totalsegmentator() -> Mapping[str, _Known]:
    text = files("models.importing").joinpath("data", "totalsegmentator_models.json").read_bytes()
    return {
        number: _Known.model_validate(row) for number, row in json.loads(text)["models"].items()
    }


def _read(kind: type[Model], path: Path) -> Model:
    try:
        return _validated(kind, json.loads(path.read_bytes()), path.name)
    except ValueError:
        raise CannotImport(f"{path.name} is not JSON") from None


def _validated(kind: type[Model], value: object, place: str) -> Model:
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field_name = ".".join(str(part) for part in first["loc"])
        raise CannotImport(f"{place}: {field_name}: {first['msg']}") from None
