"""`radloop seg`, as a person types it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pytest
from pydicom import dcmread

from dicom.seg import Form, Masks, decode_seg
from dicom.volume import Volume, read_volume
from node.cli import main
from tests.segmentations import encoded, segments_of
from tests.series import write_series

_SEGMENTS = {
    "algorithm": "by hand",
    "segments": [
        {
            "number": 1,
            "label": "Left kidney",
            "category": {"value": "91723000", "scheme": "SCT", "meaning": "Anatomical Structure"},
            "type": {"value": "64033007", "scheme": "SCT", "meaning": "Kidney"},
            "laterality": {"value": "7771000", "scheme": "SCT", "meaning": "Left"},
            "rgb": [185, 102, 83],
        },
        {
            "number": 2,
            "label": "Liver",
            "category": {"value": "91723000", "scheme": "SCT", "meaning": "Anatomical Structure"},
            "type": {"value": "10200004", "scheme": "SCT", "meaning": "Liver"},
        },
    ],
}


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Volume:
    return read_volume(write_series(tmp_path_factory.mktemp("seg") / "ct", shape_kji=(4, 10, 12)))


def series_folder(volume: Volume) -> Path:
    return volume.instances[0].path.parent


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


Command = Callable[..., Done]


@pytest.fixture
def radloop(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command line in this process: starting Python each time takes longer than the work."""

    def run(*words: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["radloop", "seg", *(str(word) for word in words)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return Done(int(ended.value.code or 0), printed.out, printed.err)

    return run


def segments_file(folder: Path) -> Path:
    path = folder / "segments.json"
    path.write_text(json.dumps(_SEGMENTS))
    return path


def some_labels(volume: Volume) -> np.ndarray:
    labels = np.zeros(volume.shape_kji, np.uint8)
    labels[1:3, 2:5, 3:9] = 1
    labels[2, 6:9, 1:4] = 2
    return labels


def write_nifti(path: Path, voxels_kji: np.ndarray, affine_lps: np.ndarray) -> None:
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine_lps[:, [2, 1, 0, 3]]
    image = nibabel.Nifti1Image(voxels_kji.transpose(2, 1, 0), to_ras)
    image.set_sform(to_ras, code="scanner")
    nibabel.save(image, path)


def test_labels_go_in_and_come_out_again(tmp_path: Path, volume: Volume, radloop: Command) -> None:
    labels, seg = some_labels(volume), tmp_path / "seg.dcm"
    write_nifti(tmp_path / "labels.nii.gz", labels, volume.affine_lps)
    # Another program's axes: nibabel's canonical ones run to the right, to the front and upwards.
    turned = nibabel.as_closest_canonical(nibabel.load(tmp_path / "labels.nii.gz"))
    nibabel.save(turned, tmp_path / "turned.nii.gz")
    np.save(tmp_path / "labels.npy", labels)
    segments = segments_file(tmp_path)
    for name in ("labels.nii.gz", "turned.nii.gz", "labels.npy"):
        done = radloop(
            "encode", tmp_path / name, series_folder(volume), seg, "--segments", segments
        )
        assert done.returncode == 0, done.stderr
        np.testing.assert_array_equal(decode_seg(seg, volume).labels(), labels)
    for places in ([series_folder(volume)], []):
        done = radloop("decode", seg, *places, tmp_path / "out.nii.gz")
        assert done.returncode == 0, done.stderr
        image = nibabel.load(tmp_path / "out.nii.gz")
        assert np.count_nonzero(np.asarray(image.dataobj)) == np.count_nonzero(labels)
        if places:
            voxels = np.asarray(image.dataobj).transpose(2, 1, 0)
            np.testing.assert_array_equal(voxels, labels)


def test_segments_that_overlap_go_through_a_folder(
    tmp_path: Path, volume: Volume, radloop: Command
) -> None:
    first = some_labels(volume) == 1
    second = first.copy()
    second[2] = True
    source = tmp_path / "source.dcm"
    masks = Masks.of([first, second])
    encoded(masks, volume, segments_of("kidney_left", "liver")).save_as(source)
    folder, seg = tmp_path / "masks", tmp_path / "seg.dcm"
    refused = radloop("decode", source, series_folder(volume), tmp_path / "one.nii.gz")
    assert refused.returncode == 2
    assert "overlapping_segments" in refused.stderr
    assert radloop("decode", source, series_folder(volume), folder).returncode == 0
    done = radloop(
        "encode", folder, series_folder(volume), seg, "--segments", folder / "segments.json"
    )
    assert done.returncode == 0, done.stderr
    decoded = decode_seg(seg, volume)
    np.testing.assert_array_equal(decoded.mask(1), first)
    np.testing.assert_array_equal(decoded.mask(2), second)
    assert decoded.segments == segments_of("kidney_left", "liver")
    assert dcmread(seg).SegmentationType == "BINARY"


def test_shares_go_through_a_folder(tmp_path: Path, volume: Volume, radloop: Command) -> None:
    shares = np.random.default_rng(0).random((2, *volume.shape_kji), np.float32)
    np.save(tmp_path / "shares.npy", shares)
    seg = tmp_path / "seg.dcm"
    done = radloop(
        "encode",
        tmp_path / "shares.npy",
        series_folder(volume),
        seg,
        "--segments",
        segments_file(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(decode_seg(seg, volume).shares(2), shares[1], atol=0.002)


def test_info_says_what_is_in_it(tmp_path: Path, volume: Volume, radloop: Command) -> None:
    labels, seg = some_labels(volume), tmp_path / "seg.dcm"
    for form in (Form("binary"), Form("labelmap"), Form("fractional")):
        encoded(labels, volume, segments_of("kidney_left", "liver"), form=form).save_as(seg)
        facts = json.loads(radloop("info", seg, "--json").stdout)
        assert facts["type"] == form.segmentation_type.upper()
        assert facts["overlap"] is False
        kidney, liver = facts["segments"]
        assert (kidney["voxels"], liver["voxels"]) == (36, 9)
        assert kidney["ml"] == pytest.approx(36 * 3.0 * 1.5 * 1.25 / 1000, abs=1e-4)
        assert kidney["laterality"]["meaning"] == "Left"
        assert kidney["algorithm_name"] == "mr_brain"
    table = radloop("info", seg).stdout
    assert "kidney left" in table
    assert "Left" in table


def test_what_is_wrong_is_said_with_a_code(
    tmp_path: Path, volume: Volume, radloop: Command
) -> None:
    labels, seg = some_labels(volume), tmp_path / "seg.dcm"
    np.save(tmp_path / "labels.npy", labels)
    uncoded = {"segments": [{"number": 1, "label": "thing"}]}
    (tmp_path / "uncoded.json").write_text(json.dumps(uncoded))
    done = radloop(
        "encode",
        tmp_path / "labels.npy",
        series_folder(volume),
        seg,
        "--segments",
        tmp_path / "uncoded.json",
    )
    assert done.returncode == 2
    assert "segments.0.category" in done.stderr
    assert not seg.exists()
    encoded(labels, volume, segments_of("kidney_left", "liver")).save_as(seg)
    write_series(tmp_path / "other", shape_kji=(4, 10, 12), name="b")
    done = radloop("decode", seg, tmp_path / "other", tmp_path / "out.npy")
    assert done.returncode == 2
    assert "foreign_segmentation" in done.stderr
    write_nifti(tmp_path / "shifted.nii.gz", labels, volume.affine_lps + np.eye(4, k=3))
    done = radloop(
        "encode",
        tmp_path / "shifted.nii.gz",
        series_folder(volume),
        seg,
        "--segments",
        segments_file(tmp_path),
    )
    assert done.returncode == 2
    assert "other_grid" in done.stderr
