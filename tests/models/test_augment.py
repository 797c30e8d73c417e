"""Augmentation graphs: what they say, what comes out, and where a mistake is told to be."""

import tomllib
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from dicom.errors import InvalidGraph
from models.learning.augment import follow, samples, unroll
from models.learning.cases import Case, Dataset, DatasetFolder, write_array, write_dataset
from models.learning.graph import read_graph
from models.learning.graphing import shipped_graphs

RETINA = files("models.learning") / "graphs" / "retina.toml"


def made(folder: Path, *, cases=6, shape=(1, 24, 32), task="segmentation", held_out=1):
    """Write a dataset whose images are all different and whose labels say where they are bright."""
    draw = np.random.default_rng(7)
    rows = []
    for number in range(cases + held_out):
        image = draw.normal(100, 20, (1, *shape)).astype(np.float32)
        label = np.zeros(shape, np.uint8)
        label[:, 4:10, 6 + number : 20] = 1
        label[:, 15:18, 20:28] = 2
        image[0][label > 0] += 100
        if task == "multilabel":
            label = np.stack([label == 1, label == 2])
        rows.append(
            Case(
                id=f"case-{number}",
                patient=f"patient-{number}",
                split="train" if number < cases else "validation",
                shape=shape,
                spacing_kji=(3.0, 1.0, 0.5),
                tags={"site": "a" if number % 2 else "b"},
                image_sha256=write_array(folder, f"case-{number}", "image.npy", image),
                label_sha256=write_array(folder, f"case-{number}", "label.npy", label),
            )
        )
    dataset = Dataset(
        name="made",
        version="1",
        task=task,
        classes={1: "One", 2: "Two"},
        channels=("grey",),
        cases=tuple(rows),
    )
    write_dataset(folder, dataset)
    return DatasetFolder(folder, dataset)


@pytest.fixture
def flat(tmp_path: Path) -> DatasetFolder:
    return made(tmp_path)


def chain(*nodes: dict[str, object]):
    """Return a graph of a source, these nodes one after the other, and a sink."""
    names = ["images", *(str(node.get("name", node["kind"])) for node in nodes)]
    inner = [
        {"name": name, "from": [before], **node}
        for before, name, node in zip(names, names[1:], nodes, strict=False)
    ]
    source = {"name": "images", "kind": "source"}
    return read_graph(
        {"node": [source, *inner, {"name": "out", "kind": "sink", "from": [names[-1]]}]}
    )


def outcome(folder: DatasetFolder, *nodes: dict[str, object], seed=0, epoch=0):
    return list(samples(unroll(chain(*nodes), folder)["out"], folder, seed=seed, epoch=epoch))


class TestUnroll:
    def test_six_retina_images_become_264(self, flat: DatasetFolder):
        graph = read_graph(Path(str(RETINA)))
        flows = unroll(graph, flat)
        assert len(flows["train"]) == 264
        assert len(flows["validation"]) == 1
        shapes = {sample.shape_kji for sample in samples(flows["train"], flat, seed=graph.seed)}
        assert (1, 24, 32) in shapes
        assert len(shapes) > 10

    def test_a_split_is_by_patient_and_stays_when_others_come(self, tmp_path: Path):
        graph = read_graph(
            {
                "node": [
                    {"name": "images", "kind": "source"},
                    {"name": "twice", "kind": "multiply", "from": ["images"], "times": 2},
                    {"name": "s", "kind": "split", "from": ["twice"], "into": {"a": 0.6, "b": 0.4}},
                    {"name": "first", "kind": "sink", "from": ["s:a"]},
                    {"name": "second", "kind": "sink", "from": ["s:b"]},
                ]
            }
        )
        few = unroll(graph, made(tmp_path / "few", cases=8))
        many = unroll(graph, made(tmp_path / "many", cases=12))
        patients = [{one.case.patient for one in few[name]} for name in ("first", "second")]
        assert not patients[0] & patients[1]
        assert all(patients)
        assert sum(len(recipes) for recipes in few.values()) == 16
        assert patients[0] <= {one.case.patient for one in many["first"]}

    def test_tags_of_cases_and_of_the_graph_choose(self, flat: DatasetFolder):
        graph = read_graph(
            {
                "node": [
                    {"name": "a", "kind": "source", "tags": {"site": "a"}},
                    {"name": "b", "kind": "source", "tags": {"site": "b"}},
                    {"name": "mark", "kind": "tag", "from": ["a"], "tag": "rare"},
                    {"name": "only", "kind": "filter", "from": ["mark", "b"], "tag": "rare"},
                    {"name": "out", "kind": "sink", "from": ["only"]},
                ]
            }
        )
        assert {one.case.tags["site"] for one in unroll(graph, flat)["out"]} == {"a"}

    def test_a_million_samples_are_too_many(self, flat: DatasetFolder):
        with pytest.raises(InvalidGraph, match="again: makes"):
            unroll(
                chain(
                    {"kind": "multiply", "times": 10_000},
                    {"kind": "multiply", "name": "again", "times": 10_000},
                ),
                flat,
            )


