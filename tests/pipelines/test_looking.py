"""The second look before the node's own models: the whole study, and the patient's others."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import dcmread

from dicom.deid import Deidentifier, Identity
from dicom.errors import IdentityLeft, PatientWithdrawn
from dicom.profile import node_profile
from pipelines.identity import Vault
from pipelines.keyring import KeyRing
from pipelines.looking import SeriesLook, study_tokens, tokens_of
from pipelines.store import Database, SealedIdentities, Trail
from tests.dicom.test_deid import as_file, slice_of_mr

KEY = bytes(range(32))
RING = KeyRing((KEY,))


# A device's own text: it stays, unless a name of the very same object stands in it.
DEVICE = "FEVERFEW 3"


@pytest.fixture
def engine() -> Deidentifier:
    return Deidentifier(node_profile(), RING.pseudonym_key())


def made(
    engine: Deidentifier, folder: Path, number: int, **attributes: str
) -> tuple[Path, Path, Identity]:
    """Return an original, what the engine made of it, and what was taken."""
    ds = slice_of_mr(SOPInstanceUID=f"1.2.826.77.1.{number}", **attributes)
    source = as_file(ds, folder / f"{number}.dcm")
    instance, identity = engine.deidentify_file(source, folder / "clean")
    return source, instance.path, identity


def test_a_name_that_a_later_file_gives_away_is_found_in_one_that_was_looked_at(
    engine: Deidentifier, tmp_path: Path
) -> None:
    look = SeriesLook(node_profile())
    first, clean, _ = made(engine, tmp_path, 1, SoftwareVersions=DEVICE)
    look.read(first)
    look.look({first: clean}, look.tokens)  # nobody is called so, as far as is known
    second, _, _ = made(engine, tmp_path, 2, ReferringPhysicianName="Feverfew^Ann")
    look.read(second)
    with pytest.raises(IdentityLeft):
        look.look({first: clean}, look.tokens)


def test_what_was_searched_for_is_not_searched_for_again(
    engine: Deidentifier, tmp_path: Path
) -> None:
    look = SeriesLook(node_profile())
    source, clean, _ = made(engine, tmp_path, 1)
    look.read(source)
    look.look({source: clean}, look.tokens)
    clean.unlink()
    look.look({source: clean}, look.tokens)  # would fail on a file that is gone


@pytest.mark.parametrize(
    ("says", "later"),
    [
        (DEVICE, {"ReferringPhysicianName": "Feverfew^Ann"}),
        ("T1 COR", {"ReferringPhysicianName": "Cor^Ann"}),  # too short for the bytes alone
        (DEVICE, {"StationName": DEVICE}),
        ("1.2.826.77.5", {"StudyInstanceUID": "1.2.826.77.5"}),
        ("20040119", {"StudyDate": "20040119"}),
    ],
    ids=["name", "short name", "identifier", "uid", "date"],
)
def test_what_a_later_file_gives_away_is_found_in_one_that_was_looked_at_ahead(
    engine: Deidentifier, tmp_path: Path, says: str, later: dict[str, str]
) -> None:
    look = SeriesLook(node_profile())
    pairs = {}
    for number in range(1, 6):
        source, pairs[source], _ = made(engine, tmp_path, number)
        look.look_ahead(source, pairs[source])
    source, clean, _ = made(engine, tmp_path, 6, SeriesDescription="T1 COR")
    pairs[source] = clean
    ds = dcmread(clean)
    ds.SeriesDescription = ds.SoftwareVersions = says  # as if the engine had kept them
    ds.save_as(clean)
    look.look_ahead(source, clean)
    look.look(pairs, look.tokens)
    look.read(made(engine, tmp_path, 7, **later)[0])
    with pytest.raises(IdentityLeft):
        look.look(pairs, look.tokens)


@pytest.fixture
def sealed(tmp_path: Path) -> SealedIdentities:
    database = Database(f"sqlite:///{tmp_path / 'vault.db'}")
    database.migrate()
    return SealedIdentities(database)


def vault(sealed: SealedIdentities, **options: object) -> Vault:
    trail = Trail(sealed._database, b"audit key")
    return Vault(RING, sealed, trail, **options)  # type: ignore[arg-type]


def test_a_word_of_another_study_of_the_patient_is_found(
    engine: Deidentifier, sealed: SealedIdentities, tmp_path: Path
) -> None:
    one = vault(sealed)
    _, _, older = made(
        engine, tmp_path, 1, StudyInstanceUID="1.2.826.77.9", ReferringPhysicianName="Feverfew^Ann"
    )
    one.seal(older)
    _, _, stranger = made(
        engine, tmp_path, 3, StudyInstanceUID="1.2.826.77.8", PatientID="ANOTHER-1"
    )
    one.seal(stranger)
    source, clean, identity = made(engine, tmp_path, 2, SoftwareVersions=DEVICE)
    look = SeriesLook(node_profile())
    look.read(source)
    look.look({source: clean}, study_tokens([look], []) | look.tokens)
    others = one.others_of(identity, actor="worker", reason="second look")
    assert [each.study_pseudonym for each in others] == [older.study_pseudonym]
    assert "feverfew" in tokens_of(others[0], node_profile()).words
    assert "1.2.826.77.9" in tokens_of(others[0], node_profile()).uids
    with pytest.raises(IdentityLeft):
        look.look({source: clean}, study_tokens([look], others) | look.tokens)


def test_a_reports_own_text_may_stand_in_an_image_and_a_name_in_it_may_not(
    engine: Deidentifier, tmp_path: Path
) -> None:
    image, report = SeriesLook(node_profile()), SeriesLook(node_profile())
    source, clean, _ = made(engine, tmp_path, 1, SoftwareVersions=DEVICE)
    image.read(source)
    other, _, _ = made(engine, tmp_path, 2, StationName=DEVICE)
    report.read(other)
    assert DEVICE.lower() in report.tokens.identifiers
    image.look({source: clean}, study_tokens([image, report], []) | image.tokens)
    third, _, _ = made(engine, tmp_path, 3, ReferringPhysicianName="Feverfew^Ann")
    report.read(third)
    with pytest.raises(IdentityLeft):
        image.look({source: clean}, study_tokens([image, report], []) | image.tokens)


def test_patients_without_an_id_are_not_one_patient(
    engine: Deidentifier, sealed: SealedIdentities, tmp_path: Path
) -> None:
    one = vault(sealed)
    _, _, first = made(engine, tmp_path, 1, PatientID="", StudyInstanceUID="1.2.826.77.9")
    _, _, second = made(engine, tmp_path, 2, PatientID="")
    one.seal(first)
    assert one.others_of(second, actor="worker", reason="second look") == []


def test_nothing_is_sealed_for_a_project_once_the_patient_has_withdrawn(
    engine: Deidentifier, sealed: SealedIdentities, tmp_path: Path
) -> None:
    _, _, identity = made(engine, tmp_path, 1)
    gone = {vault(sealed, project="stroke").patient_of(identity)}
    stroke = vault(
        sealed, project="stroke", is_withdrawn=lambda patients: not gone.isdisjoint(patients)
    )
    with pytest.raises(PatientWithdrawn):
        stroke.seal(identity)
    assert not sealed.any()
    vault(sealed).seal(identity)  # the node's own care goes on
