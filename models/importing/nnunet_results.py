"""nnU-Net v2's results folders, TotalSegmentator's among them, as they lie there, understood.

A results folder is ``DatasetNNN_NAME/TRAINER__PLANS__CONFIGURATION/`` with dataset.json, plans.json
and ``fold_*/checkpoint_final.pth``.

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
from models.adapters.nnunet import Scheme

DATASET, PLANS, CHECKPOINT = "dataset.json", "plans.json", "checkpoint_final.pth"
CONFIGURATIONS = ("3d_fullres", "3d_lowres")
Model = TypeVar("Model", bound=BaseModel)

_AXES = re.compile(r"(?=.*[LR])(?=.*[PA])(?=.*[IS])[LRPAIS]{3}")
_FOLDER = re.compile(r"Dataset(\d{3})_(.+)")
_TOTALSEGMENTATOR = re.compile(r"Dataset(\d{3})_TotalSeg")
_MR = re.compile(r"MRI?|T1\w*|T2\w*|FLAIR|ADC|DWI|PD\w*|DCE|noNorm_MR", re.IGNORECASE)
_MODALITIES = {"CT": "CT", "PET": "PT", "PT": "PT", "US": "US"}


class Plan(BaseModel):
    """What the plans say of one configuration."""

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
    plan: Plan
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


def _plan(plans: _Plans, configuration: str) -> Plan:
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
    plan = _validated(Plan, merged, f"{PLANS}: configurations.{configuration}")
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


def read_weights(path: Path, fold: str) -> tuple[dict[str, torch.Tensor], tuple[int, ...]]:
    """Return a fold's weights and the axes that its training mirrored; read as plain data.

    Raises
    ------
    CannotImport
        When the checkpoint cannot be read so, or holds none.
    """
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
