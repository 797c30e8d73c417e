"""The worker's house: every room that a study passes, put together from settings.

Each part is made when it is asked for, once; what it is made of is asked for in turn. Apart from
`node.wiring`, so that the front does not load the durable engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt

from dicom.archive import Archive
from dicom.deid import Engine as Deidentifying
from dicom.deid import Identity
from dicom.uids import pseudonym_uid
from dicom.web import WebPeer
from models.deface.series import BUNDLE as BRAIN_BUNDLE
from models.prediction import Image
from models.process import PredictorProcess
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
from pipelines.learning import Lessons, Lookout, Material, Schedule, School, shadow_of
from pipelines.projects import NODE, project_called
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
    (settings.data / "logs").mkdir(parents=True, exist_ok=True)
    house = _Rooms(settings)
    worker = house.worker
    listener = WakeListener(
        settings.worker.host, settings.worker.port, token=house.secrets.wake_token, worker=worker
    )
    try:
        yield worker, listener
    finally:
        house.predictor.stop()
        house.clinical.close()
        house.database.close()


class _Rooms:
    """Every part of the worker, by its name."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.secrets = open_secrets(settings)
        self.database = Database(wiring.database_url(settings))

    # --- what all of them use -------------------------------------------------------------------

    @cached_property
    def ring(self) -> KeyRing:
        return wiring.key_ring(self.secrets, self.database)

    @cached_property
    def clinical(self) -> Archive:
        return wiring.clinical_archive(self.settings, self.secrets)

    @cached_property
    def research(self) -> Archive:
        return wiring.research_archive(self.settings, self.secrets)

    @cached_property
    def school(self) -> School:
        return wiring.school(self.settings, self.secrets, self.database)

    @cached_property
    def predictor(self) -> PredictorProcess:
        return PredictorProcess(
            self.school.folders,
            device=self.settings.predictor.device,
            threads=self.settings.predictor.threads or None,
            timeout_s=self.settings.predictor.timeout_s,
            keep=self.settings.predictor.warm_models,
            log=self.settings.data / "logs" / "predictor.log",
            choices=self.settings.data / "predictor",
        )

    @cached_property
    def studies(self) -> Studies:
        return Studies(self.database)

    @cached_property
    def jobs(self) -> Jobs:
        return Jobs(self.database)

    @cached_property
    def held(self) -> Held:
        return Held(self.database)

    @cached_property
    def sealed(self) -> SealedIdentities:
        return SealedIdentities(self.database)

    @cached_property
    def withdrawals(self) -> Withdrawals:
        return Withdrawals(self.database)

    @cached_property
    def collections(self) -> Collections:
        return Collections(self.database)

    @cached_property
    def trail(self) -> Trail:
        return Trail(self.database, self.secrets.audit_key)

    @cached_property
    def vault(self) -> Vault:
        return Vault(self.ring, self.sealed, self.trail)

    def pseudonym(self, uid: str) -> str:
        return pseudonym_uid(self.ring.pseudonym_key(), uid)

    def others_of(self, why: str) -> Callable[[Identity], list[Identity]]:
        return partial(self.vault.others_of, actor="worker", reason=why)

    @cached_property
    def deidentifier(self) -> Deidentifying:
        return open_engine(NODE, self.ring.pseudonym_key())

    def overruled(self, released: frozenset[str]) -> Deidentifying:
        return open_engine(NODE, self.ring.pseudonym_key(), released=released)

    # --- a study, from the archive to its result ------------------------------------------------

    @cached_property
    def intake(self) -> Intake:
        return Intake(
            self.clinical,
            self.studies,
            self.jobs,
            pseudonym=self.pseudonym,
            quiet_s=self.settings.worker.quiet_s,
            passed_over=untaken(DRAWN_MODALITIES, self.settings.route),
        )

    @cached_property
    def groundwork(self) -> Groundwork:
        ahead = None
        if self.database.is_sqlite:
            # of several workers any may get the job: all would predict, and one be asked
            ahead = Foresight(self.school.registry, self.predictor, self.settings.route)
        return Groundwork(
            self.clinical,
            self.deidentifier,
            (self.settings.data / "groundwork").resolve(),
            profile=NODE.profile,
            others_of=self.others_of("second look ahead of the job"),
            foresight=ahead,
        )

    @cached_property
    def inference(self) -> Inference:
        settings = self.settings
        return Inference(
            House(
                clinical=self.clinical,
                clinical_web=WebPeer(
                    "archive",
                    f"{wiring.clinical_root(settings, self.secrets)}/dicom-web",
                    user=settings.orthanc.user,
                    password=self.secrets.clinical_password,
                ),
                research=self.research,
                studies=self.studies,
                jobs=self.jobs,
                asked=AskedRuns(self.database),
                profile=NODE.profile,
                deidentifier=self.deidentifier,
                overruled=self.overruled,
                overruled_collector=self.collector,
                held=self.held,
                withdrawals=self.withdrawals,
                groundwork=self.groundwork,
                vault=self.vault,
                registry=self.school.registry,
                predictor=self.predictor,
                routes=settings.route,
                peers=wiring.peers(settings),
                aet=settings.dicom.aet,
                work=(settings.data / "work").resolve(),
                collectors=self.collectors,
            )
        )

    @cached_property
    def aftercare(self) -> Aftercare:
        return Aftercare(
            self.clinical,
            self.studies,
            self.jobs,
            Corrections(self.database),
            ElsewhereObjects(self.database),
            wiring.correction_desk(
                self.settings, self.secrets, self.database, self.clinical, self.school.registry
            ),
            pseudonym=self.pseudonym,
            tolerance_mm=self.settings.corrections.tolerance_mm,
        )

    # --- research -------------------------------------------------------------------------------

    def collector(self, name: str, released: frozenset[str] = frozenset()) -> Collector:
        project = project_called(name, self.settings.project)
        key = self.ring.pseudonym_key(project.name)
        return Collector(
            project=project,
            engine_for=lambda source: open_engine(
                project, key, source=source, brain=self.brain, released=released
            ),
            key=key,
            vault=Vault(
                self.ring,
                self.sealed,
                self.trail,
                project=project.name,
                is_withdrawn=self.withdrawals.is_withdrawn,
            ),
            research=self.research,
            trail=self.trail,
            others_of=self.others_of("second look at a project's copy"),
        )

    @cached_property
    def collectors(self) -> dict[str, Collector]:
        return {project.name: self.collector(project.name) for project in self.settings.project}

    def brain(self, image: Image) -> npt.NDArray[np.bool_]:
        """Find the brain, in the child that runs models."""
        bundle = self.school.registry.get(BRAIN_BUNDLE)
        found = self.predictor.predict_images(bundle.identity, {"image": image})
        return np.asarray(found.labels_kji == 1, np.bool_)

    @cached_property
    def collecting(self) -> CollectionRuns:
        return CollectionRuns(
            clinical=self.clinical,
            research=self.research,
            studies=self.studies,
            picking=Picking(self.database),
            collections=self.collections,
            sealed=self.sealed,
            jobs=self.jobs,
            held=self.held,
            collectors=self.collectors,
            overruled=self.collector,
            work=(self.settings.data / "collecting").resolve(),
        )

    @cached_property
    def exporting(self) -> ExportRuns:
        return ExportRuns(
            research=self.research,
            collections=self.collections,
            exports=Exports(self.database),
            sealed=self.sealed,
            projects=self.settings.project,
            vaults={name: collector.vault for name, collector in self.collectors.items()},
            files=ExportFiles(wiring.exports_folder(self.settings)),
            version=wiring.VERSION,
        )

    @cached_property
    def withdrawing(self) -> WithdrawalRuns:
        return WithdrawalRuns(
            self.withdrawals,
            Withdrawing(self.withdrawals, Drawer(self.secrets.audit_key)),
            Stores(
                research=self.research,
                sealed=self.sealed,
                collections=self.collections,
                exports=Exports(self.database),
                files=ExportFiles(wiring.exports_folder(self.settings)),
                datasets=Datasets(self.database),
                versions=Versions(self.database),
            ),
            vault_of=lambda name: Vault(self.ring, self.sealed, self.trail, project=name),
            projects=lambda: (*self.collectors, *self.sealed.projects()),
        )

    # --- learning -------------------------------------------------------------------------------

    @cached_property
    def material(self) -> Material:
        return wiring.material(self.secrets, self.database, self.clinical)

    @cached_property
    def lessons(self) -> Lessons:
        return Lessons(
            self.school,
            wiring.means(self.settings),
            is_urgent=self.school.trainings.is_hindered,
            policies=wiring.policies(self.settings),
            shadow=shadow_of(self.school, self.material, self.settings.learning),
        )

    @cached_property
    def schedule(self) -> Schedule:
        return Schedule(self.school, self.material, self.settings.learning)

    @cached_property
    def lookout(self) -> Lookout:
        return Lookout(
            Observations(self.database), self.school.alarms, teller(self.settings.training)
        )

    # --- the process ----------------------------------------------------------------------------

    @cached_property
    def durable(self) -> Engine:
        rooms = (self.inference, self.aftercare, self.collecting, self.exporting)
        more = (self.withdrawing, self.lessons, self.schedule)
        return Engine(
            wiring.engine_url(self.settings),
            executor_id=self.settings.worker.executor_id,
            version=wiring.VERSION,
            workflows=tuple(spec for room in (*rooms, *more) for spec in room.specs()),
            limits={
                "studies": self.settings.worker.studies_at_once,
                "tasks": 1,
                "deliveries": 4,
                "corrections": 1,
                "datasets": 1,
                "learning": 1,
            },
        )

    @cached_property
    def worker(self) -> Worker:
        return Worker(
            engine=self.durable,
            intake=self.intake,
            inference=self.inference,
            groundwork=self.groundwork,
            aftercare=self.aftercare,
            collecting=self.collecting,
            exporting=self.exporting,
            withdrawing=self.withdrawing,
            lessons=self.lessons,
            schedule=self.schedule,
            lookout=self.lookout,
            studies=self.studies,
            access=Access(self.database),
            executor_id=self.settings.worker.executor_id,
            poll_s=self.settings.worker.poll_s,
            shared=not self.database.is_sqlite,
        )
