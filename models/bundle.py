"""A MONAI bundle as a typed value: what it makes, what it is for, and whether it is whole.

A bundle is a folder in MONAI's layout::

    NAME/ or NAME@VERSION/
        configs/metadata.json     MONAI's fields and one object "radloop", see below
        configs/inference.json    how to predict, as far as models/allowed.py lets it
        models/model.pt           a state dict; or models/model.ts, TorchScript
        docs/README.md
        LICENSE

The object ``radloop`` of metadata.json says what MONAI's own fields cannot::

    "radloop": {
      "segments": [{"number": 1, "label": "Brain",
                    "category": {"value": "91723000", "scheme": "SCT",
                                 "meaning": "Anatomical Structure"},
                    "type": {"value": "12738006", "scheme": "SCT", "meaning": "Brain"},
                    "region": null, "laterality": null, "rgb": [236, 152, 62]}],
      "suits": {"modalities": ["MR"], "min_slices": 20, "orientations": ["axial", "sagittal"]},
      "algorithm": {"name": "...", "family": {"value": "123110", "scheme": "DCM", "meaning": "..."}}
    }

``network_data_format.outputs.*.channel_def`` ties channels to segments by label; a channel named
``background`` is no segment. Nothing here imports torch or MONAI: the worker reads bundles, its
child process runs them.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from dicom.codes import Code
from dicom.errors import InvalidBundle
from dicom.seg import Algorithm, Segment
from dicom.volume import Orientation, SeriesFacts
from models.allowed import allowed_configuration

METADATA = "configs/metadata.json"
INFERENCE = "configs/inference.json"
WEIGHTS = ("models/model.pt", "models/model.ts")

_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)(-[0-9A-Za-z.-]+)?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_BACKGROUND = "background"


@dataclass(frozen=True, slots=True)
class Bundle:
    """One version of one model, whole and understood.

    Attributes
    ----------
    name, version : str
        The folder's name without ``@VERSION``; the version of metadata.json.
    title, description : str
        For people, from metadata.json.
    root : Path
        The bundle's folder.
    weights : Path
        models/model.pt or models/model.ts.
    segments : tuple of Segment
        What it can find, in the order of metadata.json.
    algorithm : Algorithm
        What a SEG says of the algorithm (PS3.3 Table 10-19).
    modalities : tuple of str
        DICOM modalities that it was made for.
    min_slices : int
        Fewest slices that it is good for.
    orientations : tuple of str, or None
        Slice orientations that it was made for; None is any.
    input_name, output_name : str
        Names of image and prediction in its transforms; MONAI's custom is 'image' and 'pred'.
    channel_numbers : tuple of int
        Segment number of each output channel; 0 is background.
    sha256 : str
        Over metadata.json, inference.json and the weights: which model made this contour.
    """

    name: str
    version: str
    title: str
    description: str
    root: Path
    weights: Path
    segments: tuple[Segment, ...]
    algorithm: Algorithm
    modalities: tuple[str, ...]
    min_slices: int
    orientations: tuple[Orientation, ...] | None
    input_name: str
    output_name: str
    channel_numbers: tuple[int, ...]
    sha256: str

    @property
    def identity(self) -> str:
        """Name and version, such as ``mr_brain@0.1.0``."""
        return f"{self.name}@{self.version}"

    def suits(self, facts: SeriesFacts) -> str | None:
        """Return why the bundle is not for this series, in plain words; None when it is."""
        if facts.modality not in self.modalities:
            return f"modality {facts.modality} is not {' or '.join(self.modalities)}"
        if facts.slice_count < self.min_slices:
            return f"{facts.slice_count} slices are fewer than {self.min_slices}"
        if self.orientations is not None and facts.orientation not in self.orientations:
            return f"orientation {facts.orientation} is not {' or '.join(self.orientations)}"
        return None


def read_bundle(root: Path) -> Bundle:
    """Return the bundle in a folder.

    Parameters
    ----------
    root : Path
        A folder in the layout above.

    Returns
    -------
    Bundle
        With every file present, metadata understood and the configuration allowed. That MONAI can
        build the network and that the weights fit it is known once a predictor is made.

    Raises
    ------
    InvalidBundle
        With the bundle's name, the file and the field that are wrong.
    """
    try:
        return _read(root)
    except InvalidBundle as error:
        raise InvalidBundle(f"bundle {root.name}: {error.message}") from None


def version_key(version: str) -> tuple[int, int, int, bool, str]:
    """Return a key that sorts versions by age; ``1.0.0-rc1`` comes before ``1.0.0``.

    Raises
    ------
    ValueError
        When it is no version of the form MAJOR.MINOR.PATCH or MAJOR.MINOR.PATCH-LABEL.
    """
    match = _VERSION.fullmatch(version)
    if match is None:
        raise ValueError("a version has the form 1.2.3 or 1.2.3-label")
    major, minor, patch, label = match.groups()
    return int(major), int(minor), int(patch), label is None, label or ""


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
# PS3.5 Table 6.2-1: LO, the representation of labels and names that a SEG carries.
ShortText = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64)]
Shade = Annotated[int, Field(ge=0, le=255)]


class _Strict(BaseModel):
    """Ours: an unknown field is a misspelling."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Segment(_Strict):
    number: Annotated[int, Field(ge=1, le=255)]  # labels are uint8
    label: ShortText
    category: Code
    type: Code
    region: Code | None = None
    laterality: Code | None = None
    rgb: tuple[Shade, Shade, Shade]


