"""Commands that look into the node's own rows: the vault and the audit trail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
import structlog
from typer.testing import CliRunner, Result

from dicom.deid import Identity
from dicom.errors import AuditBroken, NotFound
from node import wiring
from node.cli import app
from node.keys import open_secrets
from node.settings import Settings, load_settings
from pipelines.identity import Vault
from pipelines.store import Database, SealedIdentities, Trail

STUDY = "2.25.77"
IDENTITY = Identity(
    STUDY,
    {STUDY: "1.2.840.77"},
    {
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane"}]},
        "00100020": {"vr": "LO", "Value": ["MRN-17"]},
    },
)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return the settings of a node that has sealed one identity."""
    monkeypatch.chdir(tmp_path)
    settings = load_settings()
    settings.data.mkdir()
    secrets = open_secrets(settings)
    database = Database(wiring.database_url(settings))
    database.migrate()
    trail = Trail(database, secrets.audit_key)
    ring = wiring.key_ring(secrets, database)
    Vault(ring, SealedIdentities(database), trail).seal(IDENTITY)
    database.close()
    return settings


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """Undo that a command writes the log to its own standard error, which closes after it."""
    yield
    structlog.reset_defaults()


def radloop(*words: str) -> Result:
    return CliRunner().invoke(app, words)


def test_a_look_into_the_vault_shows_the_patient_and_is_on_the_trail(settings: Settings):
    shown = radloop("vault", "show", STUDY, "--reason", "incidental finding")
    assert shown.exit_code == 0
    assert "PatientID: MRN-17" in shown.stdout
    assert "StudyInstanceUID: 1.2.840.77" in shown.stdout
    listed = radloop("audit", "list").stdout
    assert "identity.unseal" in listed
    assert "MRN-17" not in listed


def test_the_vault_wants_a_reason_and_knows_its_studies_only(settings: Settings):
    assert radloop("vault", "show", STUDY).exit_code == 2
    assert "MRN-17" not in radloop("vault", "show", STUDY, "--reason", " ").output
    assert isinstance(radloop("vault", "show", "2.25.78", "--reason", "why").exception, NotFound)


def test_a_rotation_can_be_repeated_and_everything_still_opens(settings: Settings):
    key = open_secrets(settings).master_key
    for keys in (2, 3):
        assert radloop("vault", "rotate").exit_code == 0
        assert len(key.read_bytes()) == 32 * keys
    shown = radloop("vault", "show", STUDY, "--reason", "check")
    assert "PatientID: MRN-17" in shown.stdout
    resumed = radloop("vault", "rotate", "--resume")
    assert "0 identities" in resumed.output


def test_the_audit_trail_is_verified_from_the_shell(settings: Settings):
    radloop("vault", "show", STUDY, "--reason", "first")
    noted = radloop("audit", "verify")
    assert noted.exit_code == 0
    seal = noted.stdout.split()[-1]
    assert seal.startswith("1:")
    radloop("vault", "show", STUDY, "--reason", "second")
    assert radloop("audit", "verify", "--expect", seal).exit_code == 0
    database = Database(wiring.database_url(settings))
    with database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE audit_event SET actor = 'nobody' WHERE number = 2"))
    database.close()
    assert isinstance(radloop("audit", "verify").exception, AuditBroken)
    assert radloop("audit", "verify", "--expect", "rubbish").exception is not None


@pytest.mark.parametrize(
    "words",
    [
        ("audit", "verify"),
        ("audit", "list"),
        ("vault", "show", STUDY, "--reason", "a question"),
        ("vault", "rotate"),
    ],
)
def test_where_no_node_works_nothing_is_said_to_be_in_order(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a wrong folder an empty trail would look like a whole one."""
    monkeypatch.chdir(tmp_path)
    done = radloop(*words)
    assert isinstance(done.exception, NotFound)
    assert not (tmp_path / ".radloop" / "radloop.db").exists()
