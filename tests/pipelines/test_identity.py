"""The vault: what is sealed comes back whole, to those with key and reason; else never."""

import multiprocessing
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from dicom.deid import Identity
from dicom.errors import CannotDeidentify, NotFound, VaultLocked
from pipelines.identity import (
    Vault,
    load_or_create_master_key,
    pseudonym_key,
    vault_key,
)
from pipelines.store import Access, Database, Trail

MASTER = bytes(range(32))
STUDY = "2.25.1234"
IDENTITY = Identity(
    STUDY,
    {STUDY: "1.2.3", "2.25.99": "1.2.3.4"},
    {
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Müller^Jürgen", "Ideographic": "山田"}]},
        "00100020": {"vr": "LO", "Value": ["MRN-17"]},
        "00101030": {"vr": "DS", "Value": [81.5]},
    },
)


@dataclass
class InMemory:
    """A dict that keeps rows as the database does; the database's own store has its tests."""

    rows: dict[str, bytes] = field(default_factory=dict)
    trail: list[tuple[str, str, str, str]] = field(default_factory=list)

    def put_sealed(self, study_id: str, sealed: bytes, *, in_place_of: bytes | None) -> bool:
        if self.rows.get(study_id) != in_place_of:
            return False
        self.rows[study_id] = sealed
        return True

    def get_sealed(self, study_id: str) -> bytes | None:
        return self.rows.get(study_id)

    def note(
        self, *, actor: str, action: str, object: str = "", outcome: str = "ok", reason: str = ""
    ) -> None:
        self.trail.append((actor, action, object, reason))


@pytest.fixture
def store() -> InMemory:
    return InMemory()


@pytest.fixture
def vault(store: InMemory) -> Vault:
    return Vault(vault_key(MASTER), store, store)


def unseal(vault: Vault, study: str = STUDY) -> Identity:
    return vault.unseal(study, actor="worker", reason="test")


def test_an_identity_comes_back_whole(vault):
    vault.seal(IDENTITY)
    assert unseal(vault) == IDENTITY
    assert (
        str(Dataset.from_json(dict(unseal(vault).attributes)).PatientName) == "Müller^Jürgen=山田"
    )


@given(
    st.dictionaries(st.from_regex(r"2\.25\.[1-9]\d{0,37}", fullmatch=True), st.text(max_size=64)),
)
def test_any_map_of_uids_comes_back_whole(uids):
    vault = Vault(vault_key(MASTER), InMemory(), InMemory())
    identity = Identity(STUDY, uids, IDENTITY.attributes)
    vault.seal(identity)
    assert unseal(vault) == identity


def test_nothing_readable_is_stored(vault, store):
    vault.seal(IDENTITY)
    sealed = store.rows[STUDY]
    for secret in (b"MRN-17", b"1.2.3.4", "Müller".encode(), "Müller".encode("latin-1"), b"00100"):
        assert secret not in sealed


def test_one_identity_sealed_twice_does_not_look_the_same(vault, store):
    vault.seal(IDENTITY)
    first = store.rows[STUDY]
    vault.seal(IDENTITY)
    assert store.rows[STUDY] != first
    assert unseal(vault) == IDENTITY


def test_what_arrives_later_is_added(vault):
    vault.seal(IDENTITY)
    late = Identity(STUDY, {"2.25.7": "1.2.9"}, IDENTITY.attributes)
    vault.seal(late)
    assert unseal(vault).uids == {**IDENTITY.uids, "2.25.7": "1.2.9"}


@pytest.mark.parametrize(
    "other",
    [
        Identity(STUDY, {"2.25.99": "1.2.3.5"}, IDENTITY.attributes),
        Identity(STUDY, {}, {"00100020": {"vr": "LO", "Value": ["MRN-18"]}}),
        Identity(STUDY, {}, {}),
    ],
    ids=["another original", "another patient", "no patient"],
)
def test_a_contradiction_is_refused_and_changes_nothing(vault, other):
    vault.seal(IDENTITY)
    with pytest.raises(CannotDeidentify):
        vault.seal(other)
    assert unseal(vault) == IDENTITY


