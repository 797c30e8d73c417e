"""The shipped bundles of chest radiographs: their cards are true of them, and they work."""

from __future__ import annotations

import csv
from functools import cache
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from models.bundle import read_bundle
from models.learning.recipe import get_recipe
from models.prediction import Boxes, Classes, Image
from models.predictor import Predictor
from models.registry import SHIPPED

RADIOGRAPHS = Path(__file__).parents[3] / "shared/data/cxr/hannover_cc-by-3.0"
NAMES = ("chest_view", "chest_marker")
GREY = "image"
SURE, APART = 0.3, 3  # of a box; pixels between a marker's middle and the box's
needs_radiographs = pytest.mark.skipif(
    not RADIOGRAPHS.is_dir(), reason="needs the radiographs in ../shared/data/cxr"
)


@cache
def opened(name: str) -> Predictor:
    return Predictor(read_bundle(SHIPPED / name), device="cpu", threads=1)


def radiograph(name: str) -> Image:
    pixels = np.asarray(Picture.open(RADIOGRAPHS / "png" / f"{name}.png").convert("L"))
    return Image(pixels[None], np.eye(4))


def rows(name: str) -> list[dict[str, str]]:
    with (RADIOGRAPHS / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", NAMES)
def test_the_card_names_these_weights_their_data_and_the_command(name: str) -> None:
    root = SHIPPED / name
    card = (root / "docs" / "README.md").read_text(encoding="utf-8")
    weights = root / "models" / "model.pt"
    assert sha256(weights.read_bytes()).hexdigest() in card
    for said in ("CC BY 3.0", "Hannover", "Intended use", "Limits", f"shipping {name}"):
        assert said in card
    assert weights.stat().st_size < 2_000_000
    state = torch.load(weights, weights_only=True)
    assert all(value.dtype is not torch.float32 for value in state.values())


@pytest.mark.parametrize("name", NAMES)
def test_what_they_say_has_the_codes_of_their_recipe(name: str) -> None:
    bundle = read_bundle(SHIPPED / name)
    known = {(row.label, row.code.value, row.code.scheme) for row in get_recipe(name).finding}
    said = {(row.label, row.code.value, row.code.scheme) for row in bundle.findings}
    assert len(said) == 2
    assert said <= known


def test_where_there_are_no_letters_no_marker_is_found() -> None:
    across, down = np.meshgrid(np.linspace(-1, 1, 320), np.linspace(-1, 1, 400))
    image = Image((200 * np.exp(-(across**2) - 2 * down**2)).astype(np.uint8)[None], np.eye(4))
    answer = opened("chest_marker").predict_images({GREY: image}).answer
    assert isinstance(answer, Boxes)
    assert not [box for box in answer.boxes if box.score >= SURE]


@needs_radiographs
def test_views_are_told_apart() -> None:
    known = rows("data.csv")
    chosen = [row for view in ("pa", "ap") for row in known if row["projection"] == view][::9]
    assert len(chosen) >= 6
    right = 0
    for row in chosen:
        answer = opened("chest_view").predict_images({GREY: radiograph(row["image_id"])}).answer
        assert isinstance(answer, Classes)
        best = answer.numbers[int(np.argmax(answer.probabilities))]
        labels = {row.number: row.label for row in opened("chest_view").bundle.findings}
        right += labels[best].lower() == row["projection"]
    assert right >= len(chosen) - 1


@needs_radiographs
def test_markers_of_patients_that_it_has_not_seen_are_found_where_they_are() -> None:
    looked_at = rows("marker_boxes_by_hand.csv")
    with_marker = [row for row in looked_at if row["marker"] == "L"][::5]
    without = [row for row in looked_at if row["marker"] != "L"][:1]
    assert len(with_marker) == 3 and len(without) == 1
    for row in (*with_marker, *without):
        answer = opened("chest_marker").predict_images({GREY: radiograph(row["image_id"])}).answer
        assert isinstance(answer, Boxes)
        found = [box for box in answer.boxes if box.number == 1 and box.score >= SURE]
        assert len(found) == (row["marker"] == "L")
        for box in found:
            _, *middle = np.add(box.low_lps, box.high_lps) / 2  # (k, j, i), as the image has it
            wanted = [(int(row[a]) + int(row[b]) - 1) / 2 for a, b in (("y0", "y1"), ("x0", "x1"))]
            assert np.abs(np.subtract(middle, wanted)).max() < APART
