"""Output types: the built-in ones and those of other packages come in by one door."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest

from dicom.errors import InvalidReport, InvalidSettings
from dicom.seg import Form, SegmentationType, decode_seg
from dicom.sr import decode_report
from dicom.volume import read_volume
from models.bundle import read_bundle
from models.prediction import Labels
from pipelines.outputs import BUILT_IN, Made, get_output, outputs_for
from pipelines.results import encode_all, look_at
from tests.bundles import write_threshold_bundle
from tests.segmentations import NOON
from tests.series import write_series


@pytest.fixture
def made(tmp_path: Path) -> Made:
    series = write_series(tmp_path / "series", modality="MR")
    source = read_volume(series)
    labels_kji = (source.voxels_kji > 100).astype(np.uint8)
    bundle = read_bundle(write_threshold_bundle(tmp_path))
    answer = Labels(labels_kji)
    return Made(
        answer,
        source,
        bundle,
        key="task",
        series_number=9001,
        created=NOON,
        measured=look_at(bundle, answer, source, series),
    )


def test_every_built_in_output_keeps_its_promise(made: Made):
    first, second = encode_all(BUILT_IN, made), encode_all(BUILT_IN, made)
    assert set(first) == set(BUILT_IN)
    for name in BUILT_IN:
        assert first[name].ds == second[name].ds  # a step that runs twice stores the same object
    assert len({each.ds.SeriesNumber for each in first.values()}) == len(BUILT_IN)


def test_a_report_speaks_of_the_segmentation_of_its_own_task(made: Made):
    encoded = encode_all(("seg", "sr"), made)
    (group,) = decode_report(encoded["sr"].ds)
    assert group.segmentation_uid == encoded["seg"].ds.SOPInstanceUID
    assert group.tracking_uid == encoded["seg"].ds.SegmentSequence[0].TrackingUID
    assert encoded["sr"].summary == encoded["seg"].summary
    with pytest.raises(InvalidReport):
        encode_all(("sr",), made)


@pytest.mark.parametrize("form", ["binary", "labelmap", "fractional"])
def test_a_report_goes_with_every_form_of_segmentation(made: Made, form: SegmentationType):
    encoded = encode_all(("seg", "sr"), replace(made, form=Form(form)))
    (group,) = decode_report(encoded["sr"].ds)
    assert group.tracking_uid == encoded["seg"].ds.SegmentSequence[-1].TrackingUID


def test_a_model_that_says_nothing_of_outputs_gets_those_of_its_task(made: Made):
    assert outputs_for(made.bundle) == ("seg", "sr")


def test_a_segmentation_says_how_much_it_holds(made: Made):
    encoded = get_output("seg").encode(made)
    voxel_ml = np.prod(made.source.spacing_kji) / 1000
    assert encoded.summary == {"Brain": pytest.approx(made.labels_kji.sum() * voxel_ml, abs=1e-3)}
    assert np.array_equal(decode_seg(encoded.ds, made.source).labels(), made.labels_kji)


def test_another_package_adds_an_output_by_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    package = tmp_path / "site"
    (package / "report-1.0.dist-info").mkdir(parents=True)
    (package / "report_output.py").write_text("def encode(made):\n    return made.key\n")
    (package / "report-1.0.dist-info" / "METADATA").write_text("Name: report\nVersion: 1.0\n")
    (package / "report-1.0.dist-info" / "entry_points.txt").write_text(
        "[radloop.outputs]\nreport = report_output\n"
    )
    monkeypatch.syspath_prepend(str(package))
    assert "report" in entry_points(group="radloop.outputs").names
    output = get_output("report")
    assert output is sys.modules["report_output"]


def test_an_unknown_output_is_a_setting_to_mend():
    with pytest.raises(InvalidSettings, match="seg"):
        get_output("hologram")


def test_a_segmentation_has_the_form_that_its_route_asks_for(made: Made):
    label_map = get_output("seg").encode(replace(made, form=Form("labelmap"))).ds
    assert label_map.SegmentationType == "LABELMAP"
    assert get_output("seg").encode(made).ds.SegmentationType == "BINARY"
