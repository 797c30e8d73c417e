"""Bundles are found by name and version; a broken one is listed and hides no other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dicom.errors import (
    ChangedBundle,
    InvalidBundle,
    InvalidSettings,
    UnknownBundle,
    WithdrawnBundle,
)
from models.registry import Registry, Standing
from tests.bundles import write_threshold_bundle


def test_the_newest_version_answers_to_the_name(tmp_path: Path) -> None:
    for version in ("0.9.0", "0.10.0", "0.10.0-rc1"):
        write_threshold_bundle(tmp_path, f"head@{version}", version)
    registry = Registry([tmp_path])
    assert registry.get("head").version == "0.10.0"
    assert registry.get("head@0.9.0").version == "0.9.0"
    assert [bundle.version for bundle in registry.bundles] == ["0.9.0", "0.10.0-rc1", "0.10.0"]


def test_several_folders_are_read(tmp_path: Path) -> None:
    write_threshold_bundle(tmp_path / "shipped", "head")
    write_threshold_bundle(tmp_path / "site", "liver")
    registry = Registry([tmp_path / "shipped", tmp_path / "site"])
    assert [bundle.name for bundle in registry.bundles] == ["head", "liver"]


@pytest.mark.parametrize("name", ["liver", "head@9.9.9", "", "head@", "../head"])
def test_an_unknown_name_is_refused_with_what_there_is(tmp_path: Path, name: str) -> None:
    write_threshold_bundle(tmp_path, "head")
    with pytest.raises(UnknownBundle, match=r"head@0\.1\.0"):
        Registry([tmp_path]).get(name)


def test_a_broken_bundle_is_listed_and_hides_no_other(tmp_path: Path) -> None:
    write_threshold_bundle(tmp_path, "head")
    broken = write_threshold_bundle(tmp_path, "liver")
    (broken / "models/model.pt").unlink()
    registry = Registry([tmp_path])
    assert [bundle.name for bundle in registry.bundles] == ["head"]
    (listed,) = registry.broken
    assert listed.root == broken
    assert "models/model.pt" in listed.error.message
    with pytest.raises(InvalidBundle, match=r"models/model\.pt"):
        registry.get("liver")


def test_one_identity_is_one_model(tmp_path: Path) -> None:
    write_threshold_bundle(tmp_path / "shipped", "head", threshold=100)
    write_threshold_bundle(tmp_path / "copy", "head", threshold=100)
    write_threshold_bundle(tmp_path / "site", "head", threshold=200)
    same = Registry([tmp_path / "shipped", tmp_path / "copy"])
    assert len(same.bundles) == 1
    assert same.broken == ()
    other = Registry([tmp_path / "shipped", tmp_path / "site"])
    assert other.get("head").root.parent.name == "shipped"
    assert "another head@0.1.0" in other.broken[0].error.message


def _titled(folder: Path, name: str, version: str, title: str) -> None:
    root = write_threshold_bundle(folder, f"{name}@{version}", version)
    path = root / "configs/metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "name": title}))


def test_a_model_has_one_name_for_people(tmp_path: Path) -> None:
    _titled(tmp_path, "mr_brain", "0.1.0", "Brain on head MR")
    _titled(tmp_path, "mr_brain", "0.2.0", "mr_brain")  # as one that was learnt here
    _titled(tmp_path, "ct_liver", "1.0.0", "Organe, größer")
    registry = Registry([tmp_path])
    assert registry.title_of("mr_brain@0.1.0") == "Brain on head MR 0.1.0"
    assert registry.title_of("mr_brain@0.2.0") == "Brain on head MR 0.2.0"
    assert registry.title_of("gone@3.0.0") == "gone 3.0.0"
    assert registry.name_in_dicom("mr_brain@0.1.0") == "Brain on head MR 0.1.0"
    assert registry.name_in_dicom("ct_liver@1.0.0") == "ct_liver 1.0.0"  # PS3.5 6.1.2: ISO 646
    assert registry.name_in_dicom("gone@3.0.0") == "gone 3.0.0"
    _titled(tmp_path, "other", "0.1.0", "Brain on head MR")  # installed while the registry stands
    assert registry.title_of("other@0.1.0") == "Brain on head MR 0.1.0 (other)"
    assert registry.title_of("mr_brain@0.1.0") == "Brain on head MR 0.1.0 (mr_brain)"


def test_a_folder_that_is_not_there_is_a_wrong_setting(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="nowhere"):
        Registry([tmp_path / "nowhere"])


def test_what_was_decided_about_versions_says_which_are_offered(tmp_path: Path) -> None:
    """Names are told apart by what happened to them."""
    for name, version in (
        ("candidate", "1.0"),  # the current one is older
        ("candidate", "2.0"),
        ("changed", "1.0"),
        ("new", "1.0"),  # nothing was decided
        ("stopped", "1.0"),  # the current one was withdrawn
        ("stopped", "2.0"),
    ):
        write_threshold_bundle(tmp_path, f"{name}@{version}.0", f"{version}.0")
    standing = Standing(
        current={"candidate": "candidate@1.0.0", "changed": "changed@1.0.0"},
        passed_over=frozenset({"candidate@2.0.0"}),
        withdrawn=frozenset({"stopped@2.0.0"}),
        stopped=frozenset({"stopped"}),
        signed={"changed@1.0.0": "0" * 64},
    )
    registry = Registry([tmp_path], standing=lambda: standing)
    taken = [bundle.identity for bundle in registry.taken()]
    assert taken == ["candidate@1.0.0", "new@1.0.0"]
    allowed = {bundle.identity for bundle in registry.allowed()}
    assert allowed == {*taken, "candidate@2.0.0", "stopped@1.0.0"}
    for bundle in registry.bundles:
        if bundle.identity in allowed:
            assert registry.get(bundle.identity) is bundle
    for name in ("stopped", "stopped@2.0.0"):
        assert registry.installed(name).identity == "stopped@2.0.0"  # its card is still read
    with pytest.raises(UnknownBundle):
        registry.installed("nothing")
    for name, error in (
        ("changed", ChangedBundle),
        ("stopped", WithdrawnBundle),
        ("stopped@2.0.0", WithdrawnBundle),
    ):
        with pytest.raises(error):
            registry.get(name)
