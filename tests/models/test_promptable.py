"""A bundle that takes clicks, trained here: what is clicked on comes, or goes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dicom.codes import Code
from dicom.errors import InvalidBundle, UnsuitableSeries
from dicom.study import Study
from models.bundle import Bundle, read_bundle
from models.choice import choose_series
from models.importing.model import import_model
from models.prediction import Image
from models.process import PredictorProcess
from models.prompts import Box, Point, is_for, refine_by_bundle
from tests.clicked import balls, write_clicked_bundle
from tests.series import write_series

pytestmark = pytest.mark.usefixtures("one_thread")

CENTRES = [(12, 10, 10), (12, 30, 30), (30, 10, 30)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return read_bundle(write_clicked_bundle(tmp_path_factory.mktemp("bundles")))


@pytest.fixture(scope="module")
def child(bundle: Bundle) -> Iterator[PredictorProcess]:
    with PredictorProcess((bundle.root.parent,), device="cpu", threads=1) as process:
        yield process


def shares(mask: np.ndarray, masks: list[np.ndarray]) -> list[bool | None]:
    """Return of each ball whether it is in the mask: True, False, or None for a half of it."""
    each = [float((mask & ball).sum() / ball.sum()) for ball in masks]
    return [True if share > 0.75 else False if share < 0.2 else None for share in each]


def test_a_click_inside_adds_and_a_click_outside_takes_away(
    bundle: Bundle, child: PredictorProcess
) -> None:
    voxels, masks = balls(np.random.default_rng(1), CENTRES, (40, 40, 40))
    image = Image(voxels, np.diag([1.0, 1.0, 1.0, 1.0]))
    one = refine_by_bundle(child, bundle, image, positive=[Point(*CENTRES[0])])
    assert shares(one, masks) == [True, False, False]
    assert (one & ~masks[0]).sum() < masks[0].sum()
    both = refine_by_bundle(child, bundle, image, one, positive=[Point(*CENTRES[1])])
    assert shares(both, masks) == [True, True, False]
    left = refine_by_bundle(child, bundle, image, both, negative=[Point(*CENTRES[0])])
    assert shares(left, masks) == [False, True, False]
    boxed = refine_by_bundle(child, bundle, image, box=Box(Point(26, 6, 26), Point(34, 14, 34)))
    assert shares(boxed, masks) == [False, False, True]
    flat = refine_by_bundle(child, bundle, image, positive=[Point(*CENTRES[0])], in_plane=True)
    assert np.flatnonzero(flat.any(axis=(1, 2))).tolist() == [12]


def test_what_is_out_of_reach_stays_and_a_click_means_what_it_says(
    bundle: Bundle, child: PredictorProcess
) -> None:
    voxels, (first, *_) = balls(np.random.default_rng(2), [(8, 10, 10)], (90, 24, 24))
    image = Image(voxels, np.eye(4))
    nothing = Point(70, 12, 12)
    mask = refine_by_bundle(child, bundle, image, positive=[nothing])
    assert mask[nothing]  # whatever the network thinks of it
    assert not mask[:40].any()
    gone = refine_by_bundle(child, bundle, image, first, negative=[Point(8, 10, 10)])
    assert not gone[8, 10, 10]
    with pytest.raises(ValueError, match="nothing was clicked"):
        refine_by_bundle(child, bundle, image)


def test_it_is_for_its_images_and_its_structure_and_is_not_run_by_itself(
    bundle: Bundle, tmp_path: Path
) -> None:
    assert is_for(bundle, modality="MR", label="anything", code=None)
    assert not is_for(bundle, modality="US", label="anything", code=None)
    own = read_bundle(write_clicked_bundle(tmp_path / "own", any_structure=False))
    assert not is_for(own, modality="MR", label="Liver", code=None)
    assert is_for(own, modality="MR", label="brain", code=None)
    assert is_for(own, modality="MR", label="x", code=Code("12738006", "SCT", "Brain"))
    series = write_series(tmp_path / "images", modality="MR")
    with pytest.raises(UnsuitableSeries, match="answers clicks"):
        choose_series(bundle, Study("2.25.1", (series,)), series)


def test_it_is_imported_like_any_other(bundle: Bundle, tmp_path: Path) -> None:
    imported = import_model(bundle.root, tmp_path / "site")
    assert imported.prompts == bundle.prompts
    assert imported.prompts is not None and imported.prompts.previous == "before"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"prompts": {"positive": "nowhere", "negative": "negative"}}, "names"),
        ({"prompts": {"positive": "positive", "negative": "positive"}}, "names"),
        ({"prompts": {"positive": "positive", "negative": "negative"}}, "one input, the image"),
        ({"prompts": {"positive": "positive"}}, "negative"),
        ({"dimensions": "2d"}, "takes clicks"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(
    tmp_path: Path, change: dict[str, object], says: str
) -> None:
    root = write_clicked_bundle(tmp_path)
    path = root / "configs/metadata.json"
    document = json.loads(path.read_text())
    document["radloop"] |= change
    path.write_text(json.dumps(document))
    with pytest.raises(InvalidBundle, match=says):
        read_bundle(root)
