"""`radloop volume info`, as a person types it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from node.cli import main
from tests.dicom.test_volume_mending import sheared
from tests.dicom.test_volume_picture import GREY, write_picture
from tests.dicom.test_volume_split import echoes, several
from tests.series import AXIAL, CORONAL, write_series


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["radloop", "volume", "info", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def scout(k: int, ds: Dataset) -> None:
    ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_series(tmp_path / "a", name="a", plane=CORONAL)
    write_series(tmp_path / "b", name="b", edit=scout)
    several(tmp_path / "c", 2, echoes)
    write_picture(
        tmp_path / "d", "DX", GREY, ImagerPixelSpacing=["0.2", "0.1"], StudyInstanceUID="1.9"
    )
    write_series(tmp_path / "e", name="e", left_out=[4])
    (tmp_path / "letter.txt").write_text("Dear colleague")
    return tmp_path


def test_each_series_is_a_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, folder) == 0
    lines = capsys.readouterr().out.splitlines()
    (sound,) = [line for line in lines if "coronal" in line]
    assert "12 x 30 x 34  3 x 1.5 x 1.25 mm  coronal LIP  HU" in sound
    (localiser,) = [line for line in lines if "12 of 12 images are localisers" in line]
    assert localiser.split()[1:4] == ["CT", "localiser", "localiser:"]
    (echo,) = [line for line in lines if "TE 4.6 ms" in line]
    assert "2 volumes by EchoTime: TE 4.6 ms; TE 9.2 ms" in echo
    (picture,) = [line for line in lines if "ImagerPixelSpacing" in line]
    assert "1 x 6 x 7  0.2 x 0.1 mm by ImagerPixelSpacing  1 x grey scale" in picture
    assert any("missing_slice: 1 slices are missing" in line for line in lines)
    assert any(line.startswith("1 x localiser: ") for line in lines)
    assert "1 files are no DICOM instance" in lines
    assert not any("Test" in line for line in lines)


def test_json_tells_programs_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, folder, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert sorted(each["kind"] for each in found) == ["localiser", "picture"] + ["slices"] * 3
    (echoes_told,) = [each for each in found if len(each["volumes"]) == 2]
    assert [each["varies"] for each in echoes_told["volumes"]] == [
        {"EchoTime": "TE 4.6 ms"},
        {"EchoTime": "TE 9.2 ms"},
    ]
    assert echoes_told["volumes"][0]["shape_kji"] == [5, 8, 9]
    assert {each["error"]["code"] for each in found if each["error"]} == {
        "localiser",
        "missing_slice",
    }
    (picture,) = [each for each in found if each["pictures"]]
    assert picture["pictures"][0]["spacing_from"] == "ImagerPixelSpacing"


def test_mending_is_looked_at_as_a_model_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    edit, affine = sheared(AXIAL, 0.9, 0.0)
    write_series(tmp_path, edit=edit)
    assert np.linalg.norm(affine[:3, 0]) > 3
    assert run(monkeypatch, tmp_path) == 1
    assert "gantry_tilt: slices run 16.7 degrees beside their normal" in capsys.readouterr().out
    assert run(monkeypatch, tmp_path, "--mend", "tilt") == 0
    assert "mended: tilt" in capsys.readouterr().out


def test_a_folder_without_dicom_is_said_to_be_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "letter.txt").write_text("Dear colleague")
    assert run(monkeypatch, tmp_path) == 2
    assert "not_dicom" in capsys.readouterr().err
