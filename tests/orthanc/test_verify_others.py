"""`radloop verify` on what other tools made: each leaves something; no value of it is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.quality.peers import ORTHANC, PEERS, peers_python_is_there, run_peer
from node.cli import app
from tests.planted import as_file, slice_of_mr

pytestmark = pytest.mark.orthanc


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    ds = slice_of_mr(SeriesDescription="Brain of Johanna Wagner", ImageComments="MRN-4711")
    block = ds.private_block(0x0029, "VENDOR", create=True)
    block.add_new(0x01, "LO", "Wagner Johanna MRN-4711")
    return as_file(ds, folder / "1.dcm")


@pytest.mark.parametrize("tool", [ORTHANC, *PEERS])
def test_what_another_tool_leaves_is_found(tmp_path: Path, source: Path, tool: str) -> None:
    if tool != ORTHANC and not peers_python_is_there():
        pytest.skip("needs the peers' environment, which `make bench B=deid-quality` makes")
    target = tmp_path / "out" / "1.dcm"
    target.parent.mkdir()
    assert run_peer(tool, [(source, target)]) == {source: target}
    done = CliRunner().invoke(app, ["verify", str(source.parent), str(target.parent), "--json"])
    assert done.exit_code == 3, done.output
    told = json.loads(done.stdout)
    assert told["clean"] == 0
    for secret in ("Wagner", "Johanna", "4711"):
        assert secret not in done.output


def test_what_radloop_made_is_clean(tmp_path: Path, source: Path) -> None:
    """Else the test above would hold for a look that finds something everywhere."""
    out = tmp_path / "ours"
    assert CliRunner().invoke(app, ["deid", str(source.parent), str(out)]).exit_code == 0
    done = CliRunner().invoke(app, ["verify", str(source.parent), str(out), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["clean"] == 1
