"""Every kind of task, with networks of one line: what comes out is known beforehand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dicom.errors import InvalidBundle, MissingInput, UnsuitableSeries
from models.bundle import read_bundle
from models.prediction import (
    Box,
    Boxes,
    Classes,
    Image,
    Instances,
    Masks,
    Prediction,
    from_arrays,
    to_arrays,
)
from models.predictor import Predictor
from models.process import PredictorProcess
from tests.bundles import BRAIN, CLEAR, LESION, NODULE, steps, write_scripted_bundle
from tests.networks import Above, Channel, Itself, Means

pytestmark = pytest.mark.usefixtures("one_thread")

AFFINE = np.array([[0, 0, -2.0, 30], [0, 1.5, 0, -20], [3.0, 0, 0, 7], [0, 0, 0, 1]])
CHANNEL_FIRST = {"_target_": "EnsureChannelFirstd", "keys": "image"}
SIGMOID = {"_target_": "Activationsd", "keys": "pred", "sigmoid": True}
ARGMAX = {"_target_": "AsDiscreted", "keys": "pred", "argmax": True}


def predict(root: Path, voxels: np.ndarray, **names: np.ndarray) -> Prediction:
    predictor = Predictor(read_bundle(root), device="cpu")
    if names:
        return predictor.predict_images({n: Image(v, AFFINE) for n, v in names.items()})
    return predictor.predict(voxels, AFFINE)


def volume(seed: int = 0, shape: tuple[int, ...] = (5, 6, 7)) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 300, shape).astype(np.float32)


# --- segmentations ------------------------------------------------------------------------------


def test_segments_that_overlap_are_kept_whole(tmp_path: Path) -> None:
    root = write_scripted_bundle(
        tmp_path,
        "overlap",
        Above(100, 200),
        table={"segments": [BRAIN, LESION], "overlapping": True},
        channels=("brain", "lesion"),
        postprocessing=steps(SIGMOID),
    )
    voxels = volume()
    answer = predict(root, voxels).answer
    assert isinstance(answer, Masks)
    assert answer.numbers == (1, 2)
    np.testing.assert_array_equal(answer.masks_nkji[0], voxels > 100)
    np.testing.assert_array_equal(answer.masks_nkji[1], voxels > 200)
    shown = np.where(voxels > 200, 2, np.where(voxels > 100, 1, 0))
    np.testing.assert_array_equal(answer.labels_kji(), shown)


def test_a_map_of_other_values_than_channels_is_read_by_its_table(tmp_path: Path) -> None:
    merge = "$lambda x: torch.where(x[[1]] > 0, 4, torch.where(x[[0]] > 0, 1, 0))"
    root = write_scripted_bundle(
        tmp_path,
        "values",
        Above(100, 200),
        table={"segments": [BRAIN, LESION], "values": {"1": "Brain", "4": "Lesion"}},
        channels=("whole tumour", "core"),
        postprocessing=steps({"_target_": "Lambdad", "keys": "pred", "func": merge}),
    )
    voxels = volume()
    shown = np.where(voxels > 200, 2, np.where(voxels > 100, 1, 0))
    np.testing.assert_array_equal(predict(root, voxels).labels_kji, shown)


def test_a_background_channel_that_was_cut_off_is_not_missed(tmp_path: Path) -> None:
    cut = {"_target_": "Lambdad", "keys": "pred", "func": "$lambda x: x[1:]"}
    one_hot = {**ARGMAX, "to_onehot": 2}
    root = write_scripted_bundle(
        tmp_path, "cut", Above(100, background=True), table={}, postprocessing=steps(one_hot, cut)
    )
    np.testing.assert_array_equal(predict(root, volume()).labels_kji, volume() > 100)


# --- instances ----------------------------------------------------------------------------------


def spots() -> np.ndarray:
    voxels = np.zeros((4, 8, 9), np.float32)
    voxels[0, 1:3, 1:3] = 150
    voxels[1, 3, 3] = 150  # touches the first by a corner
    voxels[3, 6, 7] = 150
    voxels[2:4, 0, 8] = 150
    return voxels


def test_touching_voxels_are_one_instance(tmp_path: Path) -> None:
    root = write_scripted_bundle(
        tmp_path,
        "spots",
        Above(100, background=True),
        table={"task": "instances", "instances": {"min_voxels": 2}},
    )
    answer = predict(root, spots()).answer
    assert isinstance(answer, Instances)
    assert answer.instances_kji.dtype == np.uint16
    assert answer.numbers == (1, 1)  # the single voxel is too small
    np.testing.assert_array_equal(np.bincount(answer.instances_kji.ravel())[1:], [5, 2])
    assert answer.instances_kji[1, 3, 3] == answer.instances_kji[0, 1, 1]
    assert answer.labels_kji().max() == 1


def test_a_map_of_instances_is_taken_as_it_is(tmp_path: Path) -> None:
    root = write_scripted_bundle(
        tmp_path,
        "map",
        Itself(),
        table={"task": "instances", "instances": {"map": "pred"}, "channels": {"0": "brain"}},
        channels=("brain",),
        postprocessing=steps(),
    )
    voxels = np.zeros((2, 3, 4), np.int16)
    voxels[0, 0, 0], voxels[0, 1, 1:], voxels[1, 2, 3] = 7, 300, 2
    answer = predict(root, voxels).answer
    assert isinstance(answer, Instances)
    assert answer.numbers == (1, 1, 1)
    assert [int((answer.instances_kji == n).sum()) for n in (1, 2, 3)] == [1, 1, 3]


# --- classification -----------------------------------------------------------------------------


def classification(folder: Path, **table: Any) -> Path:
    return write_scripted_bundle(
        folder,
        "classes",
        Means(),
        table={"task": "classification", "findings": [CLEAR, NODULE], **table},
        channels=("nodule", "clear"),
        dimensions=2 if "dimensions" in table else 3,
        postprocessing=steps(),
    )


def test_a_classification_gives_each_finding_its_probability(tmp_path: Path) -> None:
    answer = predict(classification(tmp_path), np.full((3, 4, 5), 30.0)).answer
    assert isinstance(answer, Classes)
    assert answer.numbers == (0, 1)
    np.testing.assert_allclose(answer.probabilities, [0.3, 0.7], atol=1e-6)
    assert answer.by_slice_kn is None


@pytest.mark.parametrize(("over", "expected"), [("max", [0.5, 0.9]), ("mean", [0.3, 0.7])])
def test_slices_are_classified_each_and_together(
    tmp_path: Path, over: str, expected: list[float]
) -> None:
    root = classification(tmp_path, dimensions="2d", over_slices=over)
    voxels = np.repeat([10.0, 30.0, 50.0], 20).reshape(3, 4, 5)
    answer = predict(root, voxels).answer
    assert isinstance(answer, Classes)
    assert answer.by_slice_kn is not None
    np.testing.assert_allclose(answer.by_slice_kn[:, 0], [0.1, 0.3, 0.5], atol=1e-6)
    np.testing.assert_allclose(answer.probabilities, expected, atol=1e-6)


def test_an_activation_of_the_table_stands_for_the_postprocessing(tmp_path: Path) -> None:
    root = classification(tmp_path, activation="softmax")
    answer = predict(root, np.full((3, 4, 5), 200.0)).answer  # 2 and -1 are no probabilities
    assert isinstance(answer, Classes)
    expected = torch.softmax(torch.tensor([2.0, -1.0]), 0)
    np.testing.assert_allclose(answer.probabilities, expected, atol=1e-6)
    with pytest.raises(InvalidBundle, match=r"radloop\.activation"):
        predict(classification(tmp_path / "none"), np.full((3, 4, 5), 200.0))


def test_a_classification_has_no_labels(tmp_path: Path) -> None:
    with pytest.raises(UnsuitableSeries, match="makes no segments"):
        _ = predict(classification(tmp_path), np.full((3, 4, 5), 30.0)).labels_kji


# --- detection ----------------------------------------------------------------------------------

DETECTOR = '''
import torch


class Spots:
    """One box around all that is above a value, in voxels of the image."""

    def __init__(self, above):
        self.above = above

    def __call__(self, inputs, network):
        network(inputs)
        where = torch.nonzero(inputs[0, 0] > self.above)
        low, high = where.min(0).values - 0.5, where.max(0).values + 0.5
        far = torch.tensor([1000.0] * len(low))
        boxes = torch.stack([torch.cat([low, high]), torch.cat([low, far]), torch.cat([far, far])])
        labels = torch.tensor([0, 1, 0])
        return [{"box": boxes, "label": labels, "label_scores": torch.tensor([0.6, 0.9, 1.0])}]
'''


def detection(folder: Path, *, dimensions: str = "3d", **table: Any) -> Path:
    root = write_scripted_bundle(
        folder,
        "boxes",
        Itself(),
        table={
            "task": "detection",
            "findings": [NODULE, CLEAR],
            "dimensions": dimensions,
            **table,
        },
        channels=("boxes",),
        dimensions=int(dimensions[0]),
        inferer={"_target_": "scripts.spots.Spots", "above": 100},
        preprocessing=steps(
            CHANNEL_FIRST,
            *(
                [{"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"}]
                if dimensions == "3d"
                else []
            ),
        ),
    )
    (root / "scripts").mkdir()
    (root / "scripts/spots.py").write_text(DETECTOR)
    from models.code import allow_code

    allow_code(root)
    return root


def corners(low_kji: list[float], high_kji: list[float]) -> tuple[list[float], list[float]]:
    points = np.array([[*low_kji, 1], [*high_kji, 1]]) @ AFFINE.T
    return points[:, :3].min(0).tolist(), points[:, :3].max(0).tolist()


def test_boxes_lie_in_the_patient(tmp_path: Path) -> None:
    voxels = np.zeros((6, 8, 9), np.float32)
    voxels[2:4, 3:7, 5] = 150
    answer = predict(detection(tmp_path), voxels).answer
    assert isinstance(answer, Boxes)
    assert [box.number for box in answer.boxes] == [1, 0]  # the surest first; the empty one gone
    low, high = corners([1.5, 2.5, 4.5], [3.5, 6.5, 5.5])
    np.testing.assert_allclose(answer.boxes[1].low_lps, low, atol=1e-4)
    np.testing.assert_allclose(answer.boxes[1].high_lps, high, atol=1e-4)


def test_a_box_ends_where_the_image_does(tmp_path: Path) -> None:
    voxels = np.zeros((6, 8, 9), np.float32)
    voxels[0:2, 6:8, 0:3] = 150  # voxel 0 begins at -0.5, and the last ends half a voxel behind
    answer = predict(detection(tmp_path), voxels).answer
    assert isinstance(answer, Boxes)
    spot = corners([-0.5, 5.5, -0.5], [1.5, 7.5, 2.5])
    whole = corners([-0.5, -0.5, -0.5], [5.5, 7.5, 8.5])  # the detector says: to voxel 1000
    for box, (low, high) in zip(answer.boxes, (whole, spot), strict=True):
        np.testing.assert_allclose(box.low_lps, low, atol=1e-4)
        np.testing.assert_allclose(box.high_lps, high, atol=1e-4)


def test_boxes_below_the_least_score_are_dropped(tmp_path: Path) -> None:
    voxels = np.zeros((6, 8, 9), np.float32)
    voxels[2:4, 3:7, 5] = 150
    answer = predict(detection(tmp_path, min_score=0.7), voxels).answer
    assert isinstance(answer, Boxes)
    assert [box.score for box in answer.boxes] == [pytest.approx(0.9)]


def test_a_box_on_a_slice_is_as_thick_as_the_slice(tmp_path: Path) -> None:
    voxels = np.zeros((1, 8, 9), np.float32)
    voxels[0, 3:7, 5] = 150
    answer = predict(detection(tmp_path, dimensions="2d"), voxels).answer
    assert isinstance(answer, Boxes)
    low, high = corners([-0.5, 2.5, 4.5], [0.5, 6.5, 5.5])
    (box,) = [box for box in answer.boxes if box.number == 0]
    np.testing.assert_allclose(box.low_lps, low, atol=1e-4)
    np.testing.assert_allclose(box.high_lps, high, atol=1e-4)


def retina_configuration() -> dict[str, Any]:
    """The network and detector of the zoo's lung nodule bundle, narrower."""
    resnet = "$monai.networks.nets.resnet.resnet10(spatial_dims=3,n_input_channels=1,"
    resnet += "conv1_t_stride=[2,2,1],conv1_t_size=[7,7,7])"
    extractor = "monai.apps.detection.networks.retinanet_network.resnet_fpn_feature_extractor"
    return {
        "backbone": resnet,
        "feature_extractor": f"${extractor}(@backbone,3,False,[1,2],None)",
        "network_def": {
            "_target_": "RetinaNet",
            "spatial_dims": 3,
            "num_classes": 1,
            "num_anchors": 3,
            "feature_extractor": "@feature_extractor",
            "size_divisible": [16, 16, 8],
            "use_list_output": False,
        },
        "network": "$@network_def.to(@device)",
        "anchor_generator": {
            "_target_": "monai.apps.detection.utils.anchor_utils.AnchorGeneratorWithAnchorShape",
            "feature_map_scales": [1, 2, 4],
            "base_anchor_shapes": [[6, 8, 4], [8, 6, 5], [10, 10, 6]],
        },
        "detector": {
            "_target_": "RetinaNetDetector",
            "network": "@network",
            "anchor_generator": "@anchor_generator",
            "debug": False,
            "spatial_dims": 3,
            "num_classes": 1,
            "size_divisible": [16, 16, 8],
        },
        "detector_ops": [
            "$@detector.set_target_keys(box_key='box', label_key='label')",
            "$@detector.set_box_selector_parameters(score_thresh=0.0,topk_candidates_per_level=5,"
            "nms_thresh=0.22,detections_per_img=4)",
            "$@detector.set_sliding_window_inferer(roi_size=[32,32,16],overlap=0.25,"
            "sw_batch_size=1,mode='constant',device='cpu')",
        ],
        "inferer": {"_target_": "scripts.detection_inferer.RetinaNetInferer"},
        "postprocessing": steps({"_target_": "DeleteItemsd", "keys": ["image"]}),
    }


