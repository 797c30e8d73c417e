"""A single file that holds a network: TorchScript (.ts) or ONNX (.onnx), with a description of it.

The file knows neither what its classes are nor what its input looks like. Both stand in a JSON file
beside it, of the same name (``lung.onnx``, ``lung.json``)::

    {
      "name": "lung", "version": "1.0.0", "description": "Both lungs on chest CT.",
      "authors": "...", "licence": "MIT", "modalities": ["CT"], "min_slices": 20,
      "classes": ["background", "lung_left", "lung_right"],
      "axes": "RAS", "spacing_mm": [1.5, 1.5, 1.5],
      "intensity": {"from": [-1000, 400], "to": [0, 1], "clip": true},
      "window": [96, 96, 96], "overlap": 0.25
    }

``axes``, ``spacing_mm``, ``intensity`` and ``window`` may be left out: then the image is given as
it lies, with its own voxels and values, as a whole. For all else a bundle is the better way.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from dicom.errors import CannotImport
from models.importing.codebook import Codebook
from models.importing.draft import About, Json, write_model

FILES = {".ts": "model.ts", ".onnx": "model.onnx"}

_Positive = Annotated[float, Field(gt=0)]
_Length = Annotated[int, Field(ge=1, le=4096)]


def _axes(text: str) -> str:
    if len(text) != 3 or {frozenset(p) for p in ("LR", "PA", "IS")} != {
        next((frozenset(p) for p in ("LR", "PA", "IS") if letter in p), frozenset())
        for letter in text
    }:
        raise ValueError("is not three letters such as RAS")
    return text


class _Intensity(BaseModel):
    model_config = ConfigDict(extra="forbid")

    source: Annotated[tuple[float, float], Field(alias="from")]
    target: Annotated[tuple[float, float], Field(alias="to")] = (0.0, 1.0)
    clip: bool = True


class Description(BaseModel):
    """The JSON file beside the network."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: str
    description: str = ""
    authors: str = "unknown"
    licence: str = ""
    modalities: Annotated[tuple[str, ...], Field(min_length=1)]
    min_slices: Annotated[int, Field(ge=1)] = 1
    classes: Annotated[tuple[str, ...], Field(min_length=2, max_length=256)]
    axes: Annotated[str, AfterValidator(_axes)] | None = None
    spacing_mm: tuple[_Positive, _Positive, _Positive] | None = None
    intensity: _Intensity | None = None
    window: tuple[_Length, _Length, _Length] | None = None
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.25


def read_description(network: Path) -> Description:
    """Return the description beside a network's file.

    Raises
    ------
    CannotImport
        When it is missing or cannot be understood.
    """
    file = network.with_suffix(".json")
    try:
        return Description.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        raise CannotImport(f"{file.name} is missing: it says what {network.name} is") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise CannotImport(f"{file.name}: {place}: {first['msg']}") from None


def write_exported(
    root: Path, network: Path, about: About, description: Description, codebook: Codebook
) -> None:
    """Write the bundle of a network's file into a draft.

    Raises
    ------
    MissingCodes
        Naming the classes without codes.
    """
    names = {number: name for number, name in enumerate(description.classes) if number}
    segments = codebook.segments(names)
    (root / "models").mkdir()
    shutil.copyfile(network, root / "models" / FILES[network.suffix])
    outputs = ["background", *(segment.label for segment in segments)]
    write_model(
        root, about, segments, _configuration(description), inputs=["image"], outputs=outputs
    )


def _configuration(description: Description) -> dict[str, Json]:
    steps: list[Json] = [
        {"_target_": "LoadImaged", "keys": "image"},
        {"_target_": "EnsureChannelFirstd", "keys": "image"},
    ]
    if description.axes is not None:
        axes = description.axes
        steps.append({"_target_": "Orientationd", "keys": "image", "axcodes": axes, "labels": None})
    if description.spacing_mm is not None:
        pixdim: list[Json] = [*description.spacing_mm]
        steps.append(
            {"_target_": "Spacingd", "keys": "image", "pixdim": pixdim, "mode": "bilinear"}
        )
    if description.intensity is not None:
        (a_min, a_max), (b_min, b_max) = description.intensity.source, description.intensity.target
        scale: dict[str, Json] = {"a_min": a_min, "a_max": a_max, "b_min": b_min, "b_max": b_max}
        clip = description.intensity.clip
        steps.append({"_target_": "ScaleIntensityRanged", "keys": "image", **scale, "clip": clip})
    inferer: Json = {"_target_": "SimpleInferer"}
    if description.window is not None:
        inferer = {
            "_target_": "SlidingWindowInferer",
            "roi_size": [*description.window],
            "sw_batch_size": 1,
            "overlap": description.overlap,
            "mode": "gaussian",
        }
    back: Json = {
        "_target_": "Invertd",
        "keys": "pred",
        "transform": "@preprocessing",
        "orig_keys": "image",
        "nearest_interp": True,
        "to_tensor": True,
    }
    return {
        "preprocessing": {"_target_": "Compose", "transforms": steps},
        "inferer": inferer,
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [{"_target_": "AsDiscreted", "keys": "pred", "argmax": True}, back],
        },
    }
