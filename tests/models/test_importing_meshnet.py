"""brainchop's MeshNets: the numbers of TensorFlow.js' layers, computed here by numpy and scipy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import erf

from dicom.errors import CannotImport
from models.importing.meshnet import convert_meshnet
from models.importing.tfjs import read_labels

torch.set_num_threads(1)

BRAINCHOP = Path(__file__).parents[3] / "shared/data/weights/brainchop_tfjs_MIT"
FOLDERS = sorted(each.parent for each in BRAINCHOP.glob("*/model.json"))

needs_brainchop = pytest.mark.skipif(not FOLDERS, reason=f"{BRAINCHOP} is not here")

FUNCTIONS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "relu": lambda x: np.maximum(x, 0),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "gelu": lambda x: 0.5 * x * (1 + erf(x / np.sqrt(2))),
    "linear": lambda x: x,
}


def evaluate(folder: Path, image: NDArray[np.float32]) -> NDArray[np.float64]:
    """What the layers of a tfjs folder give, in float64 and channels last, as its file says."""
    document = json.loads((folder / "model.json").read_text())
    weights: dict[str, NDArray[np.float64]] = {}
    for group in document["weightsManifest"]:
        content = np.frombuffer(
            b"".join((folder / path).read_bytes() for path in group["paths"]), dtype="<f4"
        )
        for row in group["weights"]:
            size = int(np.prod(row["shape"]))
            weights[row["name"]] = content[:size].astype(np.float64).reshape(row["shape"])
            content = content[size:]
    features = image.astype(np.float64)[..., None]
    for layer in document["modelTopology"]["model_config"]["config"]["layers"]:
        own = layer["config"]
        if layer["class_name"] == "Conv3D":
            name = own["name"]
            features = convolve(features, weights[f"{name}/kernel"], own["dilation_rate"][0])
            features = features + weights.get(f"{name}/bias", 0.0)
            if name.endswith("_gn"):
                mean, variance = features.mean((0, 1, 2)), features.var((0, 1, 2))
                features = (features - mean) / np.sqrt(variance + 1e-5)
        if layer["class_name"] == "BatchNormalization":
            name = own["name"]
            features = features - weights[f"{name}/moving_mean"]
            features /= np.sqrt(weights[f"{name}/moving_variance"] + own["epsilon"])
            features = features * weights[f"{name}/gamma"] + weights[f"{name}/beta"]
        features = FUNCTIONS[own.get("activation", "linear")](features)
    return features


def convolve(
    image: NDArray[np.float64], kernel: NDArray[np.float64], dilation: int
) -> NDArray[np.float64]:
    """Correlate with a dilated kernel, zeros around the image: one shifted product for each tap."""
    margin = dilation * (kernel.shape[0] // 2)
    padded = np.pad(image, ((margin, margin),) * 3 + ((0, 0),))
    answer = np.zeros((*image.shape[:3], kernel.shape[4]))
    for tap in np.ndindex(kernel.shape[:3]):
        window = tuple(
            slice(step * dilation, step * dilation + length)
            for step, length in zip(tap, image.shape[:3], strict=True)
        )
        answer += padded[window] @ kernel[tap]
    return answer


def blob(seed: int, shape: tuple[int, int, int] = (22, 25, 28)) -> NDArray[np.float32]:
    """An image with edges and no symmetry, 0 to 1."""
    random = np.random.default_rng(seed)
    i, j, k = np.indices(shape)
    image = np.hypot(i - 9, j - 14) + 0.4 * k < 14
    return (0.7 * image + 0.3 * random.random(shape)).astype(np.float32)


def answer(folder: Path, image: NDArray[np.float32]) -> NDArray[np.float32]:
    network = convert_meshnet(folder).network()
    with torch.inference_mode():
        logits: NDArray[np.float32] = network(torch.from_numpy(image)[None, None])[0].numpy()
    return logits.transpose(1, 2, 3, 0)


@needs_brainchop
@pytest.mark.parametrize("folder", FOLDERS, ids=[folder.name for folder in FOLDERS])
def test_a_converted_network_gives_the_numbers_of_its_layers(folder: Path) -> None:
    image = blob(3)
    expected, found = evaluate(folder, image), answer(folder, image)
    assert np.abs(found - expected).max() <= 1e-4 * max(1.0, np.abs(expected).max())
    assert np.array_equal(found.argmax(-1), expected.argmax(-1))


@needs_brainchop
def test_labels_come_from_the_table_that_names_as_many() -> None:
    tissues = read_labels(BRAINCHOP / "model5_gw_ae", 3)
    assert tissues is not None
    assert [name for name, _ in tissues] == ["background", "White Matter", "Grey Matter"]
    assert read_labels(BRAINCHOP / "model11_gw_ae", 3) is None


# --- folders made here --------------------------------------------------------------------------


def write_tfjs(folder: Path, *, width: int = 4, norm: bool = False, seed: int = 0) -> Path:
    """A MeshNet of three layers as Keras' converter writes it, the weights in two files."""
    random = np.random.default_rng(seed)
    layers: list[dict[str, Any]] = [
        {"class_name": "InputLayer", "config": {"name": "input"}, "inbound_nodes": []}
    ]
    weights: list[tuple[str, NDArray[np.float32]]] = []

    def add(kind: str, name: str, **configuration: object) -> None:
        before = layers[-1]["config"]["name"]
        row = {"class_name": kind, "config": {"name": name, **configuration}}
        layers.append({**row, "inbound_nodes": [[[before, 0, 0, {}]]]})

    def add_convolution(name: str, size: int, wide: int, to: int, dilation: int) -> None:
        same = {"padding": "same", "data_format": "channels_last", "strides": [1, 1, 1]}
        kernel = random.normal(0, 0.2, (size, size, size, wide, to)).astype(np.float32)
        weights.append((f"{name}/kernel", kernel))
        weights.append((f"{name}/bias", random.normal(size=to).astype(np.float32)))
        shape = {"kernel_size": [size] * 3, "dilation_rate": [dilation] * 3, "filters": to}
        add("Conv3D", name, activation="linear", use_bias=True, **shape, **same)

    for number, dilation in enumerate((1, 2, 4)):
        add_convolution(f"c{number}", 3, width if number else 1, width, dilation)
        if norm:
            add("BatchNormalization", f"n{number}", axis=[4], epsilon=1e-3)
            for short in ("gamma", "moving_variance"):
                values = random.uniform(0.5, 2, width).astype(np.float32)
                weights.append((f"n{number}/{short}", values))
            for short in ("beta", "moving_mean"):
                weights.append((f"n{number}/{short}", random.normal(size=width).astype("f4")))
        add("Activation", f"a{number}", activation="relu")
        add("Dropout", f"d{number}", rate=0.25)
    add_convolution("output", 1, width, 3, 1)
    content = b"".join(values.astype("<f4").tobytes() for _, values in weights)
    half = len(content) // 2 + 2  # in the middle of a number
    folder.mkdir(parents=True)
    (folder / "group1-shard1of2.bin").write_bytes(content[:half])
    (folder / "group1-shard2of2.bin").write_bytes(content[half:])
    rows = [{"name": n, "shape": list(v.shape), "dtype": "float32"} for n, v in weights]
    paths = ["group1-shard1of2.bin", "group1-shard2of2.bin"]
    network = {"class_name": "Functional", "config": {"name": "model", "layers": layers}}
    document = {
        "format": "layers-model",
        "modelTopology": {"keras_version": "2.7.0", "model_config": network},
        "weightsManifest": [{"paths": paths, "weights": rows}],
    }
    (folder / "model.json").write_text(json.dumps(document))
    return folder


