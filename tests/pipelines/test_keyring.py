"""The master keys: made once, for their owner only; never made up beside what they sealed."""

import multiprocessing
import stat
from pathlib import Path

import pytest

from dicom.errors import VaultLocked
from pipelines.keyring import KeyRing

MASTER = bytes(range(32))


def test_keys_of_different_purpose_differ():
    ring = KeyRing((MASTER, bytes(32)))
    keys = {MASTER, bytes(32), *ring.vault_keys(), *ring.vault_keys("stroke")}
    keys |= {ring.pseudonym_key(), ring.pseudonym_key("stroke")}
    assert len(keys) == 8
    assert {len(key) for key in keys} == {32}


def test_pseudonyms_come_from_the_first_key_for_ever():
    assert KeyRing((MASTER, bytes(32))).pseudonym_key() == KeyRing((MASTER,)).pseudonym_key()


def test_a_ring_does_not_show_its_keys():
    assert "masters" not in repr(KeyRing((MASTER,)))


def test_the_master_key_is_made_once_and_for_its_owner_only(tmp_path):
    path = tmp_path / "secrets" / "master.key"
    key = KeyRing.open(path, may_create=True).masters
    assert [len(master) for master in key] == [32]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert KeyRing.open(path, may_create=True).masters == key
    assert KeyRing.open(path, may_create=False).masters == key
    assert [entry.name for entry in path.parent.iterdir()] == ["master.key"]


def test_no_key_is_made_up_beside_sealed_rows(tmp_path):
    path = tmp_path / "master.key"
    with pytest.raises(VaultLocked):
        KeyRing.open(path, may_create=False)
    assert not path.exists()


@pytest.mark.parametrize("content", [b"", b"short", bytes(33)])
def test_a_damaged_key_is_not_used_and_not_replaced(tmp_path, content):
    path = tmp_path / "master.key"
    path.write_bytes(content)
    with pytest.raises(VaultLocked):
        KeyRing.open(path, may_create=True)
    assert path.read_bytes() == content


def _make(path: Path, results: "multiprocessing.SimpleQueue[bytes]") -> None:
    results.put(KeyRing.open(path, may_create=True).masters[0])


def test_two_processes_that_start_together_get_one_key(tmp_path):
    path = tmp_path / "secrets" / "master.key"
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    children = [context.Process(target=_make, args=(path, results)) for _ in range(4)]
    for child in children:
        child.start()
    keys = {results.get() for _ in children}
    for child in children:
        child.join()
    assert keys == {path.read_bytes()}


def test_a_rotation_adds_a_key_and_keeps_the_others(tmp_path):
    path = tmp_path / "master.key"
    ring = KeyRing.open(path, may_create=True)
    grown = ring.with_new_master()
    assert grown.masters[:1] == ring.masters
    assert len(grown.masters) == 2
    assert KeyRing.open(path, may_create=False) == grown
    assert ring.reread() == grown
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["master.key"]


def test_two_rotations_at_once_do_not_lose_a_key(tmp_path):
    ring = KeyRing.open(tmp_path / "master.key", may_create=True)
    grown = ring.with_new_master()
    with pytest.raises(VaultLocked):
        ring.with_new_master()
    assert ring.reread() == grown
