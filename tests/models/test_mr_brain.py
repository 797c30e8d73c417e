"""The first model: it loads by plain MONAI, finds brains, finds none where none is, and its docs
say of these weights what these weights do."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from dicom.codes import ANATOMICAL_STRUCTURE, ARTIFICIAL_INTELLIGENCE
from dicom.phantom import head_mr
from models.bundle import read_bundle
from models.bundles.mr_brain.scripts.evaluate import dice, measure, read_nrrd, table
from models.bundles.mr_brain.scripts.heads import (
    ADULT,
    CHILD,
    LPS_TO_RAS,
    closed,
    mended,
    read_archived_series,
    read_head,
    resampled,
)
from models.predictor import Predictor

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = ROOT / "models" / "bundles" / "mr_brain"
MR = ROOT.parent / "shared" / "data" / "mr"

real = pytest.mark.skipif(not MR.is_dir(), reason="needs the real series in ../shared/data/mr")


@pytest.fixture(scope="module")
def predictor():
    return Predictor(read_bundle(BUNDLE), device="cpu", threads=1)


@pytest.fixture(scope="module")
def figures():
    document = json.loads((BUNDLE / "docs" / "figures.json").read_text())
    return {(row["what"], row["reference"]): row for row in document["rows"]}


def test_plain_monai_builds_the_network_and_the_weights_fit():
    parser = ConfigParser()
    parser.read_config(BUNDLE / "configs" / "inference.json")
    parser["bundle_root"] = str(BUNDLE)
    parser["device"] = "cpu"
    network = parser.get_parsed_content("network_def")
    state = torch.load(BUNDLE / "models" / "model.pt", weights_only=True)
    assert not network.load_state_dict(state, strict=True).unexpected_keys
    names = [type(t).__name__ for t in parser.get_parsed_content("preprocessing").transforms]
    assert names[:2] == ["LoadImaged", "EnsureChannelFirstd"]
    assert type(parser.get_parsed_content("inferer")).__name__ == "SlidingWindowInferer"
    assert parser.get_parsed_content("postprocessing") is not None


def test_training_and_inference_build_the_same_network():
    read = lambda name: json.loads((BUNDLE / "configs" / name).read_text())  # noqa: E731
    assert read("train.json")["network_def"] == read("inference.json")["network_def"]


def test_the_weights_are_small_and_finite():
    path = BUNDLE / "models" / "model.pt"
    assert path.stat().st_size < 10_000_000
    state = torch.load(path, weights_only=True)
    assert all(torch.isfinite(tensor).all() for tensor in state.values())


def test_the_segment_is_the_brain_in_the_vocabulary_of_dicom():
    bundle = read_bundle(BUNDLE)
    (segment,) = bundle.segments
    assert (segment.type.value, segment.type.scheme) == ("12738006", "SCT")
    assert segment.category == ANATOMICAL_STRUCTURE
    assert bundle.algorithm.family == ARTIFICIAL_INTELLIGENCE
    assert bundle.modalities == ("MR",)


def test_the_card_shows_the_figures_of_these_weights():
    card = (BUNDLE / "docs" / "README.md").read_text()
    document = json.loads((BUNDLE / "docs" / "figures.json").read_text())
    weights = (BUNDLE / "models" / "model.pt").read_bytes()
    assert document["weights_sha256"] == hashlib.sha256(weights).hexdigest()
    assert document["weights_sha256"] in card
    assert table(document["rows"]) in card
    held_out = json.loads((BUNDLE / "docs" / "holdout.json").read_text())
    assert table(held_out["rows"]) in card


def test_unseen_phantoms_are_found(predictor):
    found = []
    for seed, plane in ((21, "sagittal"), (22, "axial"), (23, "coronal"), (24, "sagittal")):
        head = head_mr(seed, plane=plane, slices=160, size=192)
        labels = predictor.predict(head.voxels_kji, head.affine_lps).labels_kji
        found.append(dice(head.brain_kji, labels == 1))
    assert np.median(found) >= 0.97
    assert min(found) >= 0.96


def test_a_mirrored_head_gives_the_mirrored_brain(predictor):
    head = head_mr(24, slices=88, size=128)
    flipped = head.affine_lps @ np.array([[-1, 0, 0, 87], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    labels = predictor.predict(head.voxels_kji, head.affine_lps).labels_kji
    again = predictor.predict(head.voxels_kji[::-1].copy(), flipped).labels_kji
    assert dice(labels == 1, again[::-1] == 1) > 0.999  # the same voxels at the same places


def test_an_empty_volume_has_no_brain(predictor):
    head = head_mr(1, slices=40, size=64)
    nothing = np.zeros_like(head.voxels_kji)
    assert predictor.predict(nothing, head.affine_lps).labels_kji.max() == 0


@real
def test_a_fruit_has_no_brain(predictor):
    fruit = read_archived_series(MR / "fruit_ge_t1_dicom" / "dicom.tar.gz")
    assert predictor.predict(fruit.voxels_kji, fruit.affine_lps).labels_kji.max() == 0


@real
def test_real_heads_reach_what_the_card_says(predictor, figures):
    series = read_archived_series(MR / "sag_anon_t1_dicom" / "dicom.tar.xz")
    child = read_head(CHILD, MR)
    mask = resampled(
        child.brain_xyz.astype(np.float32),
        child.affine_ras,
        series.voxels_kji.shape,
        LPS_TO_RAS @ series.affine_lps,
    )
    (row,) = measure(
        predictor, "child", series.voxels_kji, series.affine_lps, {"mended": mask > 0.5}
    )
    assert row.dice == pytest.approx(figures["child, sag_anon", "mended"]["dice"], abs=0.002)
    assert row.dice > 0.95

    adult = read_head(ADULT, MR)
    here = LPS_TO_RAS @ adult.affine_ras
    (row,) = measure(predictor, "adult", adult.voxels_xyz, here, {"silver": adult.silver_xyz})
    assert row.dice == pytest.approx(figures["adult, t1crop", "silver"]["dice"], abs=0.002)
    assert row.dice > 0.95


@real
def test_the_mending_leaves_a_good_mask_nearly_alone():
    adult = read_head(ADULT, MR)
    assert dice(adult.silver_xyz, mended(adult.voxels_xyz, adult.silver_xyz)) > 0.97


@real
def test_a_brain_with_a_tumour_in_thick_slices_is_of_a_plausible_size(predictor):
    voxels, affine = read_nrrd(MR / "pyradiomics" / "brain1_image.nrrd")
    labels = predictor.predict(voxels, affine).labels_kji
    assert 900 < (labels == 1).sum() * abs(np.linalg.det(affine[:3, :3])) / 1000 < 1900


def test_closing_fills_a_gap_and_keeps_the_outside():
    mask = np.zeros((40, 40, 40), bool)
    mask[10:30, 10:30, 10:30] = True
    cut = mask.copy()
    cut[18:21, 10:25, 12:28] = False
    filled = closed(cut, 6)
    assert not (filled & ~mask).any()
    assert np.array_equal(filled[:, 14:], mask[:, 14:])
