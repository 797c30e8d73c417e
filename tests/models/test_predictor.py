"""A prediction lies exactly where the anatomy lies, whatever the order and direction of axes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dicom.errors import (
    Canceled,
    InvalidBundle,
    MissingDevice,
    NoGeometry,
    OutOfMemory,
    UnsuitableSeries,
)
from models.bundle import read_bundle
from models.predictor import Predictor
from tests.bundles import (
    BRAIN,
    inference,
    metadata,
    threshold_state,
    write_bundle,
    write_threshold_bundle,
)

pytestmark = pytest.mark.usefixtures("one_thread")

Array = NDArray[np.float64]

THRESHOLD = 100.0
# Three bright balls (centre LPS mm, radius mm): no turn or mirror maps them onto themselves.
BALLS = (((18.0, 4.0, -6.0), 11.0), ((-14.0, -12.0, 10.0), 7.0), ((2.0, 14.0, 18.0), 5.0))
SIZE_MM = 84.0


def intensity(points_lps: Array) -> Array:
    """The phantom at points of shape (..., 3): 200 inside, 0 outside, 5 mm of slope between."""
    value = np.zeros(points_lps.shape[:-1])
    for centre, radius in BALLS:
        depth_mm = radius - np.linalg.norm(points_lps - np.array(centre), axis=-1)
        value = np.maximum(value, np.clip(THRESHOLD + 40 * depth_mm, 0, 200))
    return value


def grid(directions: Array, spacing_kji: tuple[float, float, float]) -> tuple[Array, Array]:
    """Points (k, j, i, 3) and affine of a grid about the origin; axes are columns."""
    shape = [round(SIZE_MM / spacing) for spacing in spacing_kji]
    affine_lps = np.eye(4)
    affine_lps[:3, :3] = directions * np.array(spacing_kji)
    affine_lps[:3, 3] = -affine_lps[:3, :3] @ ((np.array(shape) - 1) / 2)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    return index @ affine_lps[:3, :3].T + affine_lps[:3, 3], affine_lps


def orientations() -> Iterator[Array]:
    """All 48 ways to lay three axes along the patient's."""
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            yield np.eye(3)[:, order] * np.array(signs)


def rotation(degrees: tuple[float, float, float]) -> Array:
    """A turn about x, then y, then z."""
    turned = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        a, b = [k for k in range(3) if k != axis]
        step = np.eye(3)
        step[a, a] = step[b, b] = np.cos(angle)
        step[a, b], step[b, a] = -np.sin(angle), np.sin(angle)
        turned = step @ turned
    return turned


def dice(a: NDArray[np.generic], b: NDArray[np.generic]) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


SPACINGS = ((3.0, 1.5, 2.0), (2.0, 2.0, 2.0), (4.0, 1.0, 1.2))
OBLIQUE = ((10.0, -25.0, 40.0), (0.0, 0.0, 44.0), (-35.0, 12.0, 5.0))


