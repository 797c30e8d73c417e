"""Each kind of task, from a folder to a DICOM object: imported, learnt, predicted, written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dicom.errors import InvalidBundle
from dicom.seg import decode_seg
from dicom.sr import decode_report
from dicom.study import Series, Study
from models import learn
from models.bundle import Bundle, read_bundle
from models.learning.beginning import begin_plan
from models.learning.bundling import Title, write_bundle
from models.learning.cases import DatasetFolder
from models.learning.detecting import overlap_of
from models.learning.evaluating import AP50, evaluate
from models.learning.recipe import get_recipe, recipe_names
from models.learning.trainer import train
from models.prediction import Boxes, Classes, Prediction, labels_of
from models.predictor import Predictor, open_predictor
from models.registry import Registry
from models.sources import read_case
from pipelines.datasets import Found, Shelf, Wanted, get_layout
from pipelines.datasets.clearing import clearing
from pipelines.exports.cases import Shares
from pipelines.outputs import Made, outputs_for
from pipelines.results import encode_all, look_at, source_of
from tests import kinds
from tests.bundles import CLEAR, NODULE, steps, write_scripted_bundle
from tests.networks import Brightest, OneCentre
from tests.segmentations import NOON, problems

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
UNET = {"kind": "unet", "channels": (8, 16), "strides": (2,), "residual_units": 1}
DENSENET = {"kind": "densenet", "layers": (2, 2), "first_channels": 8, "growth": 8}
SMALL: dict[str, Any] = {"steps": 30, "steps_an_epoch": 30, "batch": 4, "rate": 0.02, "average": 0}
FLAT = {**SMALL, "size": (32, 32), "patch": (32, 32), "network": UNET}
DEEP = {**SMALL, "spacing_mm": (1.5, 1.5, 3.0), "patch": (32, 32, 8), "network": UNET, "batch": 2}


@dataclass(frozen=True)
class Kind:
    """How a recipe's data are made up, and what it is changed to be quick."""

    layout: str
    write: Callable[[Path], Path]
    dicom: Callable[[Path], Series]
    changes: dict[str, Any]


def flat(classes: int, *, colour: bool = False) -> Kind:
    def dicom(folder: Path) -> Series:
        pixels = kinds.blobs(50, classes)[0][0]
        if colour:
            return kinds.write_photograph(folder, np.stack([pixels] * 3, axis=-1))
        return kinds.write_radiograph(folder, pixels)

    return Kind(
        "pairs",
        lambda f: kinds.write_pairs(f, classes, colour=colour),
        dicom,
        {**FLAT, **long_enough(classes)},
    )


def long_enough(classes: int) -> dict[str, int]:
    """Return as many steps as it takes to tell so many blobs apart."""
    return dict.fromkeys(("steps", "steps_an_epoch"), 30 * classes**2)


def deep(classes: int, modality: str) -> Kind:
    window = {"window": (0.0, 255.0)} if modality == "CT" else {}

    def dicom(folder: Path) -> Series:
        voxels = kinds.blobs(50, classes, slices=kinds.SLICES)[0]
        return kinds.write_volume(folder, voxels, modality)

    return Kind(
        "pairs",
        lambda f: kinds.write_pairs(f, classes, slices=kinds.SLICES),
        dicom,
        {**DEEP, **window, **long_enough(classes)},
    )


KINDS = {
    "chest_lungs": flat(2),
    "retina_vessels": flat(1, colour=True),
    "polyp": flat(1, colour=True),
    "kidney": deep(1, "CT"),
    "liver": deep(1, "CT"),
    "brain": deep(1, "MR"),
    "vessel_wall": deep(2, "MR"),
    "chest_view": Kind(
        "folders",
        lambda f: kinds.write_folders(f, ["PA", "AP", "Lateral"]),
        lambda f: kinds.write_radiograph(f, kinds.of_class(9, 1)[0]),
        {**SMALL, "patch": (32, 32), "network": DENSENET},
    ),
    "ct_contrast": Kind(
        "table",
        lambda f: kinds.write_table(f, ["Not enhanced", "Enhanced"]),
        lambda f: kinds.write_volume(f, kinds.of_class(9, 1, slices=kinds.SLICES), "CT"),
        {**SMALL, "patch": (32, 32, 16), "network": DENSENET, "window": (0.0, 255.0)},
    ),
    "chest_marker": Kind(
        "boxes",
        kinds.write_boxes,
        lambda f: kinds.write_radiograph(f, kinds.lettered(17)[0][0]),
        {
            **FLAT,
            "size": (40, 40),
            "steps": 100,
            "steps_an_epoch": 100,
            "rate": 0.01,
            "average": 0.9,
        },
    ),
}


