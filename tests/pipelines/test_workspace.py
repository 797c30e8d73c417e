"""A job's folder: what is kept comes back, and a crash leaves whole files."""

import errno
import stat
from pathlib import Path

import numpy as np
import pytest

from dicom.errors import DiskFull
from dicom.study import Instance, Series, Study
from models.prediction import Labels, labels_of
from pipelines.workspace import Workspace, jobs_with_folders


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "work", "job")


def study(folder: Path) -> Study:
    instances = tuple(
        Instance(f"2.25.3.{number}", "1.2.840.10008.5.1.4.1.1.4", folder / f"{number}.dcm")
        for number in range(3)
    )
    return Study("2.25.1", (Series("2.25.2", "MR", instances), Series("2.25.4", "SR", ())))


def test_the_study_comes_back(workspace):
    kept = study(workspace.clean_folder("2.25.2"))
    workspace.keep_study(kept)
    assert Workspace(workspace.folder.parent, "job").study() == kept


def test_the_sources_come_back_in_their_order(workspace):
    sources = {"2.25.2": (Path("/b"), Path("/a")), "2.25.4": ()}
    workspace.keep_sources(sources)
    assert workspace.sources() == sources


def test_labels_come_back_voxel_for_voxel(workspace):
    labels_kji = np.random.default_rng(7).integers(0, 5, (3, 4, 5), dtype=np.uint8)
    workspace.keep_answer("task", Labels(labels_kji))
    kept_kji = labels_of(workspace.answer("task"))
    assert kept_kji.dtype == np.uint8
    np.testing.assert_array_equal(kept_kji, labels_kji)


def test_downloads_stay_until_a_later_step_drops_them(workspace):
    # The step that reads them may be killed after its last line, and runs again.
    workspace.downloads.mkdir()
    (workspace.downloads / "1.dcm").write_bytes(b"x")
    workspace.keep_study(study(workspace.folder))
    assert (workspace.downloads / "1.dcm").exists()
    workspace.drop_downloads()
    assert not workspace.downloads.exists()
    workspace.drop_downloads()


def test_a_write_that_fails_leaves_the_old_file(workspace, monkeypatch):
    workspace.keep_sources({"2.25.2": (Path("/a"),)})

    def no_room(self: Path, text: str) -> int:
        self.touch()
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(Path, "write_text", no_room)
    with pytest.raises(DiskFull):
        workspace.keep_sources({"2.25.2": (Path("/b"),)})
    assert workspace.sources() == {"2.25.2": (Path("/a"),)}
    assert [path.name for path in workspace.folder.iterdir()] == ["sources.json"]


def test_only_its_owner_may_look(workspace):
    for folder in (workspace.folder, workspace.folder.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_dropping_removes_all_of_it(workspace):
    workspace.keep_answer("task", Labels(np.zeros((1, 1, 1), dtype=np.uint8)))
    assert jobs_with_folders(workspace.folder.parent) == ["job"]
    workspace.drop()
    assert jobs_with_folders(workspace.folder.parent) == []
    assert jobs_with_folders(workspace.folder.parent / "nowhere") == []
    workspace.drop()