def test_each_opening_is_audited_before_it_happens(vault, store):
    vault.seal(IDENTITY)
    assert store.trail == []
    vault.unseal(STUDY, actor="dr. who", reason="recall")
    assert store.trail == [("dr. who", "identity.unseal", STUDY, "recall")]
    store.rows[STUDY] = b"broken"
    with pytest.raises(VaultLocked):
        vault.unseal(STUDY, actor="mallory", reason="curiosity")
    with pytest.raises(NotFound):
        vault.unseal("2.25.5", actor="mallory", reason="curiosity")
    assert [event[0] for event in store.trail] == ["dr. who", "mallory", "mallory"]


@pytest.mark.parametrize(("actor", "reason"), [("", "why"), ("who", " ")])
def test_nobody_opens_without_name_and_reason(vault, store, actor, reason):
    vault.seal(IDENTITY)
    with pytest.raises(ValueError, match="named actor"):
        vault.unseal(STUDY, actor=actor, reason=reason)
    assert store.trail == []


def test_a_change_of_any_byte_locks_the_row(vault, store):
    vault.seal(IDENTITY)
    sealed = store.rows[STUDY]
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1
        store.rows[STUDY] = bytes(changed)
        with pytest.raises(VaultLocked):
            unseal(vault)
    for length in range(len(sealed)):
        store.rows[STUDY] = sealed[:length]
        with pytest.raises(VaultLocked):
            unseal(vault)


def test_a_row_moved_to_another_study_stays_locked(vault, store):
    vault.seal(IDENTITY)
    store.rows["2.25.5"] = store.rows[STUDY]
    with pytest.raises(VaultLocked):
        unseal(vault, "2.25.5")


def test_another_key_opens_nothing_and_overwrites_nothing(vault, store):
    vault.seal(IDENTITY)
    stranger = Vault(vault_key(bytes(32)), store, store)
    with pytest.raises(VaultLocked):
        unseal(stranger)
    with pytest.raises(VaultLocked):
        stranger.seal(IDENTITY)
    assert unseal(vault) == IDENTITY


# --- keys -----------------------------------------------------------------------------------------


def test_keys_of_different_purpose_differ():
    keys = {MASTER, vault_key(MASTER), pseudonym_key(MASTER), pseudonym_key(MASTER, "stroke")}
    assert len(keys) == 4
    assert {len(key) for key in keys} == {32}


def test_the_master_key_is_made_once_and_for_its_owner_only(tmp_path):
    path = tmp_path / "secrets" / "master.key"
    key = load_or_create_master_key(path, may_create=True)
    assert len(key) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert load_or_create_master_key(path, may_create=True) == key
    assert load_or_create_master_key(path, may_create=False) == key
    assert [entry.name for entry in path.parent.iterdir()] == ["master.key"]


def test_no_key_is_made_up_beside_sealed_rows(tmp_path):
    path = tmp_path / "master.key"
    with pytest.raises(VaultLocked):
        load_or_create_master_key(path, may_create=False)
    assert not path.exists()


@pytest.mark.parametrize("content", [b"", b"short", bytes(33)])
def test_a_damaged_key_is_not_used_and_not_replaced(tmp_path, content):
    path = tmp_path / "master.key"
    path.write_bytes(content)
    with pytest.raises(VaultLocked):
        load_or_create_master_key(path, may_create=True)
    assert path.read_bytes() == content


def _make(path: Path, results: "multiprocessing.SimpleQueue[bytes]") -> None:
    results.put(load_or_create_master_key(path, may_create=True))


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


def test_two_workers_that_seal_one_study_lose_nothing(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'radloop.db'}")
    database.migrate()
    many = [replace(IDENTITY, uids={f"2.25.{n}": f"1.2.{n}"}) for n in range(24)]
    access, trail = Access(database), Trail(database, b"key")
    workers = [Vault(vault_key(MASTER), access, trail) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: workers[n % 4].seal(many[n]), range(24)))
    assert set(unseal(workers[0]).uids) == {f"2.25.{n}" for n in range(24)}
    database.close()