def write_finder(folder: Path) -> Path:
    """Write a detection that always finds one box of 8 x 10 about column 16, row 15."""
    return write_scripted_bundle(
        folder,
        "finder",
        OneCentre(16, 15),
        table={"task": "detection", "dimensions": "2d", "findings": [{**NODULE, "number": 1}]},
        channels=("boxes",),
        dimensions=2,
        inferer={
            "_target_": "CentreInferer",
            "labels": [1],
            "typical_box": [8, 10],
            "roi_size": [40, 40],
        },
    )


def imported(name: str, tmp_path: Path) -> DatasetFolder:
    kind = KINDS[name]
    wanted = Wanted.by_recipe(get_recipe(name), name, shares=Shares(0.2, 0.2))
    source = kind.write(tmp_path / "in")
    return Shelf(tmp_path / "datasets").freeze(get_layout(kind.layout), source, wanted)


def predicted(bundle: Bundle, series: Series, bundles: Path) -> Prediction:
    case = read_case(bundle, Study("1.2.3", (series,)), series)
    predictor = open_predictor(bundle, lambda: Registry((bundles,)), device="cpu")
    return predictor.predict_images(case.images)


def written(bundle: Bundle, prediction: Prediction, series: Series, folder: Path) -> dict[str, Any]:
    """Return the DICOM objects of a prediction, each looked at by dciodvfy."""
    answer = prediction.answer
    source = source_of(series, bundle, answer)
    made = Made(
        answer,
        source,
        bundle,
        key="task",
        series_number=9001,
        created=NOON,
        measured=look_at(bundle, answer, None, series),
    )
    encoded = encode_all(outputs_for(bundle), made)
    for name, each in encoded.items():
        each.ds.save_as(folder / f"{name}.dcm", enforce_file_format=True)
        assert problems("dciodvfy", folder / f"{name}.dcm") == []
    return {name: each.ds for name, each in encoded.items()}


def test_every_recipe_is_tried_here():
    assert set(recipe_names()) == {*KINDS, "kidney_tumour"}


@pytest.mark.parametrize("name", KINDS)
def test_from_a_folder_to_a_dicom_object(name: str, tmp_path: Path):
    recipe, kind = get_recipe(name), KINDS[name]
    folder = imported(name, tmp_path)
    plan = begin_plan(folder, recipe=recipe, changes=kind.changes)
    graph = None if name == "chest_marker" else recipe.graph  # the letters are there already
    done = train(
        folder, plan, tmp_path / "run", cache=tmp_path / "cache", graph=graph, device=CPU, workers=1
    )
    bundle = write_bundle(tmp_path / "bundles", done, folder.dataset, Title(name, "0.1.0"))
    series = kind.dicom(tmp_path / "dicom")
    prediction = predicted(bundle, series, tmp_path / "bundles")
    objects = written(bundle, prediction, series, tmp_path)
    assert set(objects) == set(recipe.output)
    groups = decode_report(objects["sr"])
    if recipe.segment:
        assert [(s.type, s.laterality) for s in decode_seg(objects["seg"]).segments] == [
            (row.type, row.laterality) for row in recipe.segment
        ]
        truth = kinds.blobs(50, len(recipe.segment), slices=1 if plan.dimensions == 2 else 12)[1]
        found = labels_of(prediction.answer)
        for number in recipe.classes:
            ours, true = found == number, truth == number
            assert 2 * (ours & true).sum() / (ours.sum() + true.sum()) > 0.5
    elif recipe.task == "classification":
        assert isinstance(prediction.answer, Classes)
        assert int(prediction.answer.probabilities.argmax()) == 1
        said = [evaluation for group in groups for evaluation in group.evaluations]
        assert said == [(recipe.question, recipe.finding[1].code)]
    else:
        _check_boxes(prediction, objects["sr"], folder, bundle, series)