@pytest.mark.parametrize("shape", [(14, 30, 30), (20, 40, 33)])
def test_a_retinanet_of_the_zoos_kind_needs_no_code_and_no_torchvision(
    tmp_path: Path, shape: tuple[int, int, int]
) -> None:
    root = detection(tmp_path)
    path = root / "configs/inference.json"
    document = {**json.loads(path.read_text()), **retina_configuration()}
    path.write_text(json.dumps(document))
    (root / "models/model.ts").unlink()
    torch.manual_seed(0)
    from monai.apps.detection.networks.retinanet_network import RetinaNet
    from monai.networks.nets.resnet import resnet10

    from models.networks.pyramid import resnet_fpn_feature_extractor

    backbone = resnet10(
        spatial_dims=3, n_input_channels=1, conv1_t_stride=[2, 2, 1], conv1_t_size=[7, 7, 7]
    )
    extractor = resnet_fpn_feature_extractor(backbone, 3, False, [1, 2], None)
    network = RetinaNet(3, 1, 3, extractor, size_divisible=[16, 16, 8])
    torch.save(network.state_dict(), root / "models/model.pt")
    bundle = read_bundle(root)
    assert bundle.code_sha256 == ""
    shares: list[float] = []
    predictor = Predictor(bundle, device="cpu")
    answer = predictor.predict(volume(shape=shape), AFFINE, progress=shares.append).answer
    assert isinstance(answer, Boxes)
    assert 0 < len(answer.boxes) <= 4
    far = np.array([*(n - 1 for n in shape), 1.0])
    ends = np.stack([AFFINE[:3, 3], (AFFINE @ far)[:3]])
    for box in answer.boxes:
        assert isinstance(box, Box)
        assert (np.array(box.low_lps) >= ends.min(0) - 3.1).all()
        assert (np.array(box.high_lps) <= ends.max(0) + 3.1).all()
    assert shares[-1] == 1.0


