"""The front's process: uvicorn around the application."""

from __future__ import annotations

import socket
import sys
from datetime import timedelta
from importlib.util import find_spec

import uvicorn
from fastapi import FastAPI

from models.process import PredictorProcess
from node import wiring
from node.app import create_app
from node.auth import Auth
from node.keys import open_secrets
from node.parts import DicomAddress, FrontParts, WorkerBell
from node.proxy import Upstream
from node.settings import Settings
from pipelines.custody import Custody
from pipelines.drawer import Drawer
from pipelines.sharing.files import ExportFiles
from pipelines.store import (
    Access,
    AskedRuns,
    Collections,
    Corrections,
    Database,
    Exports,
    Jobs,
    Labelled,
    Picking,
    Studies,
    Trail,
)
from pipelines.warm import WarmImages


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    if find_spec("sniffio") is None:
        # httpcore looks for it on the disk several times in each request: say that it is not there.
        sys.modules["sniffio"] = None  # type: ignore[assignment]  # what Python keeps for "absent"
    config = uvicorn.Config(
        create_app(front_parts(settings)),
        host=settings.front.host,
        port=settings.front.port,
        log_config=None,
        access_log=False,  # its lines hold paths, and those hold UIDs
        server_header=False,
        timeout_graceful_shutdown=3,
    )
    _Server(config).run()


def front_parts(settings: Settings) -> FrontParts:
    """Return what the application is made of."""
    secrets = open_secrets(settings)
    database = Database(wiring.database_url(settings))
    access = Access(database)
    clinical = wiring.clinical_archive(settings, secrets)
    registry = wiring.registry(settings, secrets, database)
    desk = wiring.correction_desk(settings, secrets, database, clinical, registry)
    return FrontParts(
        version=wiring.VERSION,
        auth=Auth(
            access,
            lifetime=timedelta(hours=settings.front.session_hours),
            idle=timedelta(minutes=settings.front.idle_minutes),
            public_url=settings.front.public_url,
        ),
        studies=Studies(database),
        jobs=Jobs(database),
        access=access,
        trail=Trail(database, secrets.audit_key),
        clinical=clinical,
        asked=AskedRuns(database),
        corrections=Corrections(database),
        desk=desk,
        elsewhere=wiring.elsewhere(database, clinical, desk),
        custody=Custody.of(database, Drawer(secrets.audit_key)),
        reading=wiring.reading_room(settings, secrets, database, clinical, desk),
        warm=WarmImages(clinical, most_bytes=settings.front.warm_mb << 20),
        labelled=Labelled(database),
        predictor=PredictorProcess(  # a child is started by the first question, not before
            wiring.bundle_folders(settings),
            device=settings.predictor.device,
            threads=settings.predictor.threads or None,
            timeout_s=settings.predictor.timeout_s,
            keep=1,
            choices=settings.data / "predictor",
        ),
        clinical_web=Upstream(
            f"{wiring.clinical_root(settings, secrets)}/dicom-web",
            settings.orthanc.user,
            secrets.clinical_password,
        ),
        research_web=Upstream(
            f"{wiring.research_root(settings, secrets)}/dicom-web",
            settings.orthanc.user,
            secrets.research_password,
        ),
        registry=registry,
        routes=settings.route,
        projects=settings.project,
        picking=Picking(database),
        collections=Collections(database),
        exports=Exports(database),
        export_files=ExportFiles(wiring.exports_folder(settings)),
        metadata_bytes=settings.front.metadata_mb << 20,
        dicom=DicomAddress(settings.dicom.aet, settings.dicom.port),
        school=wiring.school(settings, secrets, database),
        policies=wiring.policies(settings),
        bell=WorkerBell(wiring.wake_url(settings), secrets.wake_token),
        ohif_dist=wiring.ohif_folder(settings),
        ohif_config=wiring.ohif_config_folder(),
    )


class _Server(uvicorn.Server):
    """Ends the streams of events, which never end by themselves, before it waits for requests."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop."""
        app = self.config.app
        assert isinstance(app, FastAPI)
        app.state.feed.close()
        await super().shutdown(sockets)