@pytest.fixture(scope="module")
def resampling(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    root = write_threshold_bundle(
        tmp_path_factory.mktemp("resampling"), threshold=THRESHOLD, spacing_mm=2.0
    )
    return Predictor(read_bundle(root), device="cpu")


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """A network that knows left from right: it finds the balls two voxels of 2 mm from themselves.

    Its kernel looks 2 voxels to the patient's right, 1 forwards and 2 up (RAS).
    """
    root = write_bundle(
        tmp_path_factory.mktemp("moving"),
        "moving",
        metadata(),
        inference(spacing_mm=2.0, kernel=5),
        threshold_state(THRESHOLD, kernel=5, at=(2, 1, 2)),
    )
    return Predictor(read_bundle(root), device="cpu")


@pytest.mark.parametrize("spacing_kji", SPACINGS)
def test_left_stays_left_in_all_48_orientations(
    moving: Predictor, spacing_kji: tuple[float, float, float]
) -> None:
    for directions in orientations():
        points, affine_lps = grid(directions, spacing_kji)
        labels = moving.predict(intensity(points), affine_lps).labels_kji
        # looking to the right, forwards and up moves what is seen to the left, back and down
        expected = intensity(points - np.array([4.0, 2.0, -4.0])) > THRESHOLD
        assert dice(labels == 1, expected) > 0.93, directions
        mirrored = intensity((points - np.array([4.0, 2.0, -4.0])) * [-1, 1, 1]) > THRESHOLD
        assert dice(labels == 1, mirrored) < 0.5, directions


@pytest.mark.parametrize("degrees", OBLIQUE)
def test_oblique_volumes_keep_their_place(
    resampling: Predictor, degrees: tuple[float, float, float]
) -> None:
    for directions in (np.eye(3), np.eye(3)[:, [2, 0, 1]] * np.array([-1.0, 1.0, 1.0])):
        points, affine_lps = grid(rotation(degrees) @ directions, (2.5, 1.5, 1.5))
        labels = resampling.predict(intensity(points), affine_lps).labels_kji
        assert labels.shape == points.shape[:3]
        assert dice(labels == 1, intensity(points) > THRESHOLD) > 0.93


def test_without_resampling_the_answer_is_voxel_exact(tmp_path: Path) -> None:
    predictor = Predictor(read_bundle(write_threshold_bundle(tmp_path, threshold=THRESHOLD)))
    voxels = np.random.default_rng(1).integers(-1000, 1000, (5, 7, 11)).astype(np.int16)
    before = voxels.copy()
    for directions in orientations():
        _, affine_lps = grid(directions, (4.0, 1.0, 1.2))
        prediction = predictor.predict(voxels, affine_lps)
        assert prediction.labels_kji.dtype == np.uint8
        assert prediction.labels_kji.flags.c_contiguous
        np.testing.assert_array_equal(prediction.labels_kji, voxels > THRESHOLD)
    np.testing.assert_array_equal(voxels, before)
    assert 0 < prediction.forward_s <= prediction.total_s
    assert prediction.device == "cpu"
    assert prediction.bundle_sha256 == predictor.bundle.sha256


def test_one_slice_is_a_volume(resampling: Predictor) -> None:
    points, affine_lps = grid(np.eye(3), (84.0, 1.5, 2.0))
    labels = resampling.predict(intensity(points), affine_lps).labels_kji
    assert labels.shape == points.shape[:3]
    assert labels.shape[0] == 1


def test_a_bundle_that_leaves_the_way_back_to_saving_is_brought_back(tmp_path: Path) -> None:
    root = write_threshold_bundle(tmp_path, threshold=THRESHOLD, spacing_mm=2.0, invert=False)
    predictor = Predictor(read_bundle(root), device="cpu")
    points, affine_lps = grid(rotation((5.0, 0.0, 30.0)) @ -np.eye(3), (3.0, 1.0, 1.5))
    labels = predictor.predict(intensity(points), affine_lps).labels_kji
    assert dice(labels == 1, intensity(points) > THRESHOLD) > 0.9


def test_windows_tell_progress_and_change_nothing(tmp_path: Path) -> None:
    whole = Predictor(read_bundle(write_threshold_bundle(tmp_path, "whole")))
    parts = Predictor(
        read_bundle(write_threshold_bundle(tmp_path, "parts", window=(8, 16, 9), overlap=0.3))
    )
    voxels = np.random.default_rng(2).normal(THRESHOLD, 30, (20, 33, 41))
    shares: list[float] = []
    labels = parts.predict(voxels, np.eye(4), progress=shares.append).labels_kji
    np.testing.assert_array_equal(labels, whole.predict(voxels, np.eye(4)).labels_kji)
    assert len(shares) > 20
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert shares[-2] == pytest.approx(1.0)  # the last window: the count was right


def test_a_canceled_prediction_ends_before_its_next_window(tmp_path: Path) -> None:
    root = write_threshold_bundle(tmp_path, window=(8, 8, 8))
    predictor = Predictor(read_bundle(root), device="cpu")
    shares: list[float] = []
    with pytest.raises(Canceled):
        predictor.predict(
            np.zeros((32, 32, 32)),
            np.eye(4),
            progress=shares.append,
            canceled=lambda: len(shares) >= 3,
        )
    assert len(shares) == 3


def two_segments() -> dict[str, Any]:
    """Metadata with channels in another order than their numbers."""
    document = metadata()
    lesion = {**BRAIN, "number": 7, "label": "Lesion"}
    document["radloop"]["segments"] = [{**BRAIN, "number": 3}, lesion]
    channels = {"0": "background", "1": "Lesion", "2": "Brain"}
    document["network_data_format"]["outputs"]["pred"].update(num_channels=3, channel_def=channels)
    return document


def three_channels() -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """A network that says channel 2 above 100, and channel 1 above 200."""
    configuration = inference()
    configuration["network_def"]["out_channels"] = 3
    weight = torch.tensor([0.0, 2.0, 1.0]).reshape(3, 1, 1, 1, 1)
    return configuration, {"weight": weight, "bias": torch.tensor([0.0, -300.0, -100.0])}


VALUES = np.array([[[0.0, 99.0, 101.0, 199.0, 201.0, 1000.0]]])


def test_channels_become_segment_numbers_by_name(tmp_path: Path) -> None:
    configuration, state = three_channels()
    root = write_bundle(tmp_path, "two", two_segments(), configuration, state)
    labels = Predictor(read_bundle(root)).predict(VALUES, np.eye(4)).labels_kji
    np.testing.assert_array_equal(labels, [[[0, 0, 3, 3, 7, 7]]])


def test_channels_that_are_not_yet_one_map_are_made_one(tmp_path: Path) -> None:
    configuration, state = three_channels()
    configuration["postprocessing"]["transforms"] = []
    root = write_bundle(tmp_path, "two", two_segments(), configuration, state)
    labels = Predictor(read_bundle(root)).predict(VALUES, np.eye(4)).labels_kji
    np.testing.assert_array_equal(labels, [[[0, 0, 3, 3, 7, 7]]])


def test_masks_without_a_background_channel_leave_the_rest_empty(tmp_path: Path) -> None:
    document = two_segments()
    document["network_data_format"]["outputs"]["pred"].update(
        num_channels=2, channel_def={"0": "Lesion", "1": "Brain"}
    )
    configuration = inference()
    configuration["postprocessing"]["transforms"] = [
        {"_target_": "Activationsd", "keys": "pred", "sigmoid": True}
    ]
    weight = torch.tensor([2.0, 1.0]).reshape(2, 1, 1, 1, 1)
    state = {"weight": weight, "bias": torch.tensor([-30.0, -10.0])}
    root = write_bundle(tmp_path, "masks", document, configuration, state)
    values = np.array([[[0.0, 9.0, 11.0, 19.0, 22.0]]])
    labels = Predictor(read_bundle(root)).predict(values, np.eye(4)).labels_kji
    np.testing.assert_array_equal(labels, [[[0, 0, 3, 3, 7]]])


def test_torchscript_predicts_without_a_network_definition(tmp_path: Path) -> None:
    root = write_threshold_bundle(tmp_path)
    network = torch.nn.Conv3d(1, 2, 1)
    network.load_state_dict(threshold_state(THRESHOLD))
    torch.jit.script(network).save(str(root / "models/model.ts"))
    (root / "models/model.pt").unlink()
    labels = Predictor(read_bundle(root)).predict(VALUES, np.eye(4)).labels_kji
    np.testing.assert_array_equal(labels, VALUES > THRESHOLD)


def zoo_configuration(folder: Path) -> dict[str, Any]:
    """A configuration as MONAI's model zoo writes them, with all that it has beside prediction."""
    unet = {"_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 2}
    unet |= {"channels": [4, 8, 16], "strides": [2, 2], "num_res_units": 1, "norm": "INSTANCE"}
    intensity = {"a_min": 0, "a_max": 200, "b_min": 0.0, "b_max": 1.0, "clip": True}
    return {
        "imports": ["$import glob", "$import os"],
        "bundle_root": str(folder),
        "output_dir": "$@bundle_root + '/eval'",
        "dataset_dir": "$@bundle_root + '/images'",
        "datalist": "$list(sorted(glob.glob(@dataset_dir + '/*.nii.gz')))",
        "device": "$torch.device('cpu')",
        "network_def": unet,
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": "image"},
                {"_target_": "EnsureChannelFirstd", "keys": "image"},
                {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
                {"_target_": "Spacingd", "keys": "image", "pixdim": [1.8, 2.0, 2.5]},
                {"_target_": "ScaleIntensityRanged", "keys": "image", **intensity},
                {"_target_": "EnsureTyped", "keys": "image", "device": "@device"},
            ],
        },
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': i} for i in @datalist]",
            "transform": "@preprocessing",
        },
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1},
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": [24, 32, 16],
            "sw_batch_size": 4,
            "overlap": 0.5,
            "mode": "gaussian",
        },
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", "keys": "pred", "softmax": True},
                {
                    "_target_": "Invertd",
                    "keys": "pred",
                    "transform": "@preprocessing",
                    "orig_keys": "image",
                    "nearest_interp": False,
                    "to_tensor": True,
                },
                {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
                {
                    "_target_": "SaveImaged",
                    "keys": "pred",
                    "output_dir": "@output_dir",
                    "separate_folder": False,
                    "output_postfix": "seg",
                },
            ],
        },
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
        },
    }


