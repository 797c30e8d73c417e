"""From settings to places, archives, peers and keys: what every process of the node needs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

from dicom.archive import Archive
from dicom.dimse import DicomTls, Peer
from dicom.errors import InvalidSettings
from dicom.seg import Form
from dicom.uids import pseudonym_uid
from models.registry import SHIPPED, Registry
from node.keys import Secrets, open_secrets
from node.orthanc import Bell, DicomListener, KnownPeer, OrthancConfig, Permission
from node.settings import Settings
from pipelines.corrections import Desk, Elsewhere
from pipelines.drawer import Drawer
from pipelines.keyring import KeyRing
from pipelines.launching import Slurm
from pipelines.learning import Material, Means, Policy, QuietHours, School
from pipelines.learning.tracking import Tracker
from pipelines.reading import ReadingRoom
from pipelines.store import (
    Corrections,
    Database,
    Drafts,
    ElsewhereObjects,
    Jobs,
    LauncherName,
    SealedIdentities,
    Studies,
    Withdrawals,
)

VERSION = version("radloop")

_OURSELVES = "radloop"
_SENDER: frozenset[Permission] = frozenset({"echo", "store", "find", "get", "move", "commit"})


# --- places -------------------------------------------------------------------------------------


def database_url(settings: Settings) -> str:
    """Return where the rows live."""
    return settings.database.url or f"sqlite:///{(settings.data / 'radloop.db').resolve()}"


def engine_url(settings: Settings) -> str:
    """Return where the durable engine keeps its own state."""
    if settings.database.engine_url:
        return settings.database.engine_url
    if settings.database.url:
        return settings.database.url  # PostgreSQL: a schema of its own in the same database
    return f"sqlite:///{(settings.data / 'engine.db').resolve()}"


def bundle_folders(settings: Settings) -> tuple[Path, ...]:
    """Return the folders of bundles: a site's own first, then those that it imported."""
    imported = imported_bundles(settings)
    return (*settings.models.folders, *([imported] if imported.is_dir() else []), SHIPPED)


def imported_bundles(settings: Settings) -> Path:
    """Return where `radloop models import` puts bundles; it may not be there yet."""
    return (settings.data / "bundles").resolve()


def datasets_folder(settings: Settings) -> Path:
    """Return where datasets are; it may not be there yet."""
    return (settings.data / "datasets").resolve()


def runs_folder(settings: Settings) -> Path:
    """Return where trainings keep their checkpoints; it may not be there yet."""
    return (settings.data / "trainings").resolve()


def prepared_folder(settings: Settings) -> Path:
    """Return where cases are kept as networks see them: made again where it is deleted."""
    return (settings.data / "prepared").resolve()


def exports_folder(settings: Settings) -> Path:
    """Return where datasets for others are written and downloaded from."""
    return (settings.data / "exports").resolve()


def ohif_folder(settings: Settings) -> Path:
    """Return the folder of OHIF's files."""
    return settings.front.ohif or _root() / ".ohif" / "dist"


def ohif_config_folder() -> Path:
    """Return the folder of our configuration of OHIF."""
    return _root() / "ohif-config"


def _root() -> Path:
    return Path(__file__).parents[1]


# --- archives and peers -------------------------------------------------------------------------


def peers(settings: Settings) -> Mapping[str, Peer]:
    """Return the peers by name."""
    tls = _tls(settings)
    return {
        peer.name: Peer(name=peer.name, host=peer.host, port=peer.port, aet=peer.aet, tls=tls)
        for peer in settings.peer
    }


def ourselves(settings: Settings) -> Peer:
    """Return the clinical archive as a sender on this machine sees it."""
    return Peer(
        name=_OURSELVES,
        host="127.0.0.1",
        port=settings.dicom.port,
        aet=settings.dicom.aet,
        tls=_tls(settings),
    )