# --- slices and their neighbours ----------------------------------------------------------------


def test_slice_by_slice_is_the_same_as_the_volume(tmp_path: Path) -> None:
    root = write_scripted_bundle(
        tmp_path,
        "flat",
        Above(100, background=True),
        table={"dimensions": "2d"},
        dimensions=2,
        preprocessing=steps(
            CHANNEL_FIRST, {"_target_": "Resized", "keys": "image", "spatial_size": [14, 12]}
        ),
        postprocessing=steps(
            ARGMAX,
            {
                "_target_": "Invertd",
                "keys": "pred",
                "orig_keys": "image",
                "transform": "@preprocessing",
                "nearest_interp": True,
            },
        ),
    )
    voxels = np.kron(volume(shape=(11, 3, 1)) > 150, np.ones((1, 2, 7))) * 200.0
    np.testing.assert_array_equal(predict(root, voxels).labels_kji, voxels > 100)


def test_neighbours_are_channels_and_the_last_slice_its_own_neighbour(tmp_path: Path) -> None:
    root = write_scripted_bundle(
        tmp_path,
        "between",
        Channel(2),  # the slice above
        table={"dimensions": "2.5d", "neighbours": 1},
        in_channels=3,
        dimensions=2,
    )
    voxels = volume(shape=(10, 4, 5))
    above = np.concatenate([voxels[1:], voxels[-1:]])
    np.testing.assert_array_equal(predict(root, voxels).labels_kji, above > 100)