class _Suits(_Strict):
    modalities: Annotated[tuple[ShortText, ...], Field(min_length=1)]
    min_slices: Annotated[int, Field(ge=1)]
    orientations: Annotated[tuple[Orientation, ...], Field(min_length=1)] | None = None


class _Algorithm(_Strict):
    name: ShortText
    family: Code


class _Radloop(_Strict):
    segments: Annotated[tuple[_Segment, ...], Field(min_length=1)]
    suits: _Suits
    algorithm: _Algorithm


class _Tensor(BaseModel):
    """MONAI's: the fields that are used; the rest is for other readers."""

    num_channels: Annotated[int, Field(ge=1)]
    channel_def: dict[Annotated[str, StringConstraints(pattern=r"^\d+$")], Text]


class _Tensors(BaseModel):
    inputs: Annotated[dict[str, _Tensor], Field(min_length=1, max_length=1)]
    outputs: Annotated[dict[str, _Tensor], Field(min_length=1, max_length=1)]


class _Metadata(BaseModel):
    name: Text
    version: Text
    description: str = ""
    authors: ShortText
    network_data_format: _Tensors
    radloop: _Radloop


def _read(root: Path) -> Bundle:
    name, _, version_of_folder = root.name.partition("@")
    if not _NAME.fullmatch(name):
        raise InvalidBundle("a folder's name has letters, digits, '_', '-' and '.' only")
    for file in ("docs/README.md", "LICENSE"):
        if not (root / file).is_file():
            raise InvalidBundle(f"{file} is missing")
    weights = _weights(root)
    metadata_text, inference_text = _text(root, METADATA), _text(root, INFERENCE)
    metadata = _metadata(metadata_text)
    if version_of_folder and version_of_folder != metadata.version:
        raise InvalidBundle(f"{METADATA}: version: {metadata.version} is not that of the folder")
    configuration = allowed_configuration(inference_text)
    needed = {"preprocessing", "inferer", "postprocessing"}
    if weights.suffix == ".pt":
        needed.add("network_def")
    for section in sorted(needed - configuration.keys()):
        raise InvalidBundle(f"{INFERENCE}: {section} is missing")
    ((input_name, image),) = metadata.network_data_format.inputs.items()
    ((output_name, prediction),) = metadata.network_data_format.outputs.items()
    if image.num_channels != 1:
        raise InvalidBundle(
            f"{METADATA}: network_data_format.inputs.{input_name}.num_channels: only 1 is supported"
        )
    segments = _segments(metadata.radloop.segments)
    return Bundle(
        name=name,
        version=metadata.version,
        title=metadata.name,
        description=metadata.description,
        root=root,
        weights=weights,
        segments=segments,
        algorithm=Algorithm(
            name=metadata.radloop.algorithm.name,
            version=metadata.version,
            manufacturer=metadata.authors,
            family=metadata.radloop.algorithm.family,
        ),
        modalities=metadata.radloop.suits.modalities,
        min_slices=metadata.radloop.suits.min_slices,
        orientations=metadata.radloop.suits.orientations,
        input_name=input_name,
        output_name=output_name,
        channel_numbers=_channel_numbers(prediction, segments, output_name),
        sha256=_sha256(metadata_text.encode(), inference_text.encode(), weights),
    )