@pytest.mark.parametrize("norm", [False, True])
def test_batch_norms_are_worked_into_the_weights(tmp_path: Path, norm: bool) -> None:
    folder = write_tfjs(tmp_path / "net", norm=norm)
    image = blob(5, (12, 14, 13))
    expected, found = evaluate(folder, image), answer(folder, image)
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
    names = convert_meshnet(folder).state.keys()
    assert not any("norm" in name for name in names)


def _layers(document: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = document["modelTopology"]["model_config"]["config"]["layers"]
    return found


def _weights(document: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = document["weightsManifest"][0]["weights"]
    return found


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda d: d.update(format="graph-model"), "format"),
        (lambda d: _layers(d)[1].update(class_name="Conv3DTranspose"), "Conv3DTranspose"),
        (lambda d: _layers(d)[1]["config"].update(strides=[2, 2, 2]), "strides"),
        (lambda d: _layers(d)[1]["config"].update(padding="valid"), "padding"),
        (lambda d: _layers(d)[1]["config"].update(dilation_rate=[1, 2, 1]), "dilation_rate"),
        (lambda d: _layers(d)[2]["config"].update(activation="swish"), "no MeshNet"),
        (lambda d: _layers(d)[4]["inbound_nodes"][0][0].__setitem__(0, "c0"), "does not follow"),
        (lambda d: _layers(d).pop(4), "no layer for the weights c1/bias, c1/kernel"),
        (lambda d: _weights(d)[0].update(quantization={"dtype": "uint8"}), "quantization"),
        (lambda d: _weights(d)[0].update(shape=[3, 3, 3, 1, 5]), "bytes"),
        (lambda d: d["weightsManifest"][0]["paths"].__setitem__(0, "../x.bin"), r"\.\./x\.bin"),
    ],
)
def test_what_is_no_meshnet_is_refused_by_name(
    tmp_path: Path, edit: Callable[[dict[str, Any]], object], named: str
) -> None:
    folder = write_tfjs(tmp_path / "net")
    shutil.copy(folder / "group1-shard1of2.bin", tmp_path / "x.bin")
    document = json.loads((folder / "model.json").read_text())
    edit(document)
    if _layers(document)[4]["config"]["name"] != "c1":  # a layer was taken out: close the gap
        _layers(document)[4]["inbound_nodes"] = [[["d0", 0, 0, {}]]]
    (folder / "model.json").write_text(json.dumps(document))
    with pytest.raises(CannotImport, match=named):
        convert_meshnet(folder)


def test_a_missing_shard_is_refused_by_name(tmp_path: Path) -> None:
    folder = write_tfjs(tmp_path / "net")
    (folder / "group1-shard2of2.bin").unlink()
    with pytest.raises(CannotImport, match=r"shard2of2\.bin is missing"):
        convert_meshnet(folder)
