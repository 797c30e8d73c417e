"""The training loop: it learns, is the same again, and goes on after it was killed."""

import math
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
import torch

from dicom.errors import (
    AnotherTraining,
    Canceled,
    CannotTrain,
    DiskFull,
    InvalidPlan,
    MissingDevice,
    Preempted,
    TrainingDiverged,
)
from models.learning.cases import DatasetFolder, read_dataset
from models.learning.graph import read_graph
from models.learning.networks import build_network
from models.learning.orders import LAST
from models.learning.planning import Plan, UNetPlan
from models.learning.precision import half_of
from models.learning.run import read_curve
from models.learning.trainer import best_weights, train
from tests.learning import blobs, small_plan

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")


def trained(folder: DatasetFolder, tmp_path: Path, name="run", plan=None, **options: object):
    return train(
        folder,
        plan or small_plan(),
        tmp_path / name,
        cache=tmp_path / "cache",
        device=CPU,
        **options,
    )


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[key], other[key]) for key in one)


def test_it_learns_two_blobs_and_never_reads_the_test_split(tmp_path: Path):
    folder = blobs(tmp_path / "data")
    (folder.root / "cases" / "c4" / "image.npy").write_bytes(b"not to be read")
    done = trained(folder, tmp_path, plan=small_plan(steps=120))
    assert done.best.scores.mean > 0.8
    assert done.epochs[-1].loss < done.epochs[0].loss / 2
    assert read_curve(done.run) == done.epochs
    assert set(done.best.scores.classes) == {"1", "2"}


def test_half_precision_learns_as_much(tmp_path: Path):
    folder = blobs(tmp_path / "data")
    half, whole = (
        trained(folder, tmp_path, kind, plan=small_plan(steps=120, precision=kind))
        for kind in ("mixed", "single")
    )
    assert half.best.scores.mean == pytest.approx(whole.best.scores.mean, abs=0.05)
    able = half_of(CPU) is not None
    assert same(best_weights(half.run), best_weights(whole.run)) is not able
    assert all(value.dtype != torch.bfloat16 for value in best_weights(half.run).values())


def test_without_cases_to_choose_on_the_last_weights_are_kept(tmp_path: Path):
    folder = blobs(tmp_path / "data", patients=("train", "train", "test"))
    done = trained(folder, tmp_path)
    assert done.best_epoch == len(done.epochs) > 1
    assert "score" not in done.best.figures
    kept = torch.load(done.run / LAST, weights_only=True)["average"]
    assert same(best_weights(done.run), kept)


def test_three_dimensions_and_a_graph(tmp_path: Path):
    folder = blobs(tmp_path / "data", slices=12, side=32)
    network = UNetPlan(channels=(8, 16), strides=(2,), residual_units=1)
    plan = small_plan(
        dimensions=3, patch=(16, 16, 8), network=network, steps=60, spacing_mm=(1.0, 1.0, 2.0)
    )
    graph = read_graph(
        {
            "node": [
                {"name": "images", "kind": "source"},
                {"name": "turned", "kind": "rotate", "from": ["images"], "degrees": [-30, 30]},
                {"name": "louder", "kind": "noise", "from": ["turned"], "share": [0, 0.2]},
                {"name": "train", "kind": "sink", "from": ["louder"]},
            ]
        }
    )
    done = trained(folder, tmp_path, plan=plan, graph=graph)
    assert done.best.scores.mean > 0.7


@pytest.mark.parametrize(
    ("task", "loss"), [("multilabel", "dice_bce"), ("segmentation", "tversky")]
)
def test_other_labels_and_losses(tmp_path: Path, task: str, loss: str):
    folder = blobs(tmp_path / "data", task=task)
    done = trained(folder, tmp_path, plan=small_plan(task=task, loss=loss, steps=100))
    assert done.best.scores.mean > 0.7


def test_a_classification(tmp_path: Path):
    folder = blobs(
        tmp_path / "data", task="classification", patients=("train",) * 6 + ("validation",) * 4
    )
    plan = small_plan(
        task="classification",
        loss="cross_entropy",
        patch=(32, 32),
        steps=40,
        rate=0.003,
        network={"kind": "densenet", "layers": (2, 2), "first_channels": 8, "growth": 8},
    )
    assert trained(folder, tmp_path, plan=plan).best.scores.mean == 1.0


def test_the_same_seed_gives_the_same_weights_and_another_does_not(tmp_path: Path):
    folder = blobs(tmp_path / "data")
    runs = [trained(folder, tmp_path, name, workers=w).run for name, w in (("a", 1), ("b", 3))]
    other = trained(folder, tmp_path, "c", plan=small_plan(seed=4)).run
    weights = [best_weights(run) for run in (*runs, other)]
    assert same(weights[0], weights[1])
    assert not same(weights[0], weights[2])


