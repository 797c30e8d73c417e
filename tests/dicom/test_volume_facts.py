"""What routing may ask about a series."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom import errors
from dicom.study import Series
from dicom.volume import ReadInstance, describe_series, read_ahead, read_volume
from tests.dicom.test_volume_refused import REFUSALS, having, turned_away
from tests.series import (
    AXIAL,
    SAGITTAL,
    Edit,
    turned,
    write_series,
)


def test_facts_of_a_sound_series(tmp_path: Path) -> None:
    def described(k: int, ds: Dataset) -> None:
        ds.BodyPartExamined, ds.ProtocolName = "HEAD", "T1 sag"
        ds.ContrastBolusAgent = "Agent"

    facts = describe_series(write_series(tmp_path, plane=SAGITTAL, modality="MR", edit=described))
    assert facts.modality == "MR"
    assert (facts.body_part, facts.description, facts.protocol) == ("HEAD", "synthetic", "T1 sag")
    assert facts.slice_count == 12
    assert facts.spacing_mm == 3.0
    assert facts.pixel_spacing_mm == (1.5, 1.25)
    assert facts.orientation == "sagittal"
    assert facts.image_type == ("ORIGINAL", "PRIMARY", "AXIAL")
    assert facts.contrast_agent
    assert facts.manufacturer == "radloop tests"


def test_headers_at_hand_are_not_read_again_and_follow_their_file(tmp_path: Path) -> None:
    series = write_series(tmp_path / "here", modality="CT")
    ahead = replace(series, instances=tuple(read_ahead(one) for one in series.instances))
    (tmp_path / "here").rename(tmp_path / "there")
    assert describe_series(ahead).slice_count == 12  # there is no file there
    with pytest.raises(errors.NotDicom):
        describe_series(series)
    places = [tmp_path / "there" / one.path.name for one in series.instances]
    moved = [
        one.at(place)
        for one, place in zip(ahead.instances, places, strict=True)
        if isinstance(one, ReadInstance)
    ]
    plain = [replace(one, path=place) for one, place in zip(series.instances, places, strict=True)]
    volume, again = (read_volume(replace(series, instances=tuple(each))) for each in (moved, plain))
    assert len(moved) == len(plain)
    assert np.array_equal(volume.voxels_kji, again.voxels_kji)
    assert np.array_equal(volume.affine_lps, again.affine_lps)


@pytest.mark.parametrize(
    ("degrees", "plane"),
    [((0, 0, 0), "axial"), ((20, 0, 0), "axial"), ((45, 0, 0), "oblique"), ((90, 0, 0), "coronal")],
)
def test_the_plane_is_named_by_its_normal(
    tmp_path: Path, degrees: tuple[int, int, int], plane: str
) -> None:
    series = write_series(tmp_path, plane=turned(AXIAL, degrees), shape_kji=(3, 4, 4))
    assert describe_series(series).orientation == plane


@pytest.mark.parametrize("edit", [edit for _, edit in REFUSALS.values()], ids=REFUSALS.keys())
def test_facts_of_a_broken_series_are_told_without_complaint(tmp_path: Path, edit: Edit) -> None:
    facts = describe_series(write_series(tmp_path, edit=edit))
    assert facts.modality == "CT"
    assert facts.description == "synthetic"


def test_facts_of_mixed_planes_and_of_missing_slices(tmp_path: Path) -> None:
    mixed = describe_series(write_series(tmp_path / "mixed", edit=turned_away))
    assert mixed.orientation is None
    gap = describe_series(write_series(tmp_path / "gap", left_out=(3, 7)))
    assert (gap.spacing_mm, gap.slice_count) == (3.0, 10)
    assert not gap.contrast_agent


def test_facts_of_documents_and_of_nothing(tmp_path: Path) -> None:
    document = having(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33", Modality="SR")
    facts = describe_series(write_series(tmp_path, edit=document))
    assert (facts.modality, facts.slice_count, facts.orientation) == ("SR", 0, None)
    assert facts.spacing_mm is None
    empty = describe_series(Series("1.2.3", "MR", ()))
    assert (empty.modality, empty.slice_count) == ("MR", 0)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_facts_of_values_that_break_their_type(tmp_path: Path) -> None:
    series = write_series(tmp_path, shape_kji=(3, 8, 8))
    for instance in series.instances:
        content = instance.path.read_bytes()
        instance.path.write_bytes(content.replace(b"1.5000000000", b"one and half"))
    facts = describe_series(series)
    assert facts.pixel_spacing_mm is None
    assert facts.slice_count == 3
    with pytest.raises(errors.NoGeometry):
        read_volume(series)