class TestFollow:
    def test_the_same_seed_draws_the_same_and_another_epoch_anew(self, flat: DatasetFolder):
        nodes = [{"kind": "noise", "share": [0.1, 0.2]}, {"kind": "crop", "share": [0.3, 0.6]}]
        first, again = outcome(flat, *nodes), outcome(flat, *nodes)
        other = outcome(flat, *nodes, epoch=1)
        assert all((a.image == b.image).all() for a, b in zip(first, again, strict=True))
        assert any(a.image.shape != b.image.shape for a, b in zip(first, other, strict=True))

    def test_a_sample_does_not_depend_on_those_before_it(self, flat: DatasetFolder):
        recipes = unroll(chain({"kind": "noise", "share": [0.1, 0.2]}), flat)["out"]
        alone = follow(recipes[3], flat, seed=0)
        assert alone is not None
        assert (alone.image == list(samples(recipes, flat, seed=0))[3].image).all()

    def test_every_shipped_graph_moves_image_and_label_alike(self, flat: DatasetFolder):
        graphs = shipped_graphs()
        assert {"retina", "general", "vessels"} <= graphs.keys()
        for name, document in graphs.items():
            recipes = unroll(read_graph(document), flat)["train"]
            for sample in samples(recipes[-3:], flat, seed=5):
                label = sample.label
                inside, outside = sample.image[0][label > 0], sample.image[0][label == 0]
                assert inside.mean() > outside.mean() + 60, name

    @pytest.mark.parametrize("axes", [["rows"], ["columns"], ["rows", "columns"]])
    def test_a_flip_moves_image_and_label_alike(self, flat: DatasetFolder, axes):
        plain, mirrored = outcome(flat)[0], outcome(flat, {"kind": "flip", "axes": axes})[0]
        numbers = tuple({"rows": -2, "columns": -1}[axis] for axis in axes)
        assert (mirrored.image == np.flip(plain.image, numbers)).all()
        assert (mirrored.label == np.flip(plain.label, numbers)).all()

    def test_a_rotation_by_a_right_angle_is_exact_in_millimetres(self, tmp_path: Path):
        folder = made(tmp_path, shape=(3, 33, 65), held_out=0)  # 33 x 1.0 mm, 65 x 0.5 mm: a square
        turned = outcome(folder, {"kind": "rotate", "degrees": [90, 90]})[0]
        plain = outcome(folder)[0]
        # At every second column both grids have voxels: index (j, i) came from (i / 2, 64 - 2 j).
        back = plain.image[0][:, :, ::-2].transpose(0, 2, 1)
        forth = plain.image[0][:, :, ::2].transpose(0, 2, 1)[:, ::1, ::-1]
        ours = turned.image[0][:, :, ::2]
        inner = (slice(None), slice(2, -2), slice(2, -2))
        either = [np.abs(ours[inner] - one[inner]).max() for one in (back, forth)]
        assert min(either) < 1e-2

    def test_image_and_label_turn_together(self, tmp_path: Path):
        folder = made(tmp_path, shape=(5, 40, 80), held_out=0)
        for sample in outcome(folder, {"kind": "rotate", "degrees": [-40, 40]}):
            inside, outside = sample.label == 1, sample.label == 0
            assert sample.image[0][inside].mean() > sample.image[0][outside].mean() + 60
            assert set(np.unique(sample.label)) <= {0, 1, 2}

    def test_a_zoom_keeps_the_middle_and_the_frame(self, tmp_path: Path):
        folder = made(tmp_path, shape=(3, 33, 65), held_out=0)
        plain = outcome(folder)[0]
        larger = outcome(folder, {"kind": "zoom", "factor": [2.0, 2.0]})[0]
        assert larger.image.shape == plain.image.shape
        # Slices come nearer, too: the middle one is where it was; every other voxel is one of ours.
        assert np.allclose(larger.image[0, 1, ::2, ::2], plain.image[0, 1, 8:25, 16:49], atol=1e-2)
        flat = made(tmp_path / "flat", shape=(1, 33, 65), held_out=0)
        smaller = outcome(flat, {"kind": "zoom", "factor": [0.5, 0.5]})[0]
        inner = smaller.label[0, 8:25, 16:49]
        assert (inner == outcome(flat)[0].label[0, ::2, ::2]).all()
        assert not smaller.label[0, :7].any()

    @pytest.mark.parametrize("shape", [(1, 40, 64), (12, 40, 64)])
    def test_what_is_bent_stays_together(self, tmp_path: Path, shape):
        folder = made(tmp_path, shape=shape, held_out=0)
        node = {"kind": "deform", "points": 4, "share": [0.25, 0.25]}
        for plain, bent in zip(outcome(folder), outcome(folder, node), strict=True):
            inside, outside = bent.label == 1, bent.label == 0
            assert bent.image[0][inside].mean() > bent.image[0][outside].mean() + 60
            moved = (bent.label != plain.label).mean()
            assert 0.01 < moved < 0.3
            assert bent.label.dtype == plain.label.dtype
        still = outcome(folder, {"kind": "deform", "share": [0.0, 0.0]})[0]
        assert np.allclose(still.image, outcome(folder)[0].image, atol=1e-2)

    def test_shade_is_smooth_and_changes_no_label(self, flat: DatasetFolder):
        node = {"kind": "shade", "points": 3, "share": [1.0, 1.0]}
        for plain, shaded in zip(outcome(flat), outcome(flat, node), strict=True):
            field = shaded.image - plain.image
            spread = plain.image.std()
            assert spread * 0.2 < np.abs(field).max() <= spread * 1.001
            assert np.abs(np.diff(field, axis=-1)).max() < spread * 0.2  # from point to point: 16
            assert (shaded.label == plain.label).all()

    def test_a_crop_finds_its_label(self, flat: DatasetFolder):
        node = {"kind": "crop", "size": [1, 6, 6], "label": 1.0}
        for epoch in range(5):
            for sample in outcome(flat, node, epoch=epoch):
                assert sample.shape_kji == (1, 6, 6)
                assert sample.label.any()

    def test_a_crop_larger_than_the_image_is_the_image(self, flat: DatasetFolder):
        assert outcome(flat, {"kind": "crop", "size": [9, 99, 99]})[0].shape_kji == (1, 24, 32)

    def test_classes_are_renamed_and_dropped(self, flat: DatasetFolder, tmp_path: Path):
        node = {"kind": "classes", "mapping": {"1": 0, "2": 1}}
        before, after = outcome(flat)[0], outcome(flat, node)[0]
        assert ((after.label == 1) == (before.label == 2)).all()
        several = made(tmp_path / "several", task="multilabel")
        masks = outcome(several, node)[0].label
        assert (masks[0] == (before.label == 2)).all()
        assert not masks[1].any()

    def test_intensity_is_arithmetic(self, flat: DatasetFolder):
        plain = outcome(flat)[0].image
        scaled = outcome(flat, {"kind": "intensity", "scale": [2, 2], "shift": [0.5, 0.5]})[0].image
        assert np.allclose(scaled, 2 * plain + 0.5 * plain.std(), rtol=1e-5)
        darker = outcome(flat, {"kind": "intensity", "gamma": [2, 2]})[0].image
        assert darker.min() == pytest.approx(plain.min())
        assert darker.max() == pytest.approx(plain.max(), rel=1e-5)
        assert darker.mean() < plain.mean()

    def test_blur_and_noise_change_the_spread(self, flat: DatasetFolder):
        plain = outcome(flat)[0]
        blurred = outcome(flat, {"kind": "blur", "sigma": [1.5, 1.5]})[0]
        noisy = outcome(flat, {"kind": "noise", "share": [1.0, 1.0]})[0]
        assert blurred.image.std() < plain.image.std() < noisy.image.std()
        assert (noisy.label == plain.label).all()

    @pytest.mark.parametrize(
        ("node", "shape", "spacing"),
        [
            ({"spacing_mm": [3.0, 0.5, 0.5]}, (4, 48, 32), (3.0, 0.5, 0.5)),
            ({"size": [8, 12, 16]}, (8, 12, 16), (1.5, 2.0, 1.0)),
        ],
    )
    def test_resampling_keeps_the_extent(self, tmp_path: Path, node, shape, spacing):
        folder = made(tmp_path, shape=(4, 24, 32))
        sample = outcome(folder, {"kind": "resample", **node})[0]
        assert sample.shape_kji == shape
        assert sample.spacing_kji == pytest.approx(spacing)
        assert sample.label.dtype == np.uint8
        whole = outcome(folder)[0]
        share = (sample.label == 1).mean()
        assert share == pytest.approx((whole.label == 1).mean(), rel=0.15)

    def test_a_filter_lets_through_what_is_labelled(self, flat: DatasetFolder):
        crop = {"kind": "crop", "size": [1, 4, 4]}
        crops = {"kind": "multiply", "times": 20}
        kept = outcome(flat, crops, crop, {"kind": "filter", "classes": [2]})
        assert 0 < len(kept) < 120
        assert all((sample.label == 2).any() for sample in kept)
        full = outcome(flat, crops, crop, {"kind": "filter", "label_share": [0.5, 1.0]})
        assert all((sample.label > 0).mean() >= 0.5 for sample in full)

    def test_a_probability_leaves_some_as_they_are(self, flat: DatasetFolder):
        plain = outcome(flat, {"kind": "multiply", "times": 30})
        node = {"kind": "flip", "axes": ["rows"], "probability": 0.5}
        some = outcome(flat, {"kind": "multiply", "times": 30}, node)
        changed = [not (a.image == b.image).all() for a, b in zip(plain, some, strict=True)]
        assert 0.3 < np.mean(changed) < 0.7

    def test_masks_that_overlap_go_the_same_ways(self, tmp_path: Path):
        folder = made(tmp_path, task="multilabel", shape=(4, 24, 32))
        plain = made(tmp_path / "plain", shape=(4, 24, 32))
        nodes = [
            {"kind": "rotate", "degrees": [-20, 20]},
            {"kind": "resample", "size": [4, 30, 30]},
            {"kind": "crop", "size": [2, 20, 20]},
        ]
        for masks, labels in zip(outcome(folder, *nodes), outcome(plain, *nodes), strict=True):
            assert masks.label.dtype == np.bool_
            assert (masks.label[0] == (labels.label == 1)).all()


