"""The worker's house: every room that a study passes, put together from settings.

Apart from `node.wiring`, so that the front does not load the durable engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import numpy.typing as npt

from dicom.archive import Archive
from dicom.deid import Identity
from dicom.uids import pseudonym_uid
from dicom.web import WebPeer
from models.deface.series import BUNDLE as BRAIN_BUNDLE
from models.deface.series import BrainOf
from models.prediction import Image
from models.process import PredictorProcess
from models.registry import Registry
from node import wiring
from node.engines import open_engine
from node.keys import open_secrets
from node.settings import Settings
from node.telling import teller
from node.worker import WakeListener, Worker
from pipelines.collecting import Collector
from pipelines.corrections.aftercare import Aftercare
from pipelines.custody import Withdrawing
from pipelines.custody.runs import WithdrawalRuns
from pipelines.custody.stores import Stores
from pipelines.drawer import Drawer
from pipelines.engine import Engine
from pipelines.foresight import Foresight
from pipelines.groundwork import Groundwork
from pipelines.identity import Vault
from pipelines.inference import House, Inference
from pipelines.intake import Intake
from pipelines.keyring import KeyRing
from pipelines.learning import Lessons, Lookout, Schedule, shadow_of
from pipelines.projects import NODE, Project, project_called
from pipelines.routing import untaken
from pipelines.sharing.collecting import CollectionRuns
from pipelines.sharing.exporting import ExportRuns
from pipelines.sharing.files import ExportFiles
from pipelines.store import (
    DRAWN_MODALITIES,
    Access,
    AskedRuns,
    Collections,
    Corrections,
    Database,
    Datasets,
    ElsewhereObjects,
    Exports,
    Held,
    Jobs,
    Picking,
    SealedIdentities,
    Studies,
    Trail,
    Versions,
    Withdrawals,
)
from pipelines.store.observed import Observations


@contextmanager
def open_worker(settings: Settings) -> Iterator[tuple[Worker, WakeListener]]:
    """Give the worker and its listener; closes all that they use afterwards."""
    secrets = open_secrets(settings)
    database = Database(wiring.database_url(settings))
    access, studies, jobs = Access(database), Studies(database), Jobs(database)
    ring = wiring.key_ring(secrets, database)
    uid_key = ring.pseudonym_key()
    clinical = wiring.clinical_archive(settings, secrets)
    (settings.data / "logs").mkdir(parents=True, exist_ok=True)
    school = wiring.school(settings, secrets, database)
    registry = school.registry
    predictor = PredictorProcess(
        school.folders,
        device=settings.predictor.device,
        threads=settings.predictor.threads or None,
        timeout_s=settings.predictor.timeout_s,
        keep=settings.predictor.warm_models,
        log=settings.data / "logs" / "predictor.log",
        choices=settings.data / "predictor",
    )
    deidentifier = open_engine(NODE, uid_key)
    trail = Trail(database, secrets.audit_key)
    vault = Vault(ring, SealedIdentities(database), trail)
    groundwork = Groundwork(
        clinical,
        deidentifier,
        (settings.data / "groundwork").resolve(),
        profile=NODE.profile,
        others_of=partial(vault.others_of, actor="worker", reason="second look ahead of the job"),
        # of several workers any may get the job: all of them would predict, and one be asked
        foresight=Foresight(registry, predictor, settings.route) if database.is_sqlite else None,
    )
    research = wiring.research_archive(settings, secrets)
    withdrawals = Withdrawals(database)

    def collector(name: str, released: frozenset[str] = frozenset()) -> Collector:
        return _collector(
            project_called(name, settings.project),
            ring,
            SealedIdentities(database),
            trail,
            research,
            partial(vault.others_of, actor="worker", reason="second look at a project's copy"),
            _brains(predictor, registry),
            withdrawals,
            released,
        )

    collectors = {project.name: collector(project.name) for project in settings.project}
    inference = Inference(
        House(
            clinical=clinical,
            clinical_web=WebPeer(
                "archive",
                f"{wiring.clinical_root(settings, secrets)}/dicom-web",
                user=settings.orthanc.user,
                password=secrets.clinical_password,
            ),
            research=research,
            studies=studies,
            jobs=jobs,
            asked=AskedRuns(database),
            profile=NODE.profile,
            deidentifier=deidentifier,
            overruled=lambda codes: open_engine(NODE, uid_key, released=codes),
            overruled_collector=collector,
            held=Held(database),
            withdrawals=withdrawals,
            groundwork=groundwork,
            vault=vault,
            registry=registry,
            predictor=predictor,
            routes=settings.route,
            peers=wiring.peers(settings),
            aet=settings.dicom.aet,
            work=(settings.data / "work").resolve(),
            collectors=collectors,
        )
    )
    desk = wiring.correction_desk(settings, secrets, database, clinical)
    aftercare = Aftercare(
        clinical,
        studies,
        jobs,
        Corrections(database),
        ElsewhereObjects(database),
        desk,
        pseudonym=lambda uid: pseudonym_uid(uid_key, uid),
        tolerance_mm=settings.corrections.tolerance_mm,
    )
    collections = Collections(database)
    collecting = CollectionRuns(
        clinical=clinical,
        research=research,
        studies=studies,
        picking=Picking(database),
        collections=collections,
        sealed=SealedIdentities(database),
        jobs=jobs,
        held=Held(database),
        collectors=collectors,
        overruled=collector,
        work=(settings.data / "collecting").resolve(),
    )
    exporting = ExportRuns(
        research=research,
        collections=collections,
        exports=Exports(database),
        sealed=SealedIdentities(database),
        projects=settings.project,
        vaults={name: collector.vault for name, collector in collectors.items()},
        files=ExportFiles(wiring.exports_folder(settings)),
        version=wiring.VERSION,
    )
    withdrawing = WithdrawalRuns(
        withdrawals,
        Withdrawing(withdrawals, Drawer(secrets.audit_key)),
        Stores(
            research=research,
            sealed=SealedIdentities(database),
            collections=collections,
            exports=Exports(database),
            files=ExportFiles(wiring.exports_folder(settings)),
            datasets=Datasets(database),
            versions=Versions(database),
        ),
        vault_of=lambda name: Vault(ring, SealedIdentities(database), trail, project=name),
        projects=lambda: (*collectors, *SealedIdentities(database).projects()),
    )
    material = wiring.material(secrets, database, clinical)
    lessons = Lessons(
        school,
        wiring.means(settings),
        is_urgent=school.trainings.is_hindered,
        policies=wiring.policies(settings),
        shadow=shadow_of(school, material, settings.learning),
    )
    schedule = Schedule(school, material, settings.learning)
    lookout = Lookout(Observations(database), school.alarms, teller(settings.training))
    worker = Worker(
        engine=Engine(
            wiring.engine_url(settings),
            executor_id=settings.worker.executor_id,
            version=wiring.VERSION,
            workflows=(
                *inference.specs(),
                *aftercare.specs(),
                *collecting.specs(),
                *exporting.specs(),
                *withdrawing.specs(),
                *lessons.specs(),
                *schedule.specs(),
            ),
            limits={
                "studies": settings.worker.studies_at_once,
                "tasks": 1,
                "deliveries": 4,
                "corrections": 1,
                "datasets": 1,
                "learning": 1,
            },
        ),
        intake=Intake(
            clinical,
            studies,
            jobs,
            pseudonym=lambda uid: pseudonym_uid(uid_key, uid),
            quiet_s=settings.worker.quiet_s,
            passed_over=untaken(DRAWN_MODALITIES, settings.route),
        ),
        inference=inference,
        groundwork=groundwork,
        aftercare=aftercare,
        collecting=collecting,
        exporting=exporting,
        withdrawing=withdrawing,
        lessons=lessons,
        schedule=schedule,
        lookout=lookout,
        studies=studies,
        access=access,
        executor_id=settings.worker.executor_id,
        poll_s=settings.worker.poll_s,
        shared=not database.is_sqlite,
    )
    listener = WakeListener(
        settings.worker.host, settings.worker.port, token=secrets.wake_token, worker=worker
    )
    try:
        yield worker, listener
    finally:
        predictor.stop()
        clinical.close()
        database.close()


def _collector(
    project: Project,
    ring: KeyRing,
    sealed: SealedIdentities,
    trail: Trail,
    research: Archive,
    others_of: Callable[[Identity], list[Identity]],
    brain: BrainOf,
    withdrawals: Withdrawals,
    released: frozenset[str],
) -> Collector:
    key = ring.pseudonym_key(project.name)
    return Collector(
        project=project,
        engine_for=lambda source: open_engine(
            project, key, source=source, brain=brain, released=released
        ),
        key=key,
        vault=Vault(
            ring, sealed, trail, project=project.name, is_withdrawn=withdrawals.is_withdrawn
        ),
        research=research,
        trail=trail,
        others_of=others_of,
    )


def _brains(predictor: PredictorProcess, registry: Registry) -> BrainOf:
    """Return what finds brains, in the child that runs models."""

    def brain(image: Image) -> npt.NDArray[np.bool_]:
        found = predictor.predict_images(registry.get(BRAIN_BUNDLE).identity, {"image": image})
        return np.asarray(found.labels_kji == 1, np.bool_)

    return brain
