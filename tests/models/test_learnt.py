"""From a dataset to a plan, a bundle that the node serves, and its figures."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.metrics import compute_dice

from dicom.errors import CannotTrain, InvalidDataset, PatientInTwoSplits, WrongHash
from models.learning.bundling import Title, write_bundle
from models.learning.cases import (
    Case,
    class_counts,
    difference,
    read_dataset,
    write_array,
    write_dataset,
)
from models.learning.evaluating import evaluate, gain, interval
from models.learning.fingerprint import fingerprint
from models.learning.planning import Plan, make_plan
from models.learning.preparing import Prepared, affine_of, prepare
from models.learning.room import Room, machine_bytes, room_on
from models.learning.trainer import train
from models.prediction import Image
from models.predictor import open_predictor
from models.registry import Registry
from models.tensors import volume_tensor
from tests.learning import blobs, small_plan

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")


def learnt(tmp_path: Path, *, steps=120, version="1.0.0", **change: object):
    """Return a dataset, and a predictor with the bundle that was learnt from it."""
    task = change.pop("task", "segmentation")
    slices = 1 if change.get("dimensions", 2) == 2 else 12
    folder = blobs(tmp_path / "data", task=task, slices=slices, side=32 if slices > 1 else 48)
    plan = small_plan(task=task, steps=steps, **change)
    done = train(folder, plan, tmp_path / f"run-{version}", cache=tmp_path / "cache", device=CPU)
    bundle = write_bundle(
        tmp_path / "bundles", done, folder.dataset, Title("blobs", version, "Blobs")
    )
    predictor = open_predictor(bundle, lambda: Registry((tmp_path / "bundles",)), device="cpu")
    return folder, done, predictor


class TestDataset:
    def test_it_is_read_back_and_one_hash_says_all(self, tmp_path: Path):
        folder = blobs(tmp_path / "a")
        assert read_dataset(tmp_path / "a").dataset == folder.dataset
        assert folder.dataset.sha256 == blobs(tmp_path / "b").dataset.sha256
        assert folder.dataset.sha256 != blobs(tmp_path / "c", side=40).dataset.sha256
        folder.check()
        (folder.root / "cases" / "c1" / "label.npy").write_bytes(b"other")
        with pytest.raises(WrongHash, match="case c1: label"):
            folder.check()

    def test_a_patient_in_two_splits_is_refused(self, tmp_path: Path):
        folder = blobs(tmp_path)
        first, *rest = folder.dataset.cases
        leak = first.model_copy(update={"patient": rest[-1].patient})
        with pytest.raises(PatientInTwoSplits, match="c4"):
            write_dataset(tmp_path, folder.dataset.model_copy(update={"cases": (leak, *rest)}))

    @pytest.mark.parametrize(
        ("change", "place"),
        [
            ({"task": "guessing"}, "task"),
            ({"cases": [{}]}, "cases.0"),
            ({"segments": []}, None),
            ({"classes": {"1": "Bright"}}, "dataset"),
            ({"colour": 1}, "colour"),
        ],
    )
    def test_a_manifest_that_is_wrong_says_where(self, tmp_path: Path, change, place):
        blobs(tmp_path)
        path = tmp_path / "dataset.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
        if place is None:
            assert read_dataset(tmp_path).dataset.segments == ()
            return
        with pytest.raises(InvalidDataset, match=place):
            read_dataset(tmp_path)

    def test_no_dataset_and_a_missing_or_other_array(self, tmp_path: Path):
        with pytest.raises(InvalidDataset, match=r"no dataset\.json"):
            read_dataset(tmp_path)
        folder = blobs(tmp_path)
        case = folder.dataset.cases[0]
        np.save(tmp_path / "cases" / "c0" / "image.npy", np.zeros((1, 2, 3, 4)))
        with pytest.raises(InvalidDataset, match="another shape"):
            folder.image(case)
        (tmp_path / "cases" / "c0" / "image.npy").unlink()
        with pytest.raises(InvalidDataset, match="cannot be read"):
            folder.image(case)

    def test_what_changed_between_versions(self, tmp_path: Path):
        old = blobs(tmp_path)
        a, b, c, d, _ = old.dataset.cases
        label = np.array(old.label(b))
        label[0, 0, 0] = 2
        changed = b.model_copy(
            update={"label_sha256": write_array(tmp_path, "c1", "label.npy", label)}
        )
        moved = c.model_copy(update={"split": "test"})
        new_case = Case(**{**d.model_dump(), "id": "c9"})
        cases = (a, changed, moved, d, new_case)
        new = old.dataset.model_copy(update={"cases": cases, "licence": "CC0"})
        found = difference(old.dataset, new)
        assert (found.added, found.removed) == (("c9",), ("c4",))
        assert (found.label_changed, found.split_changed) == (("c1",), ("c2",))
        assert (found.image_changed, found.fields) == ((), ("licence",))

    def test_voxels_of_each_class(self, tmp_path: Path):
        folder = blobs(tmp_path)
        label = np.array(folder.label(folder.dataset.cases[0]))
        counts = class_counts(folder, folder.dataset.cases[:1])
        assert counts == {1: (label == 1).sum(), 2: (label == 2).sum()}


class TestPlan:
    def test_a_plan_fits_its_data_and_says_why(self, tmp_path: Path):
        folder = blobs(tmp_path, slices=20, side=64)
        plan = make_plan(folder, minutes=5)
        assert plan.dimensions == 3
        assert plan.spacing_mm == (1.0, 1.0, 2.0)
        assert plan.out_channels == 3
        assert all(side <= n + 16 for side, n in zip(plan.patch, (64, 64, 20), strict=True))
        assert {"patch", "network", "loss", "spacing_mm", "intensity"} <= plan.why.keys()
        assert Plan.model_validate_json(plan.model_dump_json()) == plan

    def test_less_memory_gives_a_smaller_patch(self, tmp_path: Path):
        folder = blobs(tmp_path, slices=64, side=128)
        sizes = [np.prod(make_plan(folder, room=Room(n << 20)).patch) for n in (64, 1024)]
        assert sizes[0] < sizes[1]

    def test_a_gpu_is_given_more_at_once_but_not_all_there_is(self, tmp_path: Path):
        folder = blobs(tmp_path, patients=("train",) * 40, slices=1, side=64)
        here, there = (
            make_plan(folder, room=Room(4 << 30, "the GPU", is_gpu=gpu)) for gpu in (False, True)
        )
        assert (here.batch, there.batch) == (8, 8)  # a twentieth of 40 is not more
        smaller = blobs(tmp_path / "more", patients=("train",) * 330, slices=1, side=16)
        plans = {
            n: make_plan(smaller, room=Room(n << 20, "the GPU", is_gpu=True)) for n in (3, 4096)
        }
        assert [plan.batch for plan in plans.values()] == [8, 16]
        assert "the GPU" in plans[4096].why["batch"]
        assert plans[3].patch == plans[4096].patch

    def test_what_is_here_is_planned_for(self):
        assert room_on("cpu") == Room(min(2 << 30, machine_bytes() // 4))
        assert room_on("cuda:99") == room_on("cpu")  # of what is not here nothing is known

    def test_hounsfield_units_are_windowed(self, tmp_path: Path):
        plan = make_plan(blobs(tmp_path), modality="CT")
        assert plan.intensity == "window"
        assert plan.window is not None
        assert plan.window[0] < plan.window[1]

    @pytest.mark.parametrize("task", ["multilabel", "classification"])
    def test_other_tasks(self, tmp_path: Path, task: str):
        plan = make_plan(blobs(tmp_path, task=task))
        assert plan.task == task

    def test_too_few_constant_and_missing(self, tmp_path: Path):
        with pytest.raises(CannotTrain, match="1 patient to learn from"):
            fingerprint(blobs(tmp_path / "few", patients=("train", "test")))
        folder = blobs(tmp_path / "flat")
        write_array(folder.root, "c0", "image.npy", np.ones((1, 1, 48, 48), np.float32))
        with pytest.raises(CannotTrain, match="case c0 is constant"):
            fingerprint(folder)
        folder = blobs(tmp_path / "one")
        for case in folder.dataset.of("train"):
            label = np.array(folder.label(case))
            label[label == 2] = 0
            write_array(folder.root, case.id, "label.npy", label)
        with pytest.raises(CannotTrain, match="Dark"):
            fingerprint(folder)

    @pytest.mark.parametrize(
        "change",
        [
            {"patch": (30, 32)},
            {"patch": (32, 32, 32)},
            {"spacing_mm": (1.0,)},
            {"intensity": "window"},
            {"loss": "cross_entropy", "task": "multilabel"},
            {"network": {"kind": "unet", "channels": (8, 16), "strides": (2, 2)}},
            {"network": {"kind": "densenet"}},
        ],
    )
    def test_a_plan_that_does_not_fit_together(self, change: dict[str, object]):
        with pytest.raises(ValueError, match="1 validation error"):
            small_plan(**change)


class TestBundle:
    def test_what_it_saw_in_training_it_sees_in_the_clinic(self, tmp_path: Path):
        folder, done, predictor = learnt(
            tmp_path,
            steps=2,
            dimensions=3,
            patch=(16, 16, 8),
            spacing_mm=(1.5, 1.5, 3.0),
            intensity="percentiles",
        )
        case = folder.dataset.cases[0]
        ours = prepare(folder.image(case), affine_of(case), done.plan)
        image = Image(np.asarray(folder.image(case)[0]), affine_of(case))
        theirs = predictor._parts.preprocess({"image": volume_tensor([image])})["image"]
        assert torch.allclose(ours, theirs, atol=1e-5)
        kept = Prepared(folder, done.plan, tmp_path / "cache").image(case)
        assert np.allclose(kept, ours)

    def test_two_dimensions_from_data_to_figures(self, tmp_path: Path):
        folder, done, predictor = learnt(tmp_path)
        told = []
        found = evaluate(predictor, folder, told=lambda at, of: told.append((at, of)))
        assert found.unit == "mm"  # every case says its spacing
        assert told == [(1, 1)]
        assert found.split == "test"
        dice = found.interval("dice")
        assert dice is not None
        assert dice.mean > 0.75
        case = folder.dataset.of("test")[0]
        image = Image(np.asarray(folder.image(case)[0]), affine_of(case))
        answer = predictor.predict_images({"image": image}).answer
        hot = [
            np.stack([labels == n for n in (0, 1, 2)])[None, :, 0]
            for labels in (answer.labels_kji, np.asarray(folder.label(case)))
        ]
        expected = compute_dice(*map(torch.from_numpy, hot), include_background=False)
        assert dice.mean == pytest.approx(float(expected.mean()), abs=1e-6)
        card = (predictor.bundle.root / "docs" / "README.md").read_text()
        assert folder.dataset.sha256[:16] in card
        for number, name in (("1", "Bright"), ("2", "Dark")):
            assert f"| {name} | {done.best.scores.classes[number]:.3f} |" in card

    def test_three_dimensions_labels_that_overlap_and_a_classification(self, tmp_path: Path):
        volume = learnt(
            tmp_path / "3d",
            dimensions=3,
            patch=(16, 16, 8),
            steps=80,
            network={"kind": "unet", "channels": (8, 16), "strides": (2,), "residual_units": 1},
        )
        assert evaluate(volume[2], volume[0]).interval("dice").mean > 0.6
        masks = learnt(tmp_path / "multi", task="multilabel", loss="dice_bce")
        assert evaluate(masks[2], masks[0]).interval("dice").mean > 0.6
        which = learnt(
            tmp_path / "class",
            task="classification",
            loss="cross_entropy",
            rate=0.003,
            steps=40,
            network={"kind": "densenet", "layers": (2, 2), "first_channels": 8, "growth": 8},
        )
        found = evaluate(which[2], which[0])
        assert found.interval("correct").mean == 1.0
        assert found.cases[0].probability > 0.5

    def test_without_codes_there_is_no_bundle_and_a_version_is_not_written_over(
        self, tmp_path: Path
    ):
        folder, done, _ = learnt(tmp_path, steps=2)
        nameless = folder.dataset.model_copy(update={"segments": ()})
        with pytest.raises(CannotTrain, match="codes"):
            write_bundle(tmp_path / "more", done, nameless, Title("x", "1.0.0"))
        with pytest.raises(FileExistsError):
            write_bundle(tmp_path / "bundles", done, folder.dataset, Title("blobs", "1.0.0"))


class TestFigures:
    def test_an_interval_is_over_patients_not_cases(self):
        found = interval({"a": [0.0] * 99, "b": [1.0]})
        assert found is not None
        assert found.mean == 0.5
        assert (found.low, found.high, found.patients) == (0.0, 1.0, 2)
        assert interval({"a": []}) is None

    def test_a_better_model_has_a_gain_and_other_data_has_none(self, tmp_path: Path):
        folder, _, weak = learnt(tmp_path, steps=1, version="1.0.0")
        _, _, strong = learnt(tmp_path, steps=160, version="2.0.0")
        before, after = evaluate(weak, folder), evaluate(strong, folder)
        better = gain(after, before)
        assert better is not None
        assert better.mean > 0.1
        other = evaluate(weak, folder, split="validation")
        assert gain(other, before) is None  # no patient in both
        strange = blobs(tmp_path / "strange", side=40)
        with pytest.raises(InvalidDataset, match="different"):
            gain(evaluate(weak, strange), before)