class TestMistakes:
    @pytest.mark.parametrize(
        ("change", "place"),
        [
            ({"kind": "flipp"}, "node second"),
            ({"kind": "flip", "axes": ["depth"]}, "node second: axes"),
            ({"kind": "flip", "axes": ["rows"], "prob": 1}, "node second: prob"),
            ({"kind": "rotate", "degrees": [30, -30]}, "node second: degrees"),
            ({"kind": "crop"}, "node second"),
            ({"kind": "crop", "share": [0.5, 1.5]}, "node second"),
            ({"kind": "multiply", "times": 0}, "node second: times"),
            ({"kind": "blur", "sigma": [0, -1]}, "node second: sigma"),
            ({"kind": "split", "into": {"a": 0.5, "b": 0.6}}, "node second"),
            ({"kind": "multiply", "times": 2, "from": ["nowhere"]}, "node second: from"),
            ({"kind": "multiply", "times": 2, "from": ["out"]}, "out is a sink"),
            ({"kind": "multiply", "times": 2, "from": ["second"]}, "circle"),
            ({"kind": "multiply", "times": 2, "name": "images"}, "there twice"),
        ],
    )
    def test_it_is_told_where_it_is(self, change: dict[str, object], place: str):
        node = {"name": "second", "from": ["images"], **change}
        graph = {
            "node": [
                {"name": "images", "kind": "source"},
                node,
                {"name": "out", "kind": "sink", "from": [node["name"]]},
            ]
        }
        with pytest.raises(InvalidGraph, match=place):
            read_graph(graph)

    def test_what_leads_nowhere_is_a_mistake(self):
        graph = {
            "node": [
                {"name": "images", "kind": "source"},
                {"name": "twice", "kind": "multiply", "from": ["images"], "times": 2},
                {"name": "out", "kind": "sink", "from": ["images"]},
            ]
        }
        with pytest.raises(InvalidGraph, match="node twice: nothing takes from twice"):
            read_graph(graph)

    @pytest.mark.parametrize("text", ["= 3", "{", "[]", '{"node": 3}', "node = []"])
    def test_what_is_no_graph(self, text: str):
        with pytest.raises(InvalidGraph):
            read_graph(text)

    def test_json_and_toml_say_the_same(self):
        text = RETINA.read_text(encoding="utf-8")
        assert read_graph(text) == read_graph(tomllib.loads(text))
        assert read_graph(read_graph(text).model_dump_json(by_alias=True)) == read_graph(text)