def test_what_was_canceled_goes_on_as_if_nothing_had_happened(tmp_path: Path):
    folder = blobs(tmp_path / "data")
    whole = trained(folder, tmp_path, "whole", plan=small_plan(steps=60))
    asked = iter(range(10_000))
    with pytest.raises(Canceled):
        trained(
            folder, tmp_path, "cut", plan=small_plan(steps=60), canceled=lambda: next(asked) >= 30
        )
    assert len(read_curve(tmp_path / "cut")) == 1
    resumed = trained(folder, tmp_path, "cut", plan=small_plan(steps=60))
    assert same(best_weights(whole.run), best_weights(resumed.run))
    losses = [[epoch.loss for epoch in run.epochs] for run in (whole, resumed)]
    assert losses[0] == losses[1]


def _train_until_killed(folder: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    trained(read_dataset(folder), tmp_path, "killed", plan=small_plan(steps=200))


def test_kill_9_loses_nothing_that_was_kept(tmp_path: Path):
    folder = blobs(tmp_path / "data")
    child = multiprocessing.get_context("spawn").Process(
        target=_train_until_killed, args=(folder.root, tmp_path)
    )
    child.start()
    deadline = time.monotonic() + 120
    while len(read_curve(tmp_path / "killed")) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    kept = len(read_curve(tmp_path / "killed"))
    assert 2 <= kept < 10
    resumed = trained(folder, tmp_path, "killed", plan=small_plan(steps=200))
    whole = trained(folder, tmp_path, "whole", plan=small_plan(steps=200))
    assert [epoch.loss for epoch in resumed.epochs] == [epoch.loss for epoch in whole.epochs]
    assert same(best_weights(resumed.run), best_weights(whole.run))


def test_a_time_fixes_the_number_of_steps(tmp_path: Path):
    folder = blobs(tmp_path / "data")
    done = trained(folder, tmp_path, plan=small_plan(steps=100_000), minutes=0.03)
    assert 10 < done.epochs[-1].step < 10_000


def test_it_ends_when_it_gets_no_better(tmp_path: Path):
    folder = blobs(tmp_path / "data")
    plan = small_plan(steps=2000, steps_an_epoch=5, patience=2, rate=1e-7, average=0.0)
    done = trained(folder, tmp_path, plan=plan)
    assert len(done.epochs) == done.best_epoch + 2 < 100


def test_a_loss_that_is_no_number_stops_it_and_keeps_the_last_checkpoint(tmp_path: Path):
    folder = blobs(tmp_path / "data")
    trained(folder, tmp_path, plan=small_plan(steps=20))
    kept = (tmp_path / "run" / LAST).read_bytes()
    content = torch.load(tmp_path / "run" / LAST, weights_only=True)
    first = next(iter(content["network"]))
    content["network"][first].fill_(math.nan)
    content["state"]["steps"] = 40
    torch.save(content, tmp_path / "run" / LAST)
    broken = (tmp_path / "run" / LAST).read_bytes()
    with pytest.raises(TrainingDiverged, match="step 21"):
        trained(folder, tmp_path, plan=small_plan(steps=20))
    assert (tmp_path / "run" / LAST).read_bytes() == broken != kept


def test_a_full_disk_has_a_code_and_the_checkpoint_before_it_stays(tmp_path: Path):
    folder = blobs(tmp_path / "data")
    beside = tmp_path / "run" / "last.part"
    with pytest.raises(DiskFull):  # from its second checkpoint on; the kernel says so
        trained(folder, tmp_path, told=lambda _: beside.symlink_to("/dev/full"))
    assert len(read_curve(tmp_path / "run")) == 1
    assert not beside.is_symlink()  # what it took is free again
    assert len(trained(folder, tmp_path).epochs) == 2  # it goes on from there


def test_a_patch_that_no_memory_holds_is_refused_before_a_step(tmp_path: Path):
    folder = blobs(tmp_path / "data")
    huge = small_plan().model_copy(update={"patch": (1 << 16, 1 << 16), "batch": 64})
    with pytest.raises(InvalidPlan, match=r"patch: .* cpu has .* smaller patch or batch"):
        trained(folder, tmp_path, plan=huge)
    assert not (tmp_path / "run").exists()
    assert len(trained(folder, tmp_path).epochs) == 2  # nothing of it is in the way


def test_a_gpu_that_is_lost_has_a_code_and_our_bugs_have_none(tmp_path: Path):
    folder = blobs(tmp_path / "data")

    def says(error: str):
        def at_the_next_step() -> bool:
            raise torch.AcceleratorError(error)  # what PyTorch raises, in CUDA's words

        return at_the_next_step

    lost = "CUDA error: unspecified launch failure\nCUDA kernel errors might be reported later"
    with pytest.raises(MissingDevice):
        trained(folder, tmp_path, canceled=says(lost))
    with pytest.raises(torch.AcceleratorError):
        trained(folder, tmp_path, canceled=says("CUDA error: device-side assert triggered"))


@pytest.mark.parametrize(
    ("node", "what"),
    [
        (
            [
                {"name": "a", "kind": "source", "split": "test"},
                {"name": "train", "kind": "sink", "from": ["a"]},
            ],
            "test split",
        ),
        (
            [
                {"name": "a", "kind": "source", "split": "validation"},
                {"name": "train", "kind": "sink", "from": ["a"]},
            ],
            "another split",
        ),
        (
            [{"name": "a", "kind": "source"}, {"name": "b", "kind": "sink", "from": ["a"]}],
            "no sink",
        ),
        (
            [
                {"name": "a", "kind": "source"},
                {"name": "f", "kind": "filter", "classes": [9], "from": ["a"]},
                {"name": "train", "kind": "sink", "from": ["f"]},
            ],
            "filters",
        ),
    ],
)
def test_what_cannot_be_learnt_from(tmp_path: Path, node, what: str):
    with pytest.raises(CannotTrain, match=what):
        trained(blobs(tmp_path / "data"), tmp_path, graph=read_graph({"node": node}))


def test_a_run_of_another_plan_is_not_gone_on_with(tmp_path: Path):
    folder = blobs(tmp_path / "data")
    trained(folder, tmp_path, plan=small_plan(steps=5))
    with pytest.raises(AnotherTraining, match="another plan"):
        trained(folder, tmp_path, plan=small_plan(steps=6))


def test_weights_to_begin_with_are_those_of_the_network(tmp_path: Path):
    folder = blobs(tmp_path / "data")
    first = trained(folder, tmp_path, "first", plan=small_plan(steps=100))
    plan = small_plan(steps=2, rate=1e-6, average=0.0)
    again = trained(folder, tmp_path, "again", plan=plan, start_from=best_weights(first.run))
    assert again.best.scores.mean == pytest.approx(first.best.scores.mean, abs=0.02)
    with pytest.raises(CannotTrain, match="another network"):
        trained(folder, tmp_path, "wrong", start_from={"x": torch.zeros(1)})


def _train_as_rank(rank: int, folder: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/meeting", rank=rank, world_size=2
    )
    done = trained(read_dataset(folder), tmp_path, "ranks", plan=_without_dropout())
    torch.save({"mean": done.best.scores.mean}, tmp_path / f"rank{rank}.pt")
    asked = iter(range(10_000))  # one of them hears of it: all of them stop at that step
    with pytest.raises(Preempted):
        trained(
            read_dataset(folder),
            tmp_path,
            "cut",
            plan=_without_dropout(),
            interrupted=lambda: rank == 1 and next(asked) >= 33,
        )
    torch.distributed.destroy_process_group()


def _without_dropout() -> Plan:
    network = UNetPlan(channels=(8, 16, 16), strides=(2, 2), residual_units=1, dropout=0.0)
    return small_plan(network=network, steps=40, accumulate=2, precision="single")


def _answer(run: Path, image: torch.Tensor) -> torch.Tensor:
    network = build_network(_without_dropout()).eval()
    network.load_state_dict(best_weights(run))
    with torch.inference_mode():
        return network(image).softmax(dim=1)


def test_two_ranks_learn_what_one_learns_and_one_goes_on_with_what_two_began(tmp_path: Path):
    folder = blobs(tmp_path / "data")
    spawning = multiprocessing.get_context("spawn")
    ranks = [
        spawning.Process(target=_train_as_rank, args=(rank, folder.root, tmp_path))
        for rank in (0, 1)
    ]
    for one in ranks:
        one.start()
    alone = trained(folder, tmp_path, "alone", plan=_without_dropout())
    for one in ranks:
        one.join(180)
        assert one.exitcode == 0
    scores = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)["mean"] for rank in (0, 1)]
    assert scores[0] == scores[1] == pytest.approx(alone.best.scores.mean, abs=1e-3)
    goes_on = trained(folder, tmp_path, "cut", plan=_without_dropout())
    image = torch.from_numpy(folder.image(folder.dataset.cases[0])[:, 0].copy())[None]
    for other in (tmp_path / "ranks", goes_on.run):
        assert [epoch.loss for epoch in read_curve(other)] == pytest.approx(
            [epoch.loss for epoch in alone.epochs], abs=1e-4
        )
        # Not the weights: AdamW makes steps of the rounding of gradients that should be nothing.
        one, two = (_answer(run, image) for run in (alone.run, other))
        assert torch.allclose(one, two, atol=0.01)


def test_an_interruption_amid_an_epoch_loses_no_step(tmp_path: Path):
    folder = blobs(tmp_path / "data")
    whole = trained(folder, tmp_path, "whole")
    asked = iter(range(10_000))
    with pytest.raises(Preempted):
        trained(folder, tmp_path, "cut", interrupted=lambda: next(asked) >= 27)
    kept = torch.load(tmp_path / "cut" / LAST, weights_only=True)["state"]
    assert (kept["step"], len(kept["losses"]), len(kept["epochs"])) == (27, 7, 1)
    resumed = trained(folder, tmp_path, "cut")
    assert same(best_weights(whole.run), best_weights(resumed.run))
    assert [epoch.loss for epoch in resumed.epochs] == [epoch.loss for epoch in whole.epochs]