def clinical_config(settings: Settings, secrets: Secrets | None = None) -> OrthancConfig:
    """Return the configuration of the clinical archive."""
    known = secrets or open_secrets(settings)
    may_call = {
        name: KnownPeer(peer, _SENDER)
        for name, peer in peers(settings).items()
        if next(p for p in settings.peer if p.name == name).may_send
    }
    if not settings.orthanc.clinical_url:
        # `radloop send` on the archive's machine calls under our own AE title.
        sender = KnownPeer(ourselves(settings), frozenset({"echo", "store"}))
        may_call.setdefault(_OURSELVES, sender)
    return OrthancConfig(
        name="radloop-clinical",
        home=(settings.data / "orthanc-clinical").resolve(),
        http_port=settings.orthanc.clinical_port,
        user=settings.orthanc.user,
        password=known.clinical_password,
        listener=DicomListener(
            port=settings.dicom.port,
            aet=settings.dicom.aet,
            peers=tuple(may_call.values()),
            check_hosts=settings.dicom.check_host,
            tls=_tls(settings),
        ),
        bell=Bell(url=wake_url(settings), token=known.wake_token),
        plugin_folders=settings.orthanc.plugins,
    )


def research_config(settings: Settings, secrets: Secrets | None = None) -> OrthancConfig:
    """Return the configuration of the research archive: no DICOM port, no plugin of ours."""
    known = secrets or open_secrets(settings)
    return OrthancConfig(
        name="radloop-research",
        home=(settings.data / "orthanc-research").resolve(),
        http_port=settings.orthanc.research_port,
        user=settings.orthanc.user,
        password=known.research_password,
        plugin_folders=settings.orthanc.plugins,
    )


def clinical_archive(settings: Settings, secrets: Secrets) -> Archive:
    """Return the clinical archive; its files are read in place where we started it."""
    if settings.orthanc.clinical_url:
        return Archive(
            settings.orthanc.clinical_url, settings.orthanc.user, secrets.clinical_password
        )
    config = clinical_config(settings, secrets)
    return Archive(config.url, config.user, config.password, storage=config.storage)


def research_archive(settings: Settings, secrets: Secrets) -> Archive:
    """Return the research archive; its files are read in place where we started it."""
    if settings.orthanc.research_url:
        return Archive(
            settings.orthanc.research_url, settings.orthanc.user, secrets.research_password
        )
    config = research_config(settings, secrets)
    return Archive(config.url, config.user, config.password, storage=config.storage)


def clinical_root(settings: Settings, secrets: Secrets) -> str:
    """Return the address of the clinical archive's REST API."""
    return settings.orthanc.clinical_url or clinical_config(settings, secrets).url


def research_root(settings: Settings, secrets: Secrets) -> str:
    """Return the address of the research archive's REST API."""
    return settings.orthanc.research_url or research_config(settings, secrets).url


def wake_url(settings: Settings) -> str:
    """Return where the worker listens for a ring."""
    worker = settings.worker
    return worker.wake_url or f"http://{worker.host}:{worker.port}/wake"


def _tls(settings: Settings) -> DicomTls | None:
    files = (
        settings.dicom.tls_certificate,
        settings.dicom.tls_key,
        settings.dicom.tls_trusted,
    )
    if files == (None, None, None):
        return None
    certificate, key, trusted = files
    if certificate is None or key is None or trusted is None:
        raise InvalidSettings("dicom.tls_certificate, tls_key and tls_trusted go together")
    return DicomTls(certificate=certificate, key=key, trusted=trusted)


# --- corrections --------------------------------------------------------------------------------


def correction_desk(
    settings: Settings, secrets: Secrets, database: Database, clinical: Archive, models: Registry
) -> Desk:
    """Return the desk that keeps drafts and stores corrections."""
    return Desk(
        clinical,
        Studies(database),
        Corrections(database),
        Drafts(database),
        Drawer(secrets.audit_key),
        form=Form(settings.corrections.segmentation_type),
        name_in_dicom=models.name_in_dicom,
    )