def test_a_bundle_of_the_zoos_kind_answers_as_monai_itself_does(tmp_path: Path) -> None:
    from monai.bundle import ConfigParser

    from models.nifti import read_nifti, write_labels

    configuration = zoo_configuration(tmp_path)
    torch.manual_seed(5)
    parser = ConfigParser(json.loads(json.dumps(configuration)))
    state = parser.get_parsed_content("network_def").state_dict()
    root = write_bundle(tmp_path, "zoo", metadata(), configuration, state)
    points, affine_lps = grid(
        rotation((8.0, -5.0, 20.0)) @ np.eye(3)[:, [2, 1, 0]] * [-1, 1, -1], (3.0, 1.5, 2.0)
    )
    voxels = intensity(points).astype(np.uint8)
    (tmp_path / "images").mkdir()
    write_labels(tmp_path / "images/head.nii.gz", voxels, affine_lps)

    with torch.inference_mode():  # MONAI's own way, by files
        network, inferer = (parser.get_parsed_content(part) for part in ("network", "inferer"))
        data = parser.get_parsed_content("preprocessing")(
            {"image": tmp_path / "images/head.nii.gz"}
        )
        data["pred"] = inferer(data["image"][None], network.eval())[0]
        parser.get_parsed_content("postprocessing")(data)
    expected, _ = read_nifti(tmp_path / "eval/head_seg.nii.gz")
    assert 0.01 < expected.mean() < 0.99  # the random network says both

    prediction = Predictor(read_bundle(root), device="cpu").predict(voxels, affine_lps)
    # the file keeps its affine in float32, so that a few edges fall to the other side
    assert (prediction.labels_kji == expected).mean() > 0.9999


