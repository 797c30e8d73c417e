"""De-identified files on disk: whole, or not there."""

import errno
import os
from pathlib import Path

import pytest

from dicom.deid import Deidentifier
from dicom.errors import DiskFull, ResourceError
from dicom.fast import EngineChoice, engine_for
from dicom.profile import node_profile
from tests.dicom.test_deid import as_file, slice_of_mr


@pytest.mark.parametrize("choice", [EngineChoice.FAST, EngineChoice.CAREFUL])
def test_a_full_disk_leaves_the_original_whole_and_nothing_half(
    choice: EngineChoice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = as_file(slice_of_mr(), tmp_path / "in.dcm")
    before = source.read_bytes()
    engine = engine_for(choice, Deidentifier(node_profile(), bytes(32)))

    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", no_room)
        with pytest.raises(DiskFull) as caught:
            engine.deidentify_file(source, tmp_path / "out")
    assert isinstance(caught.value, ResourceError)  # tried again later: no refusal, nobody decides
    assert source.read_bytes() == before
    assert list((tmp_path / "out").iterdir()) == []
    instance, _ = engine.deidentify_file(source, tmp_path / "out")  # and there is room again
    assert instance.path.exists()
