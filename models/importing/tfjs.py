"""TensorFlow.js layers models, read as values: a chain of layers with their weights, no tfjs.

A layers model is a folder with model.json (Keras' configuration and a manifest of weights) and the
binary files that the manifest names: float32, little-endian, one after the other in its order.
Only what a chain of 3D convolutions needs is understood; all else is refused by name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dicom.codes import Rgb
from dicom.errors import CannotImport

MODEL = "model.json"
# Far above any MeshNet; what claims more is damaged or no such model.
_MOST_BYTES = 1 << 30

Weights: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Convolution:
    """A 3D convolution that keeps the grid (zeros around it), stride 1.

    Attributes
    ----------
    name : str
        As the file calls it.
    kernel : ndarray, float32, shape (size, size, size, in, out)
        As Keras keeps it: the first axis of the image first.
    bias : ndarray, float32, shape (out,), or None
        Added to each channel.
    dilation : int
        Voxels between two taps, the same along each axis.
    """

    name: str
    kernel: Weights
    bias: Weights | None
    dilation: int


@dataclass(frozen=True, slots=True, eq=False)
class BatchNorm:
    """Batch normalisation as it is in a prediction: ``scale * x + shift`` for each channel."""

    name: str
    scale: Weights
    shift: Weights


@dataclass(frozen=True, slots=True)
class Activation:
    """A function of each voxel, by Keras' name: ``relu``, ``elu``, ``gelu`` ..."""

    name: str
    function: str


Layer: TypeAlias = Convolution | BatchNorm | Activation

# They do nothing in a prediction.
_IDLE = frozenset({"InputLayer", "Dropout", "SpatialDropout3D"})


def read_layers(folder: Path) -> tuple[Layer, ...]:
    """Return the layers of a layers model, in the order in which they run.

    Raises
    ------
    CannotImport
        When a file is missing or of another size than the manifest says, weights are quantised,
        the layers are no chain, or one of them is of a kind that is not listed above.
    """
    document = _document(folder)
    weights = _weights(folder, document.weightsManifest)
    layers: list[Layer] = []
    before: str | None = None
    for row in document.modelTopology.network.config.layers:
        if before is not None and row.sources() not in ([], [before]):
            raise CannotImport(f"{MODEL}: layer {row.config.name} does not follow {before}")
        before = row.config.name
        prefix = f"{before}/"
        own = {key[len(prefix) :]: weights.pop(key) for key in [*weights] if key.startswith(prefix)}
        if row.class_name not in _IDLE:
            layers += _layers(row, own)
    if weights:
        raise CannotImport(f"{MODEL}: no layer for the weights {', '.join(sorted(weights))}")
    return tuple(layers)


def read_labels(folder: Path, classes: int) -> tuple[tuple[str, Rgb], ...] | None:
    """Return name and colour of each class, background first, from a colormap*.json.

    None when no such file beside the model names that many.

    Raises
    ------
    CannotImport
        When such a file is no table of labels and colours.
    """
    for file in sorted(folder.glob("colormap*.json")):
        try:
            table = _Colours.model_validate_json(file.read_bytes())
        except ValidationError:
            raise CannotImport(f"{file.name} is no table of labels and colours") from None
        if {len(table.labels), len(table.R), len(table.G), len(table.B)} == {classes}:
            return tuple(
                zip(table.labels, zip(table.R, table.G, table.B, strict=True), strict=True)
            )
    return None


# --- what the files hold ------------------------------------------------------------------------


class _Weight(BaseModel):
    model_config = ConfigDict(extra="forbid")  # a key "quantization" would change the numbers

    name: str
    shape: tuple[Annotated[int, Field(ge=1, le=1 << 20)], ...]
    dtype: Literal["float32"]


class _Group(BaseModel):
    paths: Annotated[tuple[str, ...], Field(min_length=1)]
    weights: tuple[_Weight, ...]


class _LayerConfiguration(BaseModel):
    """Keras' configuration of a layer; what another kind of layer has stays at its default."""

    name: str
    kernel_size: tuple[int, int, int] = (1, 1, 1)
    strides: tuple[int, int, int] = (1, 1, 1)
    dilation_rate: tuple[int, int, int] = (1, 1, 1)
    padding: str = "same"
    data_format: str = "channels_last"
    groups: int | None = 1
    axis: int | list[int] = -1
    activation: str = "linear"
    epsilon: float = 1e-3


class _Layer(BaseModel):
    class_name: str
    config: _LayerConfiguration
    inbound_nodes: list[Any] = []

    def sources(self) -> list[str]:
        """Return the names of the layers that this one takes its input from; none in a list."""
        return [str(source[0]) for node in self.inbound_nodes for source in node]


class _Layers(BaseModel):
    layers: Annotated[tuple[_Layer, ...], Field(min_length=1)]


