"""Boxes: through augmentation, onto the network's grid, out of its maps, and judged."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dicom.errors import InvalidPlan
from models.clearing import painted_over, without_boxes
from models.learning.augment import Recipe, follow
from models.learning.beginning import changed_plan
from models.learning.cases import Box, Case, Dataset, read_dataset, write_array, write_dataset
from models.learning.detecting import (
    CentreLoss,
    Detected,
    Hit,
    average_precision,
    centre_maps,
    cut_rows,
    matched,
)
from models.learning.graph import read_graph
from models.learning.markers import paint_markers
from models.learning.networks import modules_of, set_learning
from models.learning.planning import UNetPlan, make_plan, trace_plan
from models.learning.preparing import Prepared
from models.networks.centres import FARTHEST, PRIOR, boxes_at_centres
from models.prediction import Box as Found
from models.prediction import Boxes, Image
from models.table import FindingRow
from tests.learning import small_plan

FINDINGS = tuple(
    FindingRow.model_validate(
        {"number": n, "label": label, "code": {"value": v, "scheme": "SCT", "meaning": label}}
    )
    for n, label, v in ((1, "Left", "7771000"), (2, "Right", "24028007"))
)
BOXES = (
    Box(label=1, first=(2, 3, 20), last=(5, 10, 27)),
    Box(label=2, first=(6, 20, 4), last=(9, 27, 9)),
)
AFFINE = ((0.0, 0.2, -1.5, 9.0), (0.1, 1.0, 0.2, -4.0), (3.0, 0.0, 0.1, 2.0), (0.0, 0.0, 0.0, 1.0))


def boxed(folder: Path, *, boxes=BOXES, shape=(12, 32, 40), affine=AFFINE, spacing=(3.0, 1.0, 1.5)):
    """Write a case whose boxes are full of their own value."""
    image = np.zeros((1, *shape), np.float32)
    for box in boxes:
        k, j, i = (slice(a, b + 1) for a, b in zip(box.first, box.last, strict=True))
        image[0, k, j, i] = box.label
    cases = tuple(
        Case(
            id=f"c{number}",
            patient=f"p{number}",
            split="train",
            shape=shape,
            spacing_kji=spacing,
            affine_lps=affine,
            boxes=boxes,
            image_sha256=write_array(folder, f"c{number}", "image.npy", image),
        )
        for number in range(2)
    )
    dataset = Dataset(
        name="boxes",
        version="1",
        task="detection",
        classes={1: "Left", 2: "Right"},
        findings=FINDINGS,
        channels=("grey",),
        cases=cases,
    )
    write_dataset(folder, dataset)
    return read_dataset(folder)


def sample_of(folder: Path, *nodes: dict, **options):
    data = boxed(folder, **options)
    chain, before = [{"name": "a", "kind": "source"}], "a"
    for number, node in enumerate(nodes):
        chain.append({"name": f"n{number}", "from": [before], **node})
        before = f"n{number}"
    graph = read_graph({"node": [*chain, {"name": "train", "kind": "sink", "from": [before]}]})
    steps = tuple(node for node in graph.in_order() if node.kind not in ("source", "sink"))
    sample = follow(Recipe(data.dataset.cases[0], steps), data, seed=4)
    assert sample is not None
    return sample


def seen(image: np.ndarray, number: int) -> list[int]:
    """Return the edges of what has a value, low then high."""
    where = np.argwhere(np.abs(image - number) < 0.45)
    return [*where.min(axis=0), *(where.max(axis=0) + 1)]


@pytest.mark.parametrize(
    "nodes",
    [
        [{"kind": "flip", "axes": ["columns"]}],
        [{"kind": "flip", "axes": ["slices", "rows"]}],
        [{"kind": "crop", "size": [12, 30, 36]}],
        [{"kind": "resample", "size": [24, 64, 80]}],
        [{"kind": "rotate", "degrees": [90, 90]}, {"kind": "flip", "axes": ["rows"]}],
        [{"kind": "zoom", "factor": [0.8, 0.8]}],
        [{"kind": "deform", "points": 3, "share": [0.1, 0.1]}],
        [{"kind": "noise", "share": [0, 0.01]}, {"kind": "classes", "mapping": {"1": 2, "2": 1}}],
    ],
)
def test_a_box_goes_where_its_voxels_go(tmp_path: Path, nodes: list[dict]):
    swapped = nodes[-1]["kind"] == "classes"
    options: dict[str, Any] = {}
    if nodes[0]["kind"] == "rotate":  # by 90 degrees, in place
        options = {"shape": (12, 32, 32), "spacing": (1.0, 1.0, 1.0)}
    if nodes[0]["kind"] in ("resample", "zoom", "deform"):  # between two values lies the other
        options["boxes"] = BOXES[:1]
    sample = sample_of(tmp_path, *nodes, **options)
    assert len(sample.boxes) == len(options.get("boxes", BOXES))
    for row in sample.boxes:
        number = 3 - row[0] if swapped else row[0]
        assert np.abs(row[1:] - seen(sample.image[0], int(number))).max() <= 1.0


def test_a_box_of_which_little_is_left_is_gone():
    rows = np.array([[1, 0, 0, 0, 1, 10, 10], [2, 0, 12, 12, 1, 20, 20]], float)
    kept = cut_rows(rows, (0, 4, 0), (1, 20, 20))
    assert kept.tolist() == [[1, 0, 0, 0, 1, 6, 10], [2, 0, 8, 12, 1, 16, 20]]
    assert cut_rows(rows, (0, 6, 0), (1, 20, 20))[:, 0].tolist() == [2]


@pytest.mark.parametrize(
    "change", [{"spacing_mm": (1.0, 2.0, 3.0)}, {"spacing_mm": None}, {"size": (64, 20, 24)}]
)
def test_boxes_lie_on_the_networks_grid(tmp_path: Path, change: dict):
    folder = boxed(tmp_path / "data")
    network = UNetPlan(channels=(4, 8), strides=(2,), residual_units=0)
    plan = small_plan(
        task="detection",
        loss="centres",
        typical_box=(6, 6, 4),
        dimensions=3,
        patch=(16, 16, 8),
        network=network,
        **change,
    )
    prepared = Prepared(folder, plan, tmp_path / "cache")
    case = folder.dataset.cases[0]
    image = np.array(prepared.image(case))[0] * 1.0
    rows = prepared.boxes(case)
    for row in rows:
        inside = image[
            tuple(slice(round(a), round(b)) for a, b in zip(row[1:4], row[4:], strict=True))
        ]
        others = image[image > 0]
        assert inside.size
        assert np.median(inside) > 0.1 * others.max()  # the box is full of something
        middle = np.floor((row[1:4] + row[4:]) / 2).astype(int)
        assert image[tuple(middle)] > 0


def test_maps_that_are_right_give_the_boxes_back():
    rows = np.array(
        [[1, 0, 3, 20, 1, 11, 28], [2, 0, 20, 4, 1, 28, 10], [1, 0, 0, 0, 1, 4, 5]], float
    )
    maps = centre_maps(rows, (1, 32, 40), 2)[:, 0]
    typical = (6.0, 8.0)
    said = np.full((6, 40, 32), -9.0, np.float32)
    said[:2] = np.where(maps[:2].transpose(0, 2, 1) >= 1, 3.0, -9.0) + PRIOR
    sides = [maps[3 + at].T for at in (2, 1, 5, 4)]  # low x, low y, high x, high y
    for at, (side, usual) in enumerate(zip(sides, (*typical, *typical), strict=True)):
        said[2 + at] = np.log(np.maximum(side, 0.05) / (usual / 2))
    boxes, classes, scores = boxes_at_centres(torch.from_numpy(said), 2, typical)
    found = {
        (int(c), *(b + 0.5).round(3).tolist()) for c, b in zip(classes, boxes.numpy(), strict=True)
    }
    assert found == {
        (0, 20.0, 3.0, 28.0, 11.0),
        (1, 4.0, 20.0, 10.0, 28.0),
        (0, 0.0, 0.0, 5.0, 4.0),
    }
    assert scores.min() > 0.9
    doubled = torch.from_numpy(said)
    doubled[0, 26, 7] = 1.0 + PRIOR  # beside the first centre: the same thing again
    doubled[2:, 26, 7] = doubled[2:, 24, 7]
    assert len(boxes_at_centres(doubled, 2, typical)[0]) == 3


def test_the_loss_is_least_where_maps_are_right():
    rows = np.array([[1, 0, 8, 8, 1, 20, 18]], float)
    target = torch.from_numpy(centre_maps(rows, (1, 32, 32), 1)[:, 0])
    target = target[[0, 1, 4, 3, 7, 6]].transpose(1, 2)[None]
    loss = CentreLoss(1, (8.0, 8.0))
    right = torch.full((1, 5, 32, 32), -9.0)
    right[:, :1] = torch.where(target[:, :1] >= 1, 9.0, -9.0) + PRIOR
    right[:, 1:] = torch.log(target[:, 2:].clamp(min=0.1) / 4).clamp(-FARTHEST, FARTHEST)
    assert float(loss(right, target)) < 0.05
    elsewhere = right.roll(5, dims=2)
    larger = right.clone()
    larger[:, 1:] += 0.7
    assert float(loss(elsewhere, target)) > 5
    assert 0.5 < float(loss(larger, target)) < 5
    nothing = torch.zeros_like(target)
    assert torch.isfinite(loss(right, nothing))


def test_each_thing_is_found_once():
    true = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], float)
    found = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [21, 20, 31, 30], [20, 20, 30, 30]], float)
    said = matched(found, [1, 1, 1, 2], [0.5, 0.9, 0.8, 0.7], true, [1, 1])
    assert [hit.is_right for hit in said.hits] == [True, True, False, False]
    assert average_precision([said], 1) == pytest.approx(1.0)
    assert average_precision([said], 2) is None


@pytest.mark.parametrize(
    ("right", "things", "precision"),
    [([1, 1], 2, 1.0), ([0, 1], 1, 0.5), ([1, 0, 1], 2, 5 / 6), ([], 1, 0.0), ([1], 4, 0.25)],
)
def test_average_precision_by_hand(right: list[int], things: int, precision: float):
    hits = tuple(Hit(1, 1 - at / 10, bool(each)) for at, each in enumerate(right))
    assert average_precision([Detected(hits, (1,) * things)], 1) == pytest.approx(precision)


# --- markers --------------------------------------------------------------------------------------


def test_letters_lie_in_their_boxes_and_others_have_none():
    letters, blank = {"L": 1, "R": 2}, np.full((1, 1, 96, 96), 10, np.float32)
    blank[..., ::7] = 12  # a range of grey values to take ink from
    seen_classes = set()
    for seed in range(40):
        draw = np.random.default_rng(seed)
        image, rows = paint_markers(
            blank.copy(), draw, letters=letters, count=(1, 2), height=(10, 30), others=0.0
        )
        changed = np.abs(image - blank)[0, 0] > 1e-3
        for number, _, j0, i0, _, j1, i1 in rows.astype(int).tolist():
            seen_classes.add(number)
            assert changed[j0:j1, i0:i1].any(axis=1).mean() > 0.7  # ink from top to bottom
            assert 9 <= j1 - j0 <= 31
    assert seen_classes == {1, 2}
    again = paint_markers(blank.copy(), np.random.default_rng(3), letters=letters, count=(1, 2))
    assert (
        again[0]
        == paint_markers(blank.copy(), np.random.default_rng(3), letters=letters, count=(1, 2))[0]
    ).all()
    others, none = paint_markers(
        blank.copy(), np.random.default_rng(1), letters=letters, count=(0, 0), others=1.0
    )
    assert len(none) == 0
    assert (others != blank).any()


def test_a_marker_is_painted_over_smoothly_and_nothing_else_changes():
    ramp = np.add.outer(np.arange(20.0), 2 * np.arange(30.0))[None].astype(np.float32)
    marked = ramp.copy()
    marked[0, 5:12, 8:14] = 500
    affine = np.diag([0, 0, 0, 1.0])
    affine[0, 2], affine[1, 1], affine[2, 0] = 0.5, 0.5, 1.0
    box = Found(1, 0.9, (3.75, 2.25, -0.5), (6.75, 5.75, 0.5))
    cleared = without_boxes(Image(marked, affine), Boxes((box,)), margin=0.0).voxels
    outside = np.ones(ramp.shape, bool)
    outside[0, 5:12, 8:14] = False
    assert (cleared[outside] == ramp[outside]).all()
    assert np.abs(cleared - ramp)[~outside].max() < 4
    at_the_edge = painted_over(marked, [(slice(0, 1), slice(0, 4), slice(25, 30))])
    assert np.isfinite(at_the_edge).all()


# --- plans ----------------------------------------------------------------------------------------


def test_a_detection_is_planned_from_its_boxes(tmp_path: Path):
    plan = make_plan(boxed(tmp_path), minutes=1)
    assert (plan.task, plan.loss, plan.out_channels) == ("detection", "centres", 8)
    assert plan.typical_box == (7.0, 8.0, 4.0)
    assert "typical_box" in plan.why
    with pytest.raises(InvalidPlan, match="typical_box"):
        changed_plan(plan, {"typical_box": None})


def test_frozen_blocks_keep_their_weights_and_their_norms_figures():
    densenet = {"kind": "densenet", "layers": (2, 2), "first_channels": 8, "growth": 4}
    plan = small_plan(
        task="classification", loss="cross_entropy", network=densenet, frozen=("stem", "dense1")
    )
    from models.learning.networks import build_network

    network = build_network(plan)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.1)
    set_learning(network, plan)
    network(torch.randn(4, 1, 32, 32)).sum().backward()
    optimiser.step()
    changed = {n for n, value in network.state_dict().items() if not torch.equal(value, before[n])}
    assert not any(
        name.startswith(("features.conv0", "features.norm0", "features.denseblock1"))
        for name in changed
    )
    assert any(name.startswith("features.denseblock2") for name in changed)
    assert "features.norm5.running_mean" in changed


@pytest.mark.parametrize("kind", ["unet", "densenet", "blocks"])
def test_every_block_that_is_drawn_can_be_frozen(kind: str):
    networks = {
        "unet": {"kind": "unet", "channels": (4, 8, 8), "strides": (2, 2), "residual_units": 1},
        "densenet": {"kind": "densenet", "layers": (2, 2), "first_channels": 8, "growth": 4},
        "blocks": {
            "kind": "blocks",
            "block": [
                {"name": "one", "kind": "convolutions", "from": ["image"], "channels": 8},
                {"name": "two", "kind": "convolutions", "from": ["one"], "channels": 8},
                {"name": "answer", "kind": "head", "from": ["two"]},
            ],
        },
    }
    fits = {"task": "classification", "loss": "cross_entropy"} if kind == "densenet" else {}
    plan = small_plan(network=networks[kind], **fits)
    from models.learning.networks import build_network

    network = build_network(plan)
    held = 0
    for block in trace_plan(plan).blocks:
        modules = modules_of(network, plan, block.name)
        held += sum(p.numel() for module in modules for p in module.parameters())
        assert modules or block.parameters == 0
    assert held == sum(p.numel() for p in network.parameters())
    with pytest.raises(InvalidPlan, match="no block nowhere"):
        changed_plan(plan, {"frozen": ["nowhere"]})
    with pytest.raises(InvalidPlan, match="nothing is left"):
        changed_plan(plan, {"frozen": [block.name for block in trace_plan(plan).blocks]})