@pytest.mark.parametrize("colour", [True, False])
def test_colours_are_three_channels_and_grey_is_given_three_times(
    tmp_path: Path, colour: bool
) -> None:
    root = write_scripted_bundle(
        tmp_path,
        "colours",
        Channel(1),
        table={"dimensions": "2d", "inputs": [{"name": "image", "colour": True}]},
        in_channels=3,
        dimensions=2,
        preprocessing=steps({**CHANNEL_FIRST, "channel_dim": -1}),
    )
    voxels = volume(shape=(2, 4, 5, 3) if colour else (2, 4, 5))
    green = voxels[..., 1] if colour else voxels
    np.testing.assert_array_equal(predict(root, voxels).labels_kji, green > 100)


# --- several inputs -----------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 1, 2])
def test_inputs_of_one_key_are_its_channels_in_their_order(tmp_path: Path, number: int) -> None:
    names = ("T1c", "T1", "FLAIR")
    root = write_scripted_bundle(
        tmp_path,
        "several",
        Channel(number),
        table={"inputs": [{"name": name} for name in names]},
        in_channels=3,
        preprocessing=steps(),  # as for several files, LoadImage has stacked them
    )
    images = {name: volume(seed) for seed, name in enumerate(names)}
    labels_kji = predict(root, volume(), **images).labels_kji
    np.testing.assert_array_equal(labels_kji, images[names[number]] > 100)
    with pytest.raises(MissingInput, match="T1c, FLAIR"):
        predict(root, volume(), T1=volume())