class _Network(BaseModel):
    class_name: Literal["Functional", "Model", "Sequential"]
    config: _Layers


class _Topology(BaseModel):
    network: Annotated[_Network, Field(alias="model_config")]


class _Document(BaseModel):
    format: Literal["layers-model"]
    modelTopology: _Topology
    weightsManifest: tuple[_Group, ...]


_Shade = Annotated[int, Field(ge=0, le=255)]


class _Colours(BaseModel):
    labels: tuple[str, ...]
    R: tuple[_Shade, ...]
    G: tuple[_Shade, ...]
    B: tuple[_Shade, ...]


def _document(folder: Path) -> _Document:
    try:
        return _Document.model_validate_json((folder / MODEL).read_bytes())
    except FileNotFoundError:
        raise CannotImport(f"{MODEL} is missing: this is no TensorFlow.js model") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise CannotImport(f"{MODEL}: {place}: {first['msg']}") from None


# --- layers and weights -------------------------------------------------------------------------


def _layers(row: _Layer, weights: dict[str, Weights]) -> list[Layer]:
    """Return what one layer of Keras does; a convolution may bring its activation along."""
    name = row.config.name
    if row.class_name == "Conv3D":
        layers: list[Layer] = [_convolution(row.config, weights)]
    elif row.class_name == "BatchNormalization":
        layers = [_batch_norm(row.config, weights)]
    elif row.class_name == "Activation":
        layers = []
    else:
        raise CannotImport(f"{MODEL}: layer {name}: the kind {row.class_name} is not supported")
    if row.config.activation != "linear":
        layers.append(Activation(name, row.config.activation))
    return layers


def _convolution(configuration: _LayerConfiguration, weights: dict[str, Weights]) -> Convolution:
    place = f"{MODEL}: layer {configuration.name}"
    dilation = configuration.dilation_rate[0]
    for field, is_so in (
        ("strides", configuration.strides == (1, 1, 1)),
        ("padding", configuration.padding == "same"),
        ("data_format", configuration.data_format == "channels_last"),
        ("groups", configuration.groups in (None, 1)),
        ("dilation_rate", configuration.dilation_rate == (dilation,) * 3 and dilation > 0),
    ):
        if not is_so:
            raise CannotImport(f"{place}: {field} has a value that is not supported")
    kernel = weights.get("kernel")
    if kernel is None or kernel.ndim != 5 or kernel.shape[:3] != configuration.kernel_size:
        raise CannotImport(f"{place}: its kernel is missing or has another shape")
    bias = weights.get("bias")
    if bias is not None and bias.shape != kernel.shape[4:]:
        raise CannotImport(f"{place}: its bias has another shape")
    return Convolution(configuration.name, kernel, bias, dilation)


def _batch_norm(configuration: _LayerConfiguration, weights: dict[str, Weights]) -> BatchNorm:
    place = f"{MODEL}: layer {configuration.name}"
    if configuration.axis not in (-1, 4, [-1], [4]):
        raise CannotImport(f"{place}: axis has a value that is not supported")
    mean, variance = weights.get("moving_mean"), weights.get("moving_variance")
    if mean is None or variance is None or mean.shape != variance.shape:
        raise CannotImport(f"{place}: its mean or variance is missing")
    gamma = weights.get("gamma", np.ones_like(mean))
    beta = weights.get("beta", np.zeros_like(mean))
    scale = gamma / np.sqrt(variance + np.float32(configuration.epsilon))
    return BatchNorm(configuration.name, scale, beta - scale * mean)


def _weights(folder: Path, manifest: tuple[_Group, ...]) -> dict[str, Weights]:
    """Return every array of the manifest, by its name."""
    found: dict[str, Weights] = {}
    for group in manifest:
        files = " and ".join(group.paths)
        content = b"".join(_shard(folder, path) for path in group.paths)
        sizes = [math.prod(weight.shape) for weight in group.weights]
        if sum(sizes) * 4 != len(content):
            raise CannotImport(
                f"{files}: {len(content)} bytes, but {MODEL} tells of {sum(sizes) * 4}"
            )
        values = np.frombuffer(content, dtype="<f4").astype(np.float32)
        if not np.isfinite(values).all():
            raise CannotImport(f"{files}: weights that are no numbers")
        begin = 0
        for weight, size in zip(group.weights, sizes, strict=True):
            found[weight.name] = values[begin : begin + size].reshape(weight.shape)
            begin += size
    return found


def _shard(folder: Path, path: str) -> bytes:
    """Return a binary file of the manifest; it lies beside model.json and nowhere else."""
    file = folder / path
    if Path(path).name != path or not file.is_file():
        raise CannotImport(f"{path} is missing: the weights are absent")
    if file.stat().st_size > _MOST_BYTES:
        raise CannotImport(f"{path} is larger than {_MOST_BYTES >> 20} MiB")
    return file.read_bytes()
