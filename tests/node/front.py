"""A front on a real SQLite database, with rows as the worker writes them, for the tests."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from argon2 import PasswordHasher
from fastapi import FastAPI
from fastapi.testclient import TestClient

from dicom.archive import Archive
from dicom.errors import RadloopError
from dicom.seg import BY_CONTENT
from dicom.volume import SeriesFacts
from models.process import PredictorProcess
from models.registry import Registry
from node import wiring
from node.app import create_app
from node.auth import Auth
from node.parts import DicomAddress, FrontParts, WorkerBell
from node.proxy import Upstream
from pipelines.corrections import Desk
from pipelines.custody import Custody
from pipelines.drawer import Drawer
from pipelines.reading import ReadingRoom
from pipelines.routing import Route, When
from pipelines.sharing.files import ExportFiles
from pipelines.store import (
    Access,
    ArchivedChange,
    AskedRuns,
    Collections,
    Corrections,
    Database,
    Drafts,
    Exports,
    Jobs,
    Labelled,
    NewTask,
    Picking,
    Role,
    Studies,
    Trail,
)
from pipelines.warm import WarmImages
from tests.learning import school_in

QUICK_HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
PASSWORD = "correct horse battery"
USERS: Mapping[Role, str] = {
    "admin": "admin",
    "radiologist": "rita",
    "researcher": "rob",
    "custodian": "cleo",
}
NOBODY = "http://127.0.0.1:9"  # the discard port: nothing listens there
ORIGIN = "http://testserver"

ROUTES = (
    Route("head-mr", When(modality=("MR",), min_slices=20), bundle="mr_brain"),
    Route("chest-ct", When(modality=("CT",), max_spacing_mm=1.5), bundle="ct_lungs"),
)
FACTS = SeriesFacts(
    modality="MR",
    sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
    body_part="HEAD",
    description="T1 SAG",
    protocol=None,
    manufacturer=None,
    image_type=("ORIGINAL", "PRIMARY"),
    contrast_agent=False,
    slice_count=160,
    spacing_mm=1.0,
    pixel_spacing_mm=(1.0, 1.0),
    orientation="sagittal",
)


@dataclass(frozen=True)
class Front:
    """The application, its parts, and ways to be somebody."""

    app: FastAPI
    parts: FrontParts

    def client(self, role: Role | None = None) -> TestClient:
        """Return a browser of that role: cookie, Origin header; None: nobody is logged in."""
        client = TestClient(self.app, follow_redirects=False, headers={"Origin": ORIGIN})
        if role is not None:
            answer = client.post("/login", data={"name": USERS[role], "password": PASSWORD})
            assert answer.status_code == 303, answer.text
        return client


@cache
def _migrated() -> bytes:
    """Return an empty database's file; migrating once is enough for all tests."""
    with TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/empty.db")
        database.migrate()
        database.close()
        return Path(folder, "empty.db").read_bytes()


def migrated_database(path: Path) -> Database:
    """Return a new SQLite database with all tables."""
    path.write_bytes(_migrated())
    return Database(f"sqlite:///{path}")


def make_front(
    folder: Path,
    *,
    clinical: Archive | None = None,
    bell: WorkerBell | None = None,
    lifetime: timedelta = timedelta(hours=1),
    idle: timedelta = timedelta(minutes=10),
    public_url: str = "",
    database: Database | None = None,
    clinical_web: Upstream | None = None,
) -> Front:
    """Return a front with one user of each role; without `clinical` the archive is down."""
    database = database or migrated_database(folder / "radloop.db")
    access = Access(database)
    auth = Auth(access, lifetime=lifetime, idle=idle, public_url=public_url, hasher=QUICK_HASHER)
    for role, name in USERS.items():
        if access.user(name) is None:  # another front of the same rows has made them
            auth.add_user(name, role=role, password=PASSWORD)
    bundles = folder / "bundles"
    (bundles / "half_a_bundle").mkdir(parents=True)
    clinical = clinical or Archive(NOBODY, "radloop", "secret", timeout_s=2)
    desk = Desk(
        clinical,
        Studies(database),
        Corrections(database),
        Drafts(database),
        Drawer(b"audit key"),
        form=BY_CONTENT,
    )
    parts = FrontParts(
        version="0.0.test",
        auth=auth,
        studies=Studies(database),
        jobs=Jobs(database),
        access=access,
        trail=Trail(database, b"audit key"),
        clinical=clinical,
        asked=AskedRuns(database),
        picking=Picking(database),
        collections=Collections(database),
        exports=Exports(database),
        export_files=ExportFiles(folder / "exports"),
        corrections=Corrections(database),
        desk=desk,
        elsewhere=wiring.elsewhere(database, clinical, desk),
        custody=Custody.of(database, Drawer(b"audit key")),
        reading=ReadingRoom(
            database,
            clinical,
            desk.grids,
            Drawer(b"audit key"),
            lease=timedelta(minutes=15),
            tolerance_mm=1.0,
        ),
        warm=WarmImages(clinical, most_bytes=64 << 20),
        labelled=Labelled(database),
        predictor=PredictorProcess((bundles,), device="cpu", threads=1),
        clinical_web=clinical_web or Upstream(f"{NOBODY}/dicom-web", "radloop", "secret"),
        research_web=Upstream(f"{NOBODY}/dicom-web", "radloop", "secret"),
        registry=Registry((bundles,)),
        routes=ROUTES,
        dicom=DicomAddress("RADLOOP", 4242),
        school=school_in(folder, database),
        policies={},
        bell=bell or WorkerBell(f"{NOBODY}/wake", "token"),
        ohif_dist=folder / "no-ohif",
        ohif_config=folder,
    )
    return Front(create_app(parts), parts)


