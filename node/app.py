"""The front: one application of API, pages, DICOMweb proxies and the viewer's files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from node import api, monailabel, pages
from node.answers import CommonAnswers, install_handlers
from node.auth import CLINICAL_ROLES, IMAGE_ROLES, guard
from node.blind_archive import BlindArchive
from node.exported import take_exported
from node.live import Feed
from node.ohif import ohif_router
from node.pages.patients import Patients
from node.pages.render import STATIC
from node.parts import FrontParts
from node.previews import Previews
from node.proxy import dicomweb_router
from node.study_names import StudyNames
from pipelines.reported import Reported


def create_app(parts: FrontParts) -> FastAPI:
    """Return the front.

    Parameters
    ----------
    parts : FrontParts
        What it is made of; it is not closed here.
    """
    feed = Feed(parts.jobs, parts.studies, parts.reading.worklist)
    patients = Patients(parts.clinical)
    reported = Reported(parts.clinical)
    previews = Previews()
    study_names = StudyNames(parts.clinical, parts.studies)

    @asynccontextmanager
    async def running(_app: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            _app.state.is_closing = True  # streams look at it
            previews.close()
            feed.close()
            patients.close()
            app.state.monailabel.uploads.close()
            parts.predictor.stop()

    app = FastAPI(
        title="radloop",
        version=parts.version,
        description="An AI node beside a hospital's PACS.",
        lifespan=running,
        openapi_url=None,  # these three would be there without a login, and load from a CDN
        docs_url=None,
        redoc_url=None,
    )
    app.state.parts = parts
    app.state.feed = feed
    app.state.patients = patients
    app.state.reported = reported
    app.state.previews = previews
    app.state.is_closing = False
    app.state.study_names = study_names
    install_handlers(app)
    app.state.monailabel = monailabel.ClientState()
    # Routes are looked through one by one: a viewer asks most, and for most.
    app.include_router(
        dicomweb_router(
            prefix="/dicom-web",
            upstream=parts.clinical_web,
            guard=guard(*CLINICAL_ROLES),
            take_exported=take_exported,
            metadata_bytes=parts.metadata_bytes,
        )
    )
    app.include_router(
        dicomweb_router(
            prefix="/research/dicom-web",
            upstream=parts.research_web,
            guard=guard(*IMAGE_ROLES),
            metadata_bytes=parts.metadata_bytes,
        )
    )
    for router in (*api.ROUTERS, *pages.ROUTERS, *monailabel.ROUTERS):
        app.include_router(router)
    app.include_router(
        ohif_router(dist=parts.ohif_dist, config=parts.ohif_config, guard=guard(*IMAGE_ROLES))
    )
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.add_middleware(BlindArchive, parts=parts)
    app.add_middleware(CommonAnswers, https_only=parts.auth.is_public_https)
    return app
