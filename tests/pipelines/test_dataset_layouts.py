"""Classes and boxes beside images, structure sets on DICOM: what is read, what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dicom.errors import InvalidDataset, InvalidRecipe, LabelsDoNotMatch
from dicom.volume import read_volume
from models.learning.beginning import begin_plan
from models.learning.cascades import for_first, for_second
from models.learning.cases import DatasetFolder
from models.learning.deriving import Derivation
from models.learning.recipe import get_recipe, read_recipe, recipe_names
from pipelines.datasets import Shelf, Wanted, get_layout
from pipelines.exports.cases import Shares
from tests import kinds
from tests.structures import structure_set


def freeze(tmp_path: Path, layout: str, folder: Path, **wanted: Any) -> DatasetFolder:
    fields = {"name": "set", "shares": Shares(0.2, 0.2), **wanted}
    return Shelf(tmp_path / "shelf").freeze(get_layout(layout), folder, Wanted(**fields))


# --- classes --------------------------------------------------------------------------------------


def test_a_folder_a_class_by_a_recipe_takes_the_classes_that_there_are(tmp_path: Path):
    recipe = get_recipe("chest_view")
    source = kinds.write_folders(tmp_path / "in", ["ap", "PA"])  # no lateral one
    wanted = Wanted.by_recipe(recipe, "views", shares=Shares(0.25, 0.25))
    folder = Shelf(tmp_path / "shelf").freeze(get_layout("folders"), source, wanted)
    dataset = folder.dataset
    assert dataset.classes == {0: "PA", 1: "AP"}
    assert [row.code.value for row in dataset.findings] == ["272479007", "399348003"]
    assert dataset.question == recipe.question
    assert dataset.modalities == ("DX", "CR")
    assert {case.finding for case in dataset.cases if case.id.startswith("ap")} == {1}
    recipe.check(dataset)
    assert dataset.recipe == "chest_view"
    plan = begin_plan(folder, minutes=1)  # by the recipe, though nobody names it
    assert (plan.patch, plan.spacing_mm) == ((160, 160), None)
    assert plan.why["patch"] == f"the recipe: {recipe.title}"


def test_a_table_says_class_patient_split_and_tags(tmp_path: Path):
    source = kinds.write_table(tmp_path / "in", ["Without", "With"])
    dataset = freeze(tmp_path, "table", source).dataset
    assert dataset.classes == {0: "With", 1: "Without"}
    case = next(case for case in dataset.cases if case.id == "v13")
    assert (case.finding, case.patient, case.split) == (0, "p13", "test")
    assert case.tags == {"scanner": "A"}
    assert case.shape == (kinds.SLICES, kinds.SIDE, kinds.SIDE)


@pytest.mark.parametrize(
    ("table", "what"),
    [
        ("file,class\nv00,One\nnowhere,Two\n", "images/ holds no nowhere"),
        ("file,kind\nv00,One\n", "no column class"),
        ("file,class\nv00,\n", "line 2: no class"),
        ("file,class\n", "no row"),
        ("file,class\nv00,One\nv01,One\n", "one class alone"),
        ("file,class,split\nv00,One,exam\nv01,Two,train\n", "'exam' is no split"),
    ],
)
def test_a_table_that_is_wrong_is_refused(tmp_path: Path, table: str, what: str):
    source = kinds.write_table(tmp_path / "in", ["Without", "With"])
    (source / "labels.csv").write_text(table)
    with pytest.raises(InvalidDataset, match=what):
        freeze(tmp_path, "table", source)
    assert Shelf(tmp_path / "shelf").names() == []


def test_an_unknown_class_and_a_constant_image_are_refused(tmp_path: Path):
    source = kinds.write_folders(tmp_path / "in", ["PA", "Oblique"])
    wanted = Wanted.by_recipe(get_recipe("chest_view"), "views")
    with pytest.raises(LabelsDoNotMatch, match="'Oblique' is no class; there are: PA, AP, Lateral"):
        Shelf(tmp_path / "shelf").freeze(get_layout("folders"), source, wanted)
    Image.fromarray(np.full((9, 9), 7, np.uint8)).save(source / "PA" / "grey.png")
    with pytest.raises(InvalidDataset, match="case grey: its image is empty or constant"):
        freeze(tmp_path, "folders", source)


# --- boxes ----------------------------------------------------------------------------------------


def test_boxes_of_a_table_are_first_and_last_pixels(tmp_path: Path):
    source = kinds.write_boxes(tmp_path / "in")
    (source / "images" / "none.png").write_bytes((source / "images" / "p0.png").read_bytes())
    wanted = Wanted.by_recipe(get_recipe("chest_marker"), "marks")
    folder = Shelf(tmp_path / "shelf").freeze(get_layout("boxes"), source, wanted)
    dataset = folder.dataset
    assert dataset.classes == {1: "L marker", 2: "R marker"}  # R is painted in while it learns
    case = next(case for case in dataset.cases if case.id == "p3")
    assert folder.boxes(case).tolist() == kinds.lettered(3)[1].tolist()
    assert next(case for case in dataset.cases if case.id == "none").boxes == ()
    plan = begin_plan(folder, recipe=get_recipe("chest_marker"), minutes=1)
    assert plan.size == (640, 640)


def test_boxes_of_volumes_may_be_said_in_the_patient(tmp_path: Path):
    source = tmp_path / "in"
    kinds.write_table(source, ["Without", "With"])
    affine = kinds.grid_affine(kinds.AXIAL, (kinds.SLICES, kinds.SIDE, kinds.SIDE), kinds.SPACING)
    corners = np.array([[1.5, 9.5, 19.5, 1], [4.5, 14.5, 29.5, 1]]) @ affine.T
    low, high = corners[:, :3].min(axis=0), corners[:, :3].max(axis=0)
    columns = [f"{end}_{axis}" for end in ("low", "high") for axis in "xyz"]
    values = ",".join(f"{value:.4f}" for value in (*low, *high))
    (source / "boxes.csv").write_text(
        f"file,class,{','.join(columns)},x0,y0,x1,y1,z0,z1\n"
        f"v00,Nodule,{values},,,,,,\n"
        f"v01,Nodule,,,,,,,5,6,7,8,2,3\n"
    )
    folder = freeze(tmp_path, "boxes", source)
    cases = {case.id: case for case in folder.dataset.cases}
    (box,) = cases["v00"].boxes
    assert (box.first, box.last) == ((2, 10, 20), (4, 14, 29))
    (box,) = cases["v01"].boxes
    assert (box.first, box.last) == ((2, 6, 5), (3, 8, 7))


@pytest.mark.parametrize(
    ("row", "error", "what"),
    [
        ("p0,L marker,50,1,60,9", LabelsDoNotMatch, "in an image of"),
        ("p0,L marker,a,1,6,9", InvalidDataset, "x0 is 'a', no number"),
        ("p0,Q,1,1,6,9", LabelsDoNotMatch, "'Q' is no class"),
        ("p99,L marker,1,1,6,9", InvalidDataset, "holds no p99"),
        ("p0,L marker,1,1,6,", InvalidDataset, "a box without"),
    ],
)
def test_boxes_that_do_not_match_are_refused(tmp_path: Path, row: str, error, what: str):
    source = kinds.write_boxes(tmp_path / "in")
    (source / "boxes.csv").write_text(f"file,class,x0,y0,x1,y1\n{row}\n")
    wanted = Wanted.by_recipe(get_recipe("chest_marker"), "marks")
    with pytest.raises(error, match=what):
        Shelf(tmp_path / "shelf").freeze(get_layout("boxes"), source, wanted)


def test_coco(tmp_path: Path):
    source = kinds.write_boxes(tmp_path / "in")
    content = {
        "images": [{"id": 7, "file_name": "images/p0.png"}, {"id": 8, "file_name": "p1.png"}],
        "categories": [{"id": 3, "name": "R marker"}, {"id": 9, "name": "L marker"}],
        "annotations": [{"image_id": 7, "category_id": 9, "bbox": [4, 6, 10.5, 12]}],
        "licenses": [{"name": "CC0"}],
    }
    (source / "annotations.json").write_text(json.dumps(content))
    dataset = freeze(tmp_path, "coco", source).dataset
    (box,) = dataset.cases[0].boxes
    assert (box.first, box.last) == ((0, 6, 4), (0, 17, 14))
    assert (dataset.classes[box.label], dataset.licence) == ("L marker", "CC0")
    content["annotations"][0]["category_id"] = 5
    (source / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(InvalidDataset, match="no category 5"):
        freeze(tmp_path, "coco", source)
    (source / "annotations.json").write_text(json.dumps({"images": []}))
    with pytest.raises(InvalidDataset, match=r"annotations\.json: annotations: Field required"):
        freeze(tmp_path, "coco", source)


# --- structure sets, remapping, parts -------------------------------------------------------------


def test_structure_sets_give_the_structures_that_are_asked_for(tmp_path: Path):
    for number in range(3):
        voxels = kinds.blobs(number, 1, slices=6)[0]
        home = tmp_path / "in" / f"s{number}"
        series = kinds.write_volume(home, voxels, "CT", name=f"n{number}")
        grid = read_volume(series).source
        square = [(5.0, 5.0), (5.0, 20.0), (20.0, 20.0), (20.0, 5.0)]
        inner = [(9.0, 9.0), (9.0, 12.0), (12.0, 12.0), (12.0, 9.0)]
        drawn = {"LIVER": [(2, square)], "Tumour": [(2, inner)], "Body": [(1, square)]}
        structure_set(grid, drawn).save_as(home / "rt.dcm", enforce_file_format=True)
    folder = freeze(tmp_path, "rtstruct", tmp_path / "in", name="all", shares=Shares(0.34, 0.34))
    assert folder.dataset.classes == {1: "Body", 2: "LIVER", 3: "Tumour"}
    assert np.unique(folder.label(folder.dataset.cases[0])[2]).tolist() == [0, 2, 3]
    wanted = Wanted.by_recipe(get_recipe("liver"), "livers", shares=Shares(0.34, 0.34))
    liver = Shelf(tmp_path / "shelf").freeze(get_layout("rtstruct"), tmp_path / "in", wanted)
    label = liver.label(liver.dataset.cases[0])
    assert liver.dataset.classes == {1: "Liver"}
    assert label[1].max() == 0
    assert label[2, 15, 15] == 1
    other = Wanted.by_recipe(get_recipe("brain"), "brains")
    with pytest.raises(InvalidDataset, match="none of the structures is Brain; there are: Body"):
        Shelf(tmp_path / "shelf").freeze(get_layout("rtstruct"), tmp_path / "in", other)


def test_labels_can_count_as_others_or_be_left_out(tmp_path: Path):
    source = kinds.write_pairs(tmp_path / "in", 2)
    named = {1: "One", 2: "Two"}
    merged = freeze(tmp_path, "pairs", source, name="merged", classes=named, mapping={2: 1})
    assert merged.dataset.classes == {1: "One"}
    truth = kinds.blobs(0, 2)[1]
    assert ((np.asarray(merged.label(merged.dataset.cases[0])) == 1) == (truth > 0)).all()
    left = freeze(tmp_path, "pairs", source, name="left", classes=named, mapping={1: 0})
    assert ((np.asarray(left.label(left.dataset.cases[0])) == 2) == (truth == 2)).all()


def test_a_cascades_datasets_are_made_of_one(tmp_path: Path):
    cascade = get_recipe("kidney_tumour")
    source = kinds.write_pairs(tmp_path / "in", 2, slices=kinds.SLICES)
    shelf = Shelf(tmp_path / "shelf")
    wanted = Wanted.by_recipe(cascade, "kits", shares=Shares(0.2, 0.2))
    kits = shelf.freeze(get_layout("pairs"), source, wanted)
    with pytest.raises(InvalidRecipe, match="radloop datasets derive"):
        cascade.check(kits.dataset)
    organ = shelf.derive(kits, "organ", for_first(cascade))
    assert organ.dataset.classes == {1: "Kidney"}
    get_recipe("kidney").check(organ.dataset)
    case = kits.dataset.cases[0]
    truth = np.asarray(kits.label(case))
    assert ((np.asarray(organ.label(organ.dataset.cases[0])) == 1) == (truth > 0)).all()
    close = Derivation(about=frozenset({2}), margin_mm=3.0)
    part = shelf.derive(kits, "part", close)
    part.check()
    cut = part.dataset.cases[0]
    where = np.argwhere(truth == 2)
    begin = np.maximum(where.min(axis=0) - [1, 2, 2], 0)
    assert (
        np.asarray(part.label(cut))
        == truth[tuple(slice(a, a + n) for a, n in zip(begin, cut.shape, strict=True))]
    ).all()
    place = np.array(cut.affine_lps) @ [0, 0, 0, 1]
    assert np.allclose(place, np.array(case.affine_lps) @ [*begin, 1])
    about = for_second(cascade, "kidney@1.0.0")
    assert about.about == {1, 2}
    second = shelf.derive(kits, "second", about)
    assert second.dataset.after is not None
    cascade.check(second.dataset)
    nothing = Derivation(about=frozenset({9}))
    with pytest.raises(InvalidDataset, match="no case of kits@1 shows"):
        shelf.derive(kits, "nothing", nothing)
    assert "nothing@1" not in shelf.names()


# --- recipes --------------------------------------------------------------------------------------


def test_recipes_hold_together():
    for name in recipe_names():
        recipe = get_recipe(name)
        assert recipe.graph is not None
        if {"L", "R"} & {word[0] for word in recipe.classes.values() if "lung" in word.lower()}:
            kinds_of_node = {node.kind for node in recipe.graph.node}
            assert "flip" not in kinds_of_node  # left and right are what it says
    with pytest.raises(InvalidRecipe, match="no field colour"):
        read_recipe(_text(plan='[plan]\ncolour = "red"\n'))
    with pytest.raises(InvalidRecipe, match="has segments"):
        read_recipe(_text().replace("segmentation", "classification"))


def _text(plan: str = "") -> str:
    return (
        'title = "A"\nneeds = "B"\ntask = "segmentation"\ndimensions = 2\nchannels = ["grey"]\n'
        'modalities = ["DX"]\noutput = ["seg"]\n[[segment]]\nnumber = 1\nlabel = "Lung"\n'
        'category = { value = "91723000", scheme = "SCT", meaning = "Anatomical Structure" }\n'
        'type = { value = "39607008", scheme = "SCT", meaning = "Lung" }\nrgb = [1, 2, 3]\n' + plan
    )


def test_a_dataset_of_another_kind_is_refused(tmp_path: Path):
    source = kinds.write_pairs(tmp_path / "in", 2)
    folder = freeze(tmp_path, "pairs", source, classes={1: "Right lung", 2: "Heart"})
    with pytest.raises(InvalidRecipe, match="knows no Heart"):
        begin_plan(folder, recipe=get_recipe("chest_lungs"))
    with pytest.raises(InvalidRecipe, match="task: segmentation, the recipe has classification"):
        begin_plan(folder, recipe=get_recipe("chest_view"))
    with pytest.raises(InvalidRecipe, match="dimensions: 2, the recipe has 3"):
        begin_plan(folder, recipe=get_recipe("liver"))