def reading_room(
    settings: Settings, secrets: Secrets, database: Database, clinical: Archive, desk: Desk
) -> ReadingRoom:
    """Return what readers share."""
    return ReadingRoom(
        database,
        clinical,
        desk.grids,
        Drawer(secrets.audit_key),
        lease=timedelta(minutes=settings.worklist.lease_minutes),
        tolerance_mm=settings.corrections.tolerance_mm,
    )


def elsewhere(database: Database, clinical: Archive, desk: Desk) -> Elsewhere:
    """Return what knows of objects that other systems drew."""
    return Elsewhere(
        clinical,
        Studies(database),
        Jobs(database),
        Corrections(database),
        ElsewhereObjects(database),
        desk.grids,
        desk.verdicts,
    )


# --- models -------------------------------------------------------------------------------------


def school(settings: Settings, secrets: Secrets, database: Database) -> School:
    """Return what the learning loop works with; its registry knows which versions are current."""
    return School.open(
        database,
        secret=secrets.audit_key,
        datasets=datasets_folder(settings),
        runs=runs_folder(settings),
        prepared=prepared_folder(settings),
        bundles=imported_bundles(settings),
        folders=bundle_folders(settings),
        launchers=launchers(settings),
    )


def launchers(settings: Settings) -> tuple[LauncherName, ...]:
    """Return where trainings can learn; first where they do unless somebody says otherwise."""
    there: list[LauncherName] = ["local"]
    if settings.training.slurm is not None:
        there.append("slurm")
    return tuple(sorted(there, key=lambda name: name != settings.training.launcher))


def slurm(settings: Settings) -> Slurm | None:
    """Return the cluster that can learn; None where there is none."""
    wanted = settings.training.slurm
    return None if wanted is None else Slurm(wanted.cluster(), logs=settings.data / "logs")


def policies(settings: Settings) -> dict[str, Policy]:
    """Return when a version may become current, by rule; "" is for what people asked for."""
    people = Policy(settings.training.promote)
    return {"": people, **{rule.name: rule.policy for rule in settings.learning}}


def means(settings: Settings) -> Means:
    """Return what trainings may use of this machine."""
    wanted, cluster = settings.training, slurm(settings)
    return Means(
        logs=settings.data / "logs",
        quiet=QuietHours(wanted.quiet_hours),
        minutes_a_day=wanted.minutes_a_day,
        device=wanted.device,
        threads=wanted.threads or None,
        processes=wanted.processes,
        elsewhere={} if cluster is None else {"slurm": cluster},
        tracker=Tracker(wanted.mlflow) if wanted.mlflow else None,
    )


def material(secrets: Secrets, database: Database, clinical: Archive) -> Material:
    """Return where the readings and images of datasets come from."""
    sealed, withdrawals = SealedIdentities(database), Withdrawals(database)

    def patient_of(study_id: str) -> str | None:
        row = sealed.get_sealed(study_id)
        return row.patient if row else None

    return Material(
        archive=clinical,
        studies=Studies(database),
        patient_of=patient_of,
        is_withdrawn=lambda patient: withdrawals.is_withdrawn([patient]),
        key=secrets.audit_key,
    )


def registry(settings: Settings, secrets: Secrets, database: Database) -> Registry:
    """Return the node's bundles, as they stand: current, candidates, withdrawn."""
    return school(settings, secrets, database).registry


# --- identity -----------------------------------------------------------------------------------


def key_ring(secrets: Secrets, database: Database) -> KeyRing:
    """Return the node's master keys; made at the first start, never once identities are sealed.

    Raises
    ------
    VaultLocked
        When identities are sealed and the key is gone.
    """
    return KeyRing.open(secrets.master_key, may_create=not SealedIdentities(database).any())


def study_pseudonym(settings: Settings, study_uid: str) -> str:
    """Return the pseudonym of an original StudyInstanceUID, for the command line."""
    secrets = open_secrets(settings)
    database = Database(database_url(settings))
    try:
        key = key_ring(secrets, database).pseudonym_key()
    finally:
        database.close()
    return pseudonym_uid(key, study_uid)