def receive(parts: FrontParts, study: str, *, orthanc_id: str = "", count: int = 160) -> str:
    """Write a study of one MR series as the intake does; return the series' pseudonym."""
    since = parts.studies.cursor("clinical")
    change = ArchivedChange(
        study_id=study,
        study_orthanc_id=orthanc_id or f"orthanc-{study}",
        series_id=f"{study}.1",
        series_orthanc_id=f"orthanc-{study}.1",
        modality="MR",
        instance_count=count,
        ours=False,
    )
    assert parts.studies.record_changes("clinical", since=since, until=since + 1, changes=[change])
    return change.series_id


def schedule(parts: FrontParts, study: str, *, orthanc_id: str = "") -> str:
    """Write a received study and its job; return the job's id."""
    series = receive(parts, study, orthanc_id=orthanc_id)
    parts.studies.describe(study, "MR HEAD")
    parts.studies.keep_facts(series, asdict(replace(FACTS)))
    job = f"job-{study}"
    content = {series: "fingerprint"}
    as_of = {view.id: view.changed_at for view in parts.studies.series_of(study)}
    assert parts.jobs.schedule(study, complete=content, as_of=as_of, job_id=job, new=content)
    return job


def begin(parts: FrontParts, study: str, *, progress: float = 0.0, orthanc_id: str = "") -> str:
    """Write a job that is at its prediction; return its id."""
    job, _ = _predict(parts, study, orthanc_id=orthanc_id)
    parts.jobs.report_progress(f"task-{study}", progress)
    return job


def _predict(parts: FrontParts, study: str, *, orthanc_id: str) -> tuple[str, int]:
    job = schedule(parts, study, orthanc_id=orthanc_id)
    parts.jobs.start(job)
    for step in ("fetch", "deidentify", "route"):
        parts.jobs.end_step(parts.jobs.begin_step(job, step))
    task = NewTask(
        id=f"task-{study}",
        series_id=f"{study}.1",
        route="head-mr",
        bundle="mr_brain@0.1.0",
        bundle_sha256="0" * 64,
        outputs=("seg",),
        destinations=("pacs",),
        priority="routine",
    )
    parts.jobs.plan(job, [task], collect=False)
    parts.jobs.start_task(task.id)
    parts.jobs.end_step(parts.jobs.begin_step(job, "volume", task.id))
    return job, parts.jobs.begin_step(job, "predict", task.id)


def complete(parts: FrontParts, study: str, *, delivered: bool = True, orthanc_id: str = "") -> str:
    """Write a job that has stored its result, and `delivered` it to the PACS; return its id."""
    job, predicting = _predict(parts, study, orthanc_id=orthanc_id)
    task = f"task-{study}"
    parts.jobs.end_step(predicting)
    parts.jobs.keep_prediction(task, forward_s=12.3, device="cpu")
    parts.jobs.end_step(parts.jobs.begin_step(job, "encode", task))
    parts.jobs.keep_result(
        task,
        sop_instance_uid=f"{study}.9.1",
        series_uid=f"{study}.9",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.66.4",
        summary={"Brain": 1423.4},
        destinations=("archive", "pacs"),
    )
    parts.jobs.note_delivery(f"{study}.9.1", "archive")
    parts.jobs.end_task(task)
    if delivered:
        parts.jobs.note_delivery(f"{study}.9.1", "pacs")
    return job


def fail(parts: FrontParts, study: str, error: RadloopError, *, orthanc_id: str = "") -> str:
    """Write a job that failed in its prediction; return its id."""
    job, predicting = _predict(parts, study, orthanc_id=orthanc_id)
    parts.jobs.end_step(predicting, error.code)
    parts.jobs.end_task(f"task-{study}", error)
    return job
