"""A model is trained further and measured in three lines, without any server."""

from pathlib import Path

import pytest
import torch

from dicom.errors import InvalidPlan
from models import load
from models.designs.shapes import UNetShape, unet
from models.learning.bundling import Title, write_bundle
from models.learning.trainer import train
from tests.learning import blobs, small_plan

pytestmark = pytest.mark.usefixtures("one_thread")

SPLITS = (*("train",) * 4, "validation", "test", "test")


def test_a_model_learns_further_and_is_better_on_patients_that_it_never_saw(tmp_path: Path) -> None:
    data = blobs(tmp_path / "data", patients=SPLITS)
    network = unet(UNetShape((8, 16, 16), (2, 2), deep=True))
    weak = train(
        data,
        small_plan(network=network, steps=2),
        tmp_path / "weak",
        cache=tmp_path / "cache",
        device=torch.device("cpu"),
    )
    bundle = write_bundle(tmp_path, weak, data.dataset, Title("blobs", "0.1.0"))

    model = load(bundle.root, device="cpu")
    better = model.train(
        tmp_path / "data",
        folder=tmp_path / "trained",
        augment="general",
        changes={"steps": 90, "steps_an_epoch": 30, "batch": 4, "rate": 0.01},
    )
    before, after = (one.evaluate(tmp_path / "data").interval("dice") for one in (model, better))

    assert better.bundle.identity == "blobs@0.2.0"
    assert (tmp_path / "trained" / "blobs@0.2.0" / "configs" / "inference.json").is_file()
    assert before is not None and after is not None and after.patients == 2
    assert after.mean > max(0.6, before.mean)


def test_a_model_that_does_not_say_how_it_was_trained_is_refused(tmp_path: Path) -> None:
    blobs(tmp_path / "data", patients=SPLITS)
    with pytest.raises(InvalidPlan, match="does not say how it was trained"):
        load("mr_brain", device="cpu").train(tmp_path / "data", folder=tmp_path)