def test_inputs_may_have_keys_of_their_own(tmp_path: Path) -> None:
    keys = ["artery", "vein"]
    root = write_scripted_bundle(
        tmp_path,
        "keys",
        Channel(1),
        table={"inputs": [{"name": key, "key": key} for key in keys]},
        in_channels=2,
        preprocessing=steps(
            {"_target_": "EnsureChannelFirstd", "keys": keys},
            {"_target_": "ConcatItemsd", "keys": keys, "name": "image"},
        ),
    )
    labels_kji = predict(root, volume(), artery=volume(1), vein=volume(2)).labels_kji
    np.testing.assert_array_equal(labels_kji, volume(2) > 100)


# --- answers as arrays --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        Masks((2, 5), np.eye(8, dtype=bool).reshape(2, 2, 4, 4)),
        Instances(np.arange(24, dtype=np.uint16).reshape(2, 3, 4), tuple([1, 2] * 12)[:23]),
        Classes((0, 1), np.array([0.25, 0.75])),
        Classes((0, 1), np.array([0.25, 0.75]), np.ones((3, 2))),
        Boxes((Box(3, 0.5, (0.0, 1.0, 2.0), (3.0, 4.0, 5.0)),)),
        Boxes(()),
    ],
)
def test_answers_come_back_from_their_arrays(answer: Any) -> None:
    again = from_arrays(to_arrays(answer))
    assert type(again) is type(answer)
    first, second = to_arrays(answer), to_arrays(again)
    assert first.keys() == second.keys()
    for name, array in first.items():
        assert array.dtype == second[name].dtype
        np.testing.assert_array_equal(array, second[name])


def test_the_child_takes_several_images_and_gives_every_kind_of_answer(tmp_path: Path) -> None:
    names = ("T1c", "FLAIR")
    write_scripted_bundle(
        tmp_path,
        "several",
        Channel(1),
        table={"inputs": [{"name": name} for name in names]},
        in_channels=2,
        preprocessing=steps(),
    )
    write_scripted_bundle(
        tmp_path,
        "overlap",
        Above(100, 200),
        table={"segments": [BRAIN, LESION], "overlapping": True},
        channels=("brain", "lesion"),
        postprocessing=steps(SIGMOID),
    )
    classification(tmp_path)
    detection(tmp_path)
    with PredictorProcess([tmp_path], device="cpu", threads=1, keep=4) as process:
        images = {name: Image(volume(seed), AFFINE) for seed, name in enumerate(names)}
        labels_kji = process.predict_images("several", images).labels_kji
        np.testing.assert_array_equal(labels_kji, volume(1) > 100)
        with pytest.raises(MissingInput, match="FLAIR"):
            process.predict_images("several", {"T1c": images["T1c"]})
        masks = process.predict("overlap", volume(), AFFINE).answer
        assert isinstance(masks, Masks)
        np.testing.assert_array_equal(masks.masks_nkji[1], volume() > 200)
        classes = process.predict("classes", np.full((3, 4, 5), 30.0), AFFINE).answer
        assert isinstance(classes, Classes)
        np.testing.assert_allclose(classes.probabilities, [0.3, 0.7], atol=1e-6)
        boxes = process.predict("boxes", volume(), AFFINE).answer
        assert isinstance(boxes, Boxes)
        expected = predict(tmp_path / "boxes", volume()).answer
        assert boxes == expected
