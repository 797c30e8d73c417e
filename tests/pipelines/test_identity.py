"""The vault: what is sealed comes back whole, to those with key and reason; else never."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from dicom.deid import Identity
from dicom.errors import CannotDeidentify, NotFound, VaultLocked
from pipelines.identity import SealedRow, Vault
from pipelines.keyring import KeyRing
from pipelines.store import Database, SealedIdentities, Trail

MASTER = bytes(range(32))
RING = KeyRing((MASTER,))
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

    rows: dict[str, SealedRow] = field(default_factory=dict)
    trail: list[tuple[str, str, str, str]] = field(default_factory=list)

    def put_sealed(self, row: SealedRow, *, in_place_of: bytes | None) -> bool:
        there = self.rows.get(row.study_id)
        if (there.sealed if there else None) != in_place_of:
            return False
        self.rows[row.study_id] = row
        return True

    def get_sealed(self, study_id: str) -> SealedRow | None:
        return self.rows.get(study_id)

    def every_sealed(self) -> Iterator[SealedRow]:
        yield from [self.rows[study] for study in sorted(self.rows)]

    def swap(self, study_id: str, sealed: bytes) -> None:
        """Write bytes as somebody does who has the database only."""
        self.rows[study_id] = replace(self.rows[study_id], sealed=sealed)

    def note(
        self, *, actor: str, action: str, object: str = "", outcome: str = "ok", reason: str = ""
    ) -> None:
        self.trail.append((actor, action, object, reason))


@pytest.fixture
def store() -> InMemory:
    return InMemory()


@pytest.fixture
def vault(store: InMemory) -> Vault:
    return Vault(RING, store, store)


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
    vault = Vault(RING, InMemory(), InMemory())
    identity = Identity(STUDY, uids, IDENTITY.attributes)
    vault.seal(identity)
    assert unseal(vault) == identity


def test_nothing_readable_is_stored(vault, store):
    vault.seal(IDENTITY)
    sealed = store.rows[STUDY].sealed
    for secret in (b"MRN-17", b"1.2.3.4", "Müller".encode(), "Müller".encode("latin-1"), b"00100"):
        assert secret not in sealed


def test_one_identity_sealed_twice_does_not_look_the_same(vault, store):
    vault.seal(IDENTITY)
    first = store.rows[STUDY].sealed
    vault.seal(IDENTITY)
    assert store.rows[STUDY].sealed != first
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
    store.swap(STUDY, b"broken")
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
    sealed = store.rows[STUDY].sealed
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1
        store.swap(STUDY, bytes(changed))
        with pytest.raises(VaultLocked):
            unseal(vault)
    for length in range(len(sealed)):
        store.swap(STUDY, sealed[:length])
        with pytest.raises(VaultLocked):
            unseal(vault)


def test_a_row_moved_to_another_study_stays_locked(vault, store):
    vault.seal(IDENTITY)
    store.rows["2.25.5"] = replace(store.rows[STUDY], study_id="2.25.5")
    with pytest.raises(VaultLocked):
        unseal(vault, "2.25.5")


def test_another_key_opens_nothing_and_overwrites_nothing(vault, store):
    vault.seal(IDENTITY)
    stranger = Vault(KeyRing((bytes(32),)), store, store)
    with pytest.raises(VaultLocked):
        unseal(stranger)
    with pytest.raises(VaultLocked):
        stranger.seal(IDENTITY)
    assert unseal(vault) == IDENTITY


def test_two_workers_that_seal_one_study_lose_nothing(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'radloop.db'}")
    database.migrate()
    many = [replace(IDENTITY, uids={f"2.25.{n}": f"1.2.{n}"}) for n in range(24)]
    rows, trail = SealedIdentities(database), Trail(database, b"key")
    workers = [Vault(RING, rows, trail) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: workers[n % 4].seal(many[n]), range(24)))
    assert set(unseal(workers[0]).uids) == {f"2.25.{n}" for n in range(24)}
    database.close()


# --- projects -------------------------------------------------------------------------------------


def test_projects_open_their_own_only(vault, store):
    stroke = Vault(RING, store, store, project="stroke")
    vault.seal(IDENTITY)
    with pytest.raises(NotFound):
        unseal(stroke)
    store.rows[STUDY] = replace(store.rows[STUDY], project="stroke")
    with pytest.raises(VaultLocked):  # a row that was moved over has the wrong key
        unseal(stroke)


def test_a_patient_has_one_pseudonym_in_a_project_and_another_elsewhere(store):
    patients = {}
    for project in ("stroke", "liver"):
        vault = Vault(RING, store, store, project=project)
        for number in range(2):
            study = f"2.25.{project == 'liver':d}{number}"
            vault.seal(replace(IDENTITY, study_pseudonym=study))
            patients.setdefault(project, set()).add(store.rows[study].patient)
    assert {len(found) for found in patients.values()} == {1}
    assert patients["stroke"] != patients["liver"]
    assert not any("MRN" in row.patient for row in store.rows.values())


# --- rotation -------------------------------------------------------------------------------------


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing.open(tmp_path / "master.key", may_create=True)


def test_a_rotation_seals_every_row_anew_and_changes_no_pseudonym(ring, store):
    before = Vault(ring, store, store)
    for number in range(5):
        before.seal(replace(IDENTITY, study_pseudonym=f"2.25.{number}"))
    patients = {row.patient for row in store.rows.values()}
    grown = ring.with_new_master()
    after = Vault(grown, store, store)
    assert unseal(after, "2.25.3").uids == IDENTITY.uids  # before it is sealed anew, too
    assert after.reseal() == 5
    assert after.reseal() == 0
    assert {row.patient for row in store.rows.values()} == patients
    newest_only = Vault(KeyRing(grown.masters[-1:]), store, store)
    assert unseal(newest_only, "2.25.3").uids == IDENTITY.uids
    with pytest.raises(VaultLocked):
        unseal(Vault(KeyRing(ring.masters), store, store), "2.25.3")


def test_a_running_process_reads_the_grown_ring_by_itself(ring, store):
    running = Vault(ring, store, store)
    running.seal(IDENTITY)
    Vault(ring.with_new_master(), store, store).reseal()
    assert unseal(running) == IDENTITY
    running.seal(replace(IDENTITY, uids={"2.25.8": "1.2.8"}))
    assert len(unseal(running).uids) == 3


def test_a_rotation_that_was_stopped_goes_on(ring, store):
    vault = Vault(ring, store, store)
    for number in range(4):
        vault.seal(replace(IDENTITY, study_pseudonym=f"2.25.{number}"))
    grown = Vault(ring.with_new_master(), store, store)
    whole = store.rows["2.25.2"].sealed
    store.swap("2.25.2", whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(VaultLocked):
        grown.reseal()
    store.swap("2.25.2", whole)
    assert grown.reseal() == 2


def test_rows_from_before_projects_get_their_patient(vault, store):
    vault.seal(IDENTITY)
    patient = store.rows[STUDY].patient
    store.rows[STUDY] = replace(store.rows[STUDY], patient="")
    assert vault.reseal() == 1
    assert store.rows[STUDY].patient == patient != ""