@pytest.mark.parametrize(
    "voxels",
    [
        np.zeros((0, 4, 4)),
        np.zeros((4, 4)),
        np.zeros((1, 2, 3, 4)),
        np.full((2, 2, 2), np.nan),
        np.array([[[1.0, np.inf]]]),
        np.zeros((2, 2, 2), dtype=np.complex64),
    ],
)
def test_a_volume_without_sense_is_refused(
    resampling: Predictor, voxels: NDArray[np.generic]
) -> None:
    with pytest.raises(UnsuitableSeries):
        resampling.predict(voxels, np.eye(4))


@pytest.mark.parametrize("affine", [np.zeros((4, 4)), np.eye(3), np.full((4, 4), np.nan)])
def test_a_volume_without_a_place_is_refused(resampling: Predictor, affine: Array) -> None:
    with pytest.raises(NoGeometry):
        resampling.predict(np.zeros((2, 2, 2)), affine)


def test_an_overflow_in_the_network_is_no_empty_result(tmp_path: Path) -> None:
    predictor = Predictor(read_bundle(write_threshold_bundle(tmp_path, threshold=-3e38)))
    with pytest.raises(UnsuitableSeries, match="no numbers"):
        predictor.predict(np.full((2, 2, 2), 3e38), np.eye(4))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    root = write_bundle(tmp_path, "odd", metadata(), inference(kernel=3), threshold_state(1.0))
    with pytest.raises(InvalidBundle, match=r"odd@0\.1\.0: models/model\.pt"):
        Predictor(read_bundle(root))


