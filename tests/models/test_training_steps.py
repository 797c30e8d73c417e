"""What a step of a training is made of: batches ahead, cases kept, small batches, averages."""

import shutil
from pathlib import Path

import pytest
import torch

from dicom.errors import InvalidDataset
from models.learning.augment import Recipe
from models.learning.feed import Feed
from models.learning.networks import build_network
from models.learning.orders import BEST, LAST
from models.learning.planning import UNetPlan
from models.learning.preparing import Prepared
from models.learning.trainer import train
from tests.learning import blobs, small_plan
from tests.slurm import comes_to

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = UNetPlan(channels=(4, 8), strides=(2,), residual_units=0, dropout=0.0)


def a_plan(**change: object):
    return small_plan(
        **{"network": TINY, "precision": "single", "steps": 5, "steps_an_epoch": 1, **change}
    )


def learnt(tmp_path: Path, folder, name: str, plan, **options: object):
    cpu = torch.device("cpu")
    return train(folder, plan, tmp_path / name, cache=tmp_path / "cache", device=cpu, **options)


def test_small_batches_that_count_as_one_are_one_large_batch(tmp_path: Path):
    folder = blobs(tmp_path / "data", task="multilabel")
    adds_up = {"task": "multilabel", "loss": "bce"}  # Dice of a batch is not the sum of its parts
    large, small = (
        [epoch.loss for epoch in learnt(tmp_path, folder, name, a_plan(**adds_up, **more)).epochs]
        for name, more in (("large", {}), ("small", {"batch": 2, "accumulate": 2}))
    )
    assert small == pytest.approx(large, abs=1e-4)
    assert abs(large[0] - large[-1]) > 1e-2  # it did learn


def test_what_is_kept_is_the_average_over_the_steps(tmp_path: Path):
    folder, plan = blobs(tmp_path / "data"), a_plan(average=0.3)
    torch.manual_seed(plan.seed)
    average = build_network(plan).state_dict()
    seen = []

    def follow(epoch) -> None:
        here = torch.load(tmp_path / "run" / LAST, weights_only=True)
        share = min(0.3, (1 + epoch.step) / (10 + epoch.step))  # a young average follows faster
        for name, value in average.items():
            average[name] = share * value + (1 - share) * here["network"][name]
        for name, value in average.items():
            assert torch.allclose(here["average"][name], value, atol=1e-6), name
        seen.append(share)
        if epoch.number == learnt_best(tmp_path):
            best = torch.load(tmp_path / "run" / BEST, weights_only=True)["average"]
            assert all(torch.equal(best[name], here["average"][name]) for name in best)

    learnt(tmp_path, folder, "run", plan, told=follow)
    assert len(seen) == 5 and seen[0] < seen[-1] == 0.3


def learnt_best(tmp_path: Path) -> int:
    kept = torch.load(tmp_path / "run" / LAST, weights_only=True)["state"]
    return int(kept["best_epoch"])


def test_cases_are_prepared_once_for_all_trainings(tmp_path: Path):
    folder = blobs(tmp_path / "data")
    first = learnt(tmp_path, folder, "first", a_plan())
    shutil.rmtree(folder.root / "cases")
    again = learnt(tmp_path, folder, "again", a_plan())  # what it needs is kept
    assert [one.loss for one in again.epochs] == [one.loss for one in first.epochs]
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(InvalidDataset):
        learnt(tmp_path, folder, "third", a_plan())


def test_the_next_batches_are_made_while_the_network_computes(tmp_path: Path):
    folder, plan = blobs(tmp_path / "data"), a_plan()
    recipes = [Recipe(case, ()) for case in folder.dataset.of("train")]
    feed = Feed(recipes, Prepared(folder, plan, tmp_path / "cache"), plan, workers=1)
    made, sample = [], feed.sample

    def noted(n: int):
        made.append(n)
        return sample(n)

    feed.sample = noted  # type: ignore[method-assign]
    batches = feed.batches(3)
    next(batches)
    comes_to(lambda: len(made) == 2 * plan.batch)  # nobody has asked for the second yet
    batches.close()
    assert made == [*range(12, 20)]  # the numbers say which: batch 3 and 4 of four samples each
