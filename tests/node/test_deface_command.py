"""Faces from the shell: `radloop deface`, with the shipped network."""

from __future__ import annotations

from pathlib import Path

from pydicom import dcmread
from typer.testing import CliRunner

from dicom.phantom import head_mr, write_head_study
from node.cli import app


def test_a_folder_is_defaced_from_the_shell(tmp_path: Path) -> None:
    """With the shipped network: it finds the phantom's brain by itself."""
    source = tmp_path / "in"
    head = head_mr(5, slices=88, size=128, spacing_mm=(2.0, 2.0, 2.0))
    written = write_head_study(source, head=head)
    picture = tmp_path / "surface.png"
    ran = CliRunner().invoke(
        app,
        ["deface", str(source), str(tmp_path / "out"), "--picture", str(picture), "--device=cpu"],
    )
    assert ran.exit_code == 0, ran.output
    assert "88 files defaced, 0 copied, 0 held back" in ran.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    changed = 0
    for k, instance in enumerate(written.study.series[0].instances):
        before = dcmread(instance.path)
        after = dcmread(tmp_path / "out" / instance.path.name)
        different = after.pixel_array != before.pixel_array
        assert not (different & head.brain_kji[k]).any()
        changed += int(different.sum())
        assert after.RecognizableVisualFeatures == "NO"
    assert changed > 10_000