@pytest.mark.parametrize("content", [b"", b"not a model", b"PK\x03\x04 not quite"])
@pytest.mark.parametrize("file", ["model.pt", "model.ts"])
def test_broken_weights_are_refused(tmp_path: Path, file: str, content: bytes) -> None:
    root = write_threshold_bundle(tmp_path)
    (root / "models/model.pt").unlink()
    (root / "models" / file).write_bytes(content)
    with pytest.raises(InvalidBundle, match=file):
        Predictor(read_bundle(root))


class Trap:
    """Unpickled, it would touch a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_weights_cannot_run_code(tmp_path: Path) -> None:
    root = write_threshold_bundle(tmp_path)
    trap = tmp_path / "sprung"
    torch.save({"weight": Trap(trap)}, root / "models/model.pt")
    with pytest.raises(InvalidBundle):
        Predictor(read_bundle(root))
    assert not trap.exists()


@pytest.mark.parametrize(
    ("section", "content", "reason"),
    [
        ("network_def", {"_target_": "UNet"}, "network_def cannot be built"),
        ("network_def", {"_target_": "Compose"}, "network_def is not a network"),
        ("network_def", {"_target_": "NoSuchNet"}, "no class NoSuchNet"),
        ("inferer", {"_target_": "SimpleInferer", "size": 3}, "inferer cannot be built"),
        ("inferer", "soon", "inferer is not something to call"),
        ("preprocessing", [], "preprocessing is not something to call"),
    ],
)
def test_a_configuration_that_builds_nothing_is_refused(
    tmp_path: Path, section: str, content: object, reason: str
) -> None:
    root = write_threshold_bundle(tmp_path)
    changed = {**inference(), section: content}
    (root / "configs/inference.json").write_text(json.dumps(changed))
    with pytest.raises(InvalidBundle, match=reason):
        Predictor(read_bundle(root))


ARGMAX = {"_target_": "AsDiscreted", "keys": "pred", "argmax": True}


@pytest.mark.parametrize(
    ("postprocessing", "reason"),
    [
        ([{**ARGMAX, "to_onehot": 4}], "postprocessing gives 4 channels"),
        ([ARGMAX, {"_target_": "SqueezeDimd", "keys": "pred", "dim": 0}], "a channel and three"),
        (
            [ARGMAX, {"_target_": "GaussianSmoothd", "keys": "pred", "sigma": 1.0}],
            "interpolates between labels",
        ),
        (
            [
                ARGMAX,
                {"_target_": "ScaleIntensityRanged", "keys": "pred"}
                | {"a_min": 0, "a_max": 1, "b_min": 3, "b_max": 4},
            ],
            "labels outside of 0 to 2",
        ),
    ],
)
def test_an_answer_that_is_no_label_map_is_refused(
    tmp_path: Path, postprocessing: list[dict[str, Any]], reason: str
) -> None:
    configuration, state = three_channels()
    configuration["postprocessing"]["transforms"] = postprocessing
    root = write_bundle(tmp_path, "two", two_segments(), configuration, state)
    with pytest.raises(InvalidBundle, match=reason):
        Predictor(read_bundle(root)).predict(np.tile(VALUES, (4, 4, 2)), np.eye(4))


def test_a_lack_of_memory_is_told_as_such(tmp_path: Path) -> None:
    configuration = inference()
    configuration["preprocessing"]["transforms"].append(
        {"_target_": "Resized", "keys": "image", "spatial_size": [200_000] * 3, "mode": "nearest"}
    )
    root = write_bundle(tmp_path, "huge", metadata(), configuration, threshold_state(1.0))
    predictor = Predictor(read_bundle(root), device="cpu")
    with pytest.raises(OutOfMemory):
        predictor.predict(VALUES, np.eye(4))


def test_a_gpu_that_is_not_there_is_named(tmp_path: Path) -> None:
    bundle = read_bundle(write_threshold_bundle(tmp_path))
    with pytest.raises(MissingDevice, match="cuda:99"):
        Predictor(bundle, device="cuda:99")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use")
def test_a_gpu_gives_the_same_labels_on_the_same_grid(tmp_path: Path) -> None:
    torch.manual_seed(6)
    configuration = zoo_configuration(tmp_path)
    definition = dict(configuration["network_def"])
    definition.pop("_target_")
    from monai.networks.nets import UNet

    root = write_bundle(tmp_path, "zoo", metadata(), configuration, UNet(**definition).state_dict())
    points, affine_lps = grid(rotation((8.0, -5.0, 20.0)), (3.0, 1.5, 2.0))
    bundle = read_bundle(root)
    on_cpu = Predictor(bundle, device="cpu").predict(intensity(points), affine_lps)
    on_gpu = Predictor(bundle, device="cuda:0").predict(intensity(points), affine_lps)
    assert on_gpu.device == "cuda:0"
    assert (on_gpu.labels_kji == on_cpu.labels_kji).mean() > 0.999


# grids on which no voxel of one lies half-way between two of the other: a mask's 0.5 is a toss-up
@pytest.mark.parametrize("spacing_kji", [(2.1, 1.5, 1.2), (1.4, 2.8, 2.1)])
def test_the_quick_road_gives_the_labels_of_monais_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spacing_kji: tuple[float, float, float]
) -> None:
    from contextlib import nullcontext

    configuration = inference(spacing_mm=2.0)
    configuration["postprocessing"]["transforms"].insert(
        -1, {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5}
    )
    del configuration["postprocessing"]["transforms"][1]  # the mask comes back interpolated
    configuration["postprocessing"]["transforms"].insert(0, ARGMAX)
    root = write_bundle(tmp_path, "mask", metadata(), configuration, threshold_state(THRESHOLD))
    points, affine_lps = grid(np.eye(3), spacing_kji)
    quick = Predictor(read_bundle(root), device="cpu")
    assert quick._parts.threshold == 0.5
    labels = quick.predict(intensity(points), affine_lps).labels_kji
    monkeypatch.setattr("models.predictor.predictor.quick_resampling", nullcontext)
    expected = quick.predict(intensity(points), affine_lps).labels_kji
    assert 0.01 < expected.mean() < 0.5
    assert (labels == expected).mean() > 0.9995


def looked_at(predictor: Predictor) -> list[int]:
    """The windows that the network is given from now on."""
    seen: list[int] = []
    predictor._parts.network.register_forward_hook(lambda *_: seen.append(1))
    return seen


def test_windows_of_background_are_not_looked_at_where_the_bundle_says_so(tmp_path: Path) -> None:
    points, affine_lps = grid(np.eye(3), (2.0, 2.0, 2.0))
    image = intensity(points)
    image[:, :, 21:] = 0
    found, counts = [], []
    for background in (None, 0.0):
        described = metadata()
        if background is not None:
            described["radloop"]["background"] = background
        folder = write_bundle(
            tmp_path / str(background),
            "balls",
            described,
            inference(window=(14, 14, 14), overlap=0.0),
            threshold_state(THRESHOLD),
        )
        predictor = Predictor(read_bundle(folder), device="cpu")
        seen = looked_at(predictor)
        found.append(predictor.predict(image, affine_lps).labels_kji)
        counts.append(len(seen))
    assert found[0].any()
    assert np.array_equal(found[0], found[1])
    assert counts[0] == 27
    assert 0 < counts[1] <= 18


@pytest.mark.parametrize("fault", ["overlapping", "sigmoid"])
def test_background_needs_an_answer_in_which_zeros_are_background(
    tmp_path: Path, fault: str
) -> None:
    described, how = metadata(), inference(window=(14, 14, 14))
    described["radloop"]["background"] = 0.0
    if fault == "overlapping":
        described["radloop"]["overlapping"] = True
    else:
        how["postprocessing"]["transforms"][0] = {
            "_target_": "Activationsd",
            "keys": "pred",
            "sigmoid": True,
        }
    folder = write_bundle(tmp_path, "balls", described, how, threshold_state(THRESHOLD))
    with pytest.raises(InvalidBundle, match="background"):
        Predictor(read_bundle(folder), device="cpu")