def _check_boxes(
    prediction: Prediction,
    report: Any,
    folder: DatasetFolder,
    bundle: Bundle,
    series: Series,
) -> None:
    """The L is found where it is, and the report says so in the picture's pixels."""
    answer, groups, home = prediction.answer, decode_report(report), folder.root
    assert isinstance(answer, Boxes)
    best = answer.boxes[0]
    _, rows = kinds.lettered(17)
    (_, _, j0, i0, _, j1, i1) = rows[0]
    ours = np.array([[*best.low_lps[:2], *best.high_lps[:2]]])
    assert overlap_of(ours, np.array([[i0, j0, i1, j1]]) - 0.5)[0, 0] > 0.5
    assert groups[0].finding.meaning == "Left"
    points = next(
        np.reshape(element.value, (-1, 2))
        for element in report.iterall()
        if element.keyword == "GraphicData"
    )
    found = [*points.min(axis=0), *points.max(axis=0)]
    assert np.allclose(found, [edge + 0.5 for edge in (*best.low_lps[:2], *best.high_lps[:2])])
    nothing = decode_report(
        written(bundle, replace(prediction, answer=Boxes(())), series, home)["sr"]
    )
    assert [(one.finding.meaning, one.figures[0].value) for one in nothing] == [
        ("Left", 0.0),
        ("Right", 0.0),
    ]
    evaluation = evaluate(open_predictor(bundle, Registry, device="cpu"), folder)
    precision = evaluation.interval(AP50)
    assert precision is not None
    assert precision.mean >= 0.5  # of two test images


def test_a_marker_is_painted_over_before_another_model_looks(tmp_path: Path):
    """The second model tells how bright the brightest thing is: of a marker it sees nothing."""
    finder = read_bundle(write_finder(tmp_path / "bundles"))
    table = {
        "task": "classification",
        "dimensions": "2d",
        "findings": [CLEAR, NODULE],
        "without": {"bundle": finder.identity, "margin": 0.1},
    }
    root = write_scripted_bundle(
        tmp_path / "bundles",
        "looker",
        Brightest(),
        table=table,
        channels=("clear", "nodule"),
        dimensions=2,
        postprocessing=steps(),
    )
    registry = Registry((tmp_path / "bundles",))
    predictor = open_predictor(read_bundle(root), lambda: registry, device="cpu")
    pixels = np.full((1, 40, 40), 20.0)
    pixels[0, 10:20, 12:20] = 80.0
    affine = np.eye(4)[[2, 1, 0, 3]]
    answer = predictor.predict(pixels, affine).answer
    assert isinstance(answer, Classes)
    assert answer.probabilities.tolist() == pytest.approx([0.2, 0.8], abs=1e-6)
    with pytest.raises(InvalidBundle, match="works with finder"):
        Predictor(read_bundle(root), device="cpu")
    found = Found("a", "p", pixels[None].astype(np.float32), None)
    cleared = clearing(Predictor(finder, device="cpu"), 0.1)(found)
    assert cleared.image.max() == 20.0


def test_a_cascade_learns_twice_and_looks_about_what_it_found(tmp_path: Path):
    wanted = Wanted.by_recipe(get_recipe("kidney_tumour"), "kits", shares=Shares(0.2, 0.2))
    source = kinds.write_pairs(tmp_path / "in", 2, slices=kinds.SLICES)
    folder = Shelf(tmp_path / "datasets").freeze(get_layout("pairs"), source, wanted)
    changes = {**DEEP, "window": (0.0, 255.0), "steps": 80, "steps_an_epoch": 80}
    model = learn(
        "kidney_tumour", folder.root, folder=tmp_path / "trained", changes=changes, device="cpu"
    )
    after = model.bundle.after
    assert after is not None
    assert (after.bundle, after.segment) == ("kidney_tumour_first@0.1.0", "Kidney")
    series = kinds.write_volume(
        tmp_path / "dicom", kinds.blobs(50, 2, slices=kinds.SLICES)[0], "CT"
    )
    result = model.predict(tmp_path / "dicom")
    objects = written(model.bundle, result.prediction, series, tmp_path)
    assert [s.label for s in decode_seg(objects["seg"]).segments] == ["Kidney", "Kidney tumour"]
    truth = kinds.blobs(50, 2, slices=kinds.SLICES)[1]
    assert 2 * ((result.labels_kji == 2) & (truth == 2)).sum() > (truth == 2).sum()
    assert model.evaluate(folder.root).interval("dice").mean > 0.4
