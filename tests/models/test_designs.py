"""Networks as data: what a design is said to come to is what PyTorch makes of it."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from dicom.errors import InvalidDesign
from models.designs.document import Design, read_design, write_design
from models.designs.shapes import (
    UNetShape,
    classifier,
    fresh_name,
    unet,
    with_block,
    with_fields,
    without_block,
)
from models.designs.tracing import Traced, trace
from models.learning.networks import build_network
from models.learning.planning import ClassifierPlan, Plan, UNetPlan, trace_plan
from models.networks import BlockNetwork
from tests.learning import small_plan

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = UNetShape(channels=(8, 16, 24), strides=(2, 2))
DESIGNS: Mapping[str, tuple[Design, tuple[int, ...]]] = {
    "2d": (unet(SMALL), (32, 48)),
    "2d, all there is": (
        unet(
            UNetShape(
                (8, 16, 24),
                (2, 4),
                convolutions=3,
                residual=True,
                attention=True,
                deep=True,
                norm="group",
                activation="gelu",
                up="linear",
                dropout=0.2,
            )
        ),
        (32, 32),
    ),
    "3d, thick slices": (
        unet(UNetShape((8, 16, 16), ((2, 2, 1), 2), down="convolution", norm="batch")),
        (16, 16, 8),
    ),
    "plain": (unet(UNetShape((4, 8), (2,), norm="none", activation="relu")), (16, 16)),
    "wide kernels": (unet(UNetShape((4, 8), (2,), kernel=5, down="average")), (32, 32)),
    "strides": (unet(UNetShape((8, 16, 24), (2, 4), residual=True, down="stride")), (32, 48)),
    "strides, thick slices": (
        unet(UNetShape((8, 16, 16), ((2, 2, 1), 2), kernel=5, down="stride")),
        (16, 16, 8),
    ),
    "classifier": (classifier((8, 16, 24)), (32, 32)),
}


def built(design: Design, dimensions: int, ins: int = 2, outs: int = 3) -> BlockNetwork:
    content = design.model_dump(mode="json", by_alias=True, exclude={"kind"})
    return BlockNetwork(dimensions, ins, outs, **content)


def traced(design: Design, patch: tuple[int, ...], batch: int = 1) -> Traced:
    return trace(design, in_channels=2, out_channels=3, patch=patch, batch=batch)


def kept_by_autograd(network: torch.nn.Module, image: torch.Tensor) -> tuple[int, Any]:
    """Return the bytes that are kept for the way back, without weights and image; the answer."""
    known = {value.untyped_storage().data_ptr() for value in network.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}  # held, so that no address is used twice

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in {*known, image.untyped_storage().data_ptr()}:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        answer = network(image)
    return sum(storage.nbytes() for storage in kept.values()), answer


@pytest.mark.parametrize("name", DESIGNS)
def test_shapes_channels_and_parameters_are_pytorchs(name: str) -> None:
    design, patch = DESIGNS[name]
    network = built(design, len(patch)).train()
    seen: dict[str, tuple[int, ...]] = {}
    for block, module in network.blocks.items():
        module.register_forward_hook(
            lambda _m, _i, out, block=block: seen.__setitem__(block, tuple(out.shape[1:]))
        )
    network(torch.zeros(2, 2, *patch))
    found = traced(design, patch)
    for one in found.blocks:
        shape = one.shape if not (one.kind == "head" and design.head.whole) else ()
        assert seen[one.name] == (one.channels, *shape), one.name
        counted = sum(value.numel() for value in network.blocks[one.name].parameters())
        assert one.parameters == counted, one.name
    assert found.parameters == sum(value.numel() for value in network.parameters())


@pytest.mark.parametrize("name", DESIGNS)
def test_memory_is_what_autograd_keeps(name: str) -> None:
    design, patch = DESIGNS[name]
    batch = 2
    network = built(design, len(patch)).train()
    measured, _ = kept_by_autograd(network, torch.zeros(batch, 2, *patch))
    said = sum(one.kept_bytes for one in traced(design, patch, batch).blocks)
    assert said == pytest.approx(measured, rel=0.02)


MONAIS: Mapping[str, Plan] = {
    "unet": small_plan(),
    "without residuals": small_plan(
        network=UNetPlan(channels=(4, 8, 16), strides=(2, 4), residual_units=0), patch=(32, 48)
    ),
    "3d": small_plan(
        dimensions=3,
        network=UNetPlan(channels=(8, 16), strides=(2,), residual_units=2),
        patch=(16, 16, 8),
        spacing_mm=None,
    ),
    "densenet": small_plan(
        task="classification",
        loss="cross_entropy",
        patch=(64, 64),
        network=ClassifierPlan(layers=(3, 4, 2), first_channels=16, growth=8, dropout=0),
    ),
}


@pytest.mark.parametrize("name", MONAIS)
def test_monais_networks_are_drawn_as_they_are(name: str) -> None:
    plan = MONAIS[name]
    network = build_network(plan).train()
    found = trace_plan(plan)
    assert found.parameters == sum(value.numel() for value in network.parameters())
    image = torch.zeros(plan.batch, plan.in_channels, *plan.patch)
    kept, answer = kept_by_autograd(network, image)
    shape = () if plan.task == "classification" else found.blocks[-1].shape
    assert answer.shape[1:] == (found.blocks[-1].channels, *shape)
    assert sum(one.kept_bytes for one in found.blocks) == pytest.approx(kept, rel=0.1)


@pytest.mark.parametrize("name", ["unet", "without residuals"])
def test_what_monais_unet_sees(name: str) -> None:
    plan = MONAIS[name]
    network = build_network(plan).eval()
    for module in network.modules():  # norms see everything; what is asked is the convolutions
        if isinstance(module, torch.nn.InstanceNorm2d):
            module.forward = lambda value: value
    with torch.no_grad():
        for value in network.parameters():
            value.fill_(0.01)
    widest = 0
    for at in range(plan.patch[0]):
        image = torch.ones(1, plan.in_channels, *plan.patch, requires_grad=True)
        network(image)[0, 0, at, at].backward()
        rows = image.grad[0, 0].abs().sum(dim=1).nonzero()
        widest = max(widest, int(rows.max() - rows.min()) + 1)
    assert trace_plan(plan).sees[0] == widest


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("up", ["transposed", "linear"])
def test_what_a_voxel_sees_is_where_its_gradient_goes(levels: int, up: str) -> None:
    shape = UNetShape(
        (2,) * levels, (2,) * (levels - 1), norm="none", activation="relu", down="average"
    )
    design = unet(UNetShape(**{**{f: getattr(shape, f) for f in shape.__slots__}, "up": up}))
    side = 64
    network = built(design, 2).eval()
    with torch.no_grad():
        for value in network.parameters():
            value.fill_(0.01)  # so that nothing is cut off, and every path counts
    widest = 0
    for at in range(24, 40):
        image = torch.ones(1, 2, side, side, requires_grad=True)
        network(image)[0, 0, at, at].backward()
        rows = image.grad[0, 0].abs().sum(dim=1).nonzero()
        widest = max(widest, int(rows.max() - rows.min()) + 1)
    assert trace(design, in_channels=2, out_channels=3, patch=(side, side)).sees[0] == widest


def test_deep_answers_are_there_while_training_only() -> None:
    design, patch = DESIGNS["2d, all there is"]
    network = built(design, 2)
    image = torch.zeros(1, 2, *patch)
    found = network.train()(image)
    assert isinstance(found, tuple)
    assert [one.shape[2] for one in found] == [32, 16]
    assert network.eval()(image).shape == (1, 3, 32, 32)


def test_blocks_are_added_joined_and_removed() -> None:
    start = unet(SMALL)
    name = fresh_name(start, "convolutions")
    block = {"name": name, "kind": "convolutions", "from": ["in0"], "channels": 8}
    more = with_block(start, block)
    assert more.by_name()["down1"].from_ == (name,)
    assert more.by_name()["join0"].from_ == ("in0", "up0")  # what is skipped stays as it was
    assert without_block(more, name) == start
    joined = with_fields(more, "join0", {"from": ["in0", name, "up0"]})
    assert traced(joined, (32, 32)).parameters > traced(more, (32, 32)).parameters
    less = without_block(start, "in0")  # the skip is the image itself then
    assert less.by_name()["join0"].from_ == ("image", "up0")
    assert traced(less, (32, 32)).parameters < traced(start, (32, 32)).parameters
    without_gate = without_block(unet(UNetShape((4, 8), (2,), attention=True)), "gate0")
    assert without_gate.by_name()["join0"].from_ == ("in0", "up0")


def changed(**fields: object) -> dict[str, Any]:
    """Return a U-Net's document with fields of single blocks changed."""
    content = unet(SMALL).model_dump(mode="json", by_alias=True)
    for block in content["block"]:
        block.update(fields.get(block["name"], {}))
    return content


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"in1": {"from": ["nowhere"]}}, "block in1: there is no nowhere to take from"),
        ({"in1": {"channels": 0}}, "block in1: channels: "),
        ({"in1": {"kernel": 4}}, "block in1: kernel: "),
        ({"in0": {"from": ["out0"]}}, "goes in a circle"),
        ({"in1": {"from": ["image"]}}, "block down1: nothing takes from it"),
        ({"join0": {"from": ["in1", "up0"]}}, "block join0: in1 has 16 x 16 voxels, up0 has 32"),
        ({"join0": {"how": "add"}, "in0": {"channels": 9}}, "block join0: 9 and 8 channels"),
        ({"up0": {"by": 1}}, "block join0: in0 has 32 x 32 voxels, up0 has 16 x 16"),
        ({"down2": {"by": 3}}, "block down2: 16 x 16 voxels cannot be divided by 3 x 3"),
        ({"down2": {"by": [2, 2, 2]}}, "block down2: by has 3 factors, the image 2 axes"),
    ],
)
def test_an_impossible_design_says_what_is_wrong_where(fields: Any, says: str) -> None:
    with pytest.raises(InvalidDesign) as refused:
        traced(read_design(changed(**fields)), (32, 32))
    assert says in refused.value.message


def test_a_design_answers_once() -> None:
    content = changed()
    content["block"][-1] = {"name": "answer", "kind": "deep", "from": ["out0"]}
    with pytest.raises(InvalidDesign, match="there is one head"):
        read_design(content)


def test_a_document_that_is_none_is_refused_at_its_line() -> None:
    with pytest.raises(InvalidDesign, match="line 2: "):
        read_design('{"kind": "blocks",\n "block": [}')
    with pytest.raises(InvalidDesign, match="block answer: takes from one block"):
        read_design(changed(answer={"from": ["out0", "in0"]}))


def test_a_design_is_written_as_people_edit_it_and_read_again() -> None:
    for design, _ in DESIGNS.values():
        assert read_design(write_design(design)) == design
        assert json.loads(write_design(design))["block"]
