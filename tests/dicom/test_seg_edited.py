"""A Segmentation that a person drew or corrected: whose work it is, and what it came from."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from dicom.errors import InvalidSegmentation
from dicom.seg import Edited, Form, Origin, Predecessor, ResultUids, decode_seg
from dicom.uids import derived_uid
from dicom.volume import Grid, read_grid
from tests.segmentations import ALGORITHM, encoded, problems, segments_of
from tests.series import write_series

BEFORE = Predecessor("1.2.3", "1.2.3.4", "1.2.3.4.5", "1.2.840.10008.5.1.4.1.1.66.4")
SEGMENTS = segments_of("liver", "spleen", "cyst")
ORIGINS = (
    Origin("SEMIAUTOMATIC", ALGORITHM.name, ALGORITHM, "liver 1", "1.2.9.1"),
    Origin("SEMIAUTOMATIC", "another tool", None, "", "1.2.9.2"),  # a name is all it gave
    Origin("MANUAL", "", None, "", "1.2.9.3"),
)


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Grid:
    return read_grid(write_series(tmp_path_factory.mktemp("series"), shape_kji=(6, 16, 24)))


def edited(grid: Grid, kind: str = "binary", **changed):
    labels_kji = np.random.default_rng(1).integers(0, 4, grid.shape_kji, np.uint8)
    uids = ResultUids(
        derived_uid("a"), derived_uid("b"), tuple(origin.tracking_uid for origin in ORIGINS)
    )
    return labels_kji, encoded(
        labels_kji,
        grid,
        SEGMENTS,
        algorithm=replace(Edited("Doe^Rita", ORIGINS, BEFORE), **changed),
        uids=uids,
        form=Form(kind),
        content_label="CORRECTION",
    )


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_a_correction_says_who_made_it_and_from_what(grid: Grid, tmp_path: Path, kind: str):
    labels_kji, seg = edited(grid, kind)
    path = tmp_path / "seg.dcm"
    seg.save_as(path, enforce_file_format=True)
    if kind == "binary":  # dciodvfy does not know label maps yet
        assert problems("dciodvfy", path) == []
    read = decode_seg(path, grid)
    assert np.array_equal(read.labels(), labels_kji)
    first, second, third = read.origins
    assert first == ORIGINS[0]
    assert second == replace(ORIGINS[1], tracking_id="spleen")
    assert third == replace(ORIGINS[2], tracking_id="cyst")
    ds = dcmread(path)
    assert ds.ContentCreatorName == "Doe^Rita"
    (study,) = ds.PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    (instance,) = series.ReferencedSOPSequence
    assert (study.StudyInstanceUID, series.SeriesInstanceUID) == ("1.2.3", "1.2.3.4")
    assert instance.ReferencedSOPInstanceUID == "1.2.3.4.5"


def test_what_was_drawn_from_scratch_has_no_predecessor(grid: Grid):
    _, seg = edited(grid, predecessor=None)
    assert "PredecessorDocumentsSequence" not in seg


def test_each_segment_has_an_origin(grid: Grid):
    with pytest.raises(InvalidSegmentation, match="one origin"):
        edited(grid, origins=ORIGINS[:2])