def _weights(root: Path) -> Path:
    present = [root / file for file in WEIGHTS if (root / file).is_file()]
    if not present:
        raise InvalidBundle(f"{' or '.join(WEIGHTS)} is missing: the weights are absent")
    if len(present) > 1:
        raise InvalidBundle(f"{' and '.join(WEIGHTS)} are both present; keep one")
    return present[0]


def _text(root: Path, file: str) -> str:
    try:
        return (root / file).read_text("utf-8")
    except FileNotFoundError:
        raise InvalidBundle(f"{file} is missing") from None
    except UnicodeDecodeError:
        raise InvalidBundle(f"{file} is not UTF-8 text") from None


def _metadata(text: str) -> _Metadata:
    try:
        metadata = _Metadata.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        place = f"{METADATA}: {field}" if field else METADATA
        raise InvalidBundle(f"{place}: {first['msg']}") from None
    try:
        version_key(metadata.version)
    except ValueError as error:
        raise InvalidBundle(f"{METADATA}: version: {error}") from None
    return metadata


def _segments(rows: tuple[_Segment, ...]) -> tuple[Segment, ...]:
    for field, values in (
        ("number", [row.number for row in rows]),
        ("label", [row.label.casefold() for row in rows]),
    ):
        if len(set(values)) < len(values):
            raise InvalidBundle(f"{METADATA}: radloop.segments: the same {field} twice")
    return tuple(
        Segment(
            number=row.number,
            label=row.label,
            category=row.category,
            type=row.type,
            region=row.region,
            laterality=row.laterality,
            rgb=row.rgb,
        )
        for row in rows
    )


def _channel_numbers(
    prediction: _Tensor, segments: tuple[Segment, ...], output_name: str
) -> tuple[int, ...]:
    """Return the segment number of each channel; each segment has exactly one channel."""
    place = f"{METADATA}: network_data_format.outputs.{output_name}.channel_def"
    names = {int(channel): label.casefold() for channel, label in prediction.channel_def.items()}
    if sorted(names) != list(range(len(names))) or not names:
        raise InvalidBundle(f"{place}: channels are not numbered 0, 1, 2 ...")
    if prediction.num_channels != len(names):
        raise InvalidBundle(f"{place}: {len(names)} channels, but num_channels says otherwise")
    number_of = {segment.label.casefold(): segment.number for segment in segments}
    number_of[_BACKGROUND] = 0
    for channel, label in sorted(names.items()):
        if label not in number_of:
            raise InvalidBundle(f"{place}.{channel}: {label!r} has no entry in radloop.segments")
    numbers = tuple(number_of[names[channel]] for channel in range(len(names)))
    if len(set(numbers)) < len(numbers):
        raise InvalidBundle(f"{place}: two channels of one name")
    for segment in segments:
        if segment.number not in numbers:
            raise InvalidBundle(f"{place}: no channel for the segment {segment.label!r}")
    return numbers


def _sha256(metadata: bytes, inference: bytes, weights: Path) -> str:
    """Return the hash over what decides a contour; each part is led by its name and length."""
    digest = hashlib.sha256()
    for name, content in ((METADATA, metadata), (INFERENCE, inference)):
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    digest.update(f"models/{weights.name}\0{weights.stat().st_size}\0".encode())
    with weights.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
