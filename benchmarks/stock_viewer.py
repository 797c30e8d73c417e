"""OHIF as it is published, straight on an Orthanc: the peer of `benchmarks/viewer.py`.

A small web server gives its files, packed as they were at the installation and kept by the browser
as long as ours; the browser asks Orthanc itself, with nothing between. Orthanc is set as ours is,
but without a password: OHIF has none to give. Of ours the viewer has one thing, how a study hangs,
so that on both sides the same link can show the same picture.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, Response

from node.ohif import _TYPES
from node.orthanc import write_configuration
from tests.browser.front import OHIF_DIST, ROOT
from tests.node.serving import serving
from tests.orthanc.servers import OrthancConfig, RunningOrthanc, research_config

FLAGS = ("--disable-web-security",)  # Orthanc 1.10 allows no other origin by itself
_KEPT = {"Cache-Control": "public, max-age=31536000, immutable"}
_CONFIG = """window.config = {
  name: 'stock', routerBasename: '/', modes: [], extensions: ['/hanging.js'],
  modesConfiguration: {
    '@ohif/mode-longitudinal': { hangingProtocol: { $set: 'radloop' } },
    '@ohif/mode-segmentation': { hangingProtocol: { $set: 'radloop' } },
  },
  customizationService: {}, disableConfirmationPrompts: true, showStudyList: true,
  showWarningMessageForCrossOrigin: false, showCPUFallbackMessage: false,
  showLoadingIndicator: true, strictZSpacingForVolumeViewport: true, groupEnabledModesFirst: true,
  investigationalUseDialog: { option: 'never' }, maxNumberOfWebWorkers: 3,
  maxNumRequests: { interaction: 100, thumbnail: 5, prefetch: 25 },
  defaultDataSourceName: 'orthanc',
  dataSources: [{
    namespace: '@ohif/extension-default.dataSourcesModule.dicomweb', sourceName: 'orthanc',
    configuration: {
      name: 'orthanc', friendlyName: 'Orthanc', qidoRoot: ROOT, wadoRoot: ROOT, wadoUriRoot: ROOT,
      qidoSupportsIncludeField: true, supportsWildcard: true, supportsReject: false,
      imageRendering: 'wadors', thumbnailRendering: 'wadors', enableStudyLazyLoad: true,
      singlepart: 'video,pdf', bulkDataURI: { enabled: true, relativeResolution: 'studies' },
      omitQuotationForMultipartRequest: true,
    },
  }],
};"""


@contextmanager
def stock_orthanc(home: Path) -> Iterator[RunningOrthanc]:
    """Start an Orthanc that asks nobody for a password."""
    config: OrthancConfig = research_config(home)
    path = write_configuration(config)
    settings = {**json.loads(path.read_text()), "AuthenticationEnabled": False}
    changed = path.with_name("stock.json")
    changed.write_text(json.dumps(settings))
    orthanc = RunningOrthanc(config)
    try:
        orthanc.start(changed)
        yield orthanc
    finally:
        orthanc.kill()


@contextmanager
def stock_viewer(orthanc: RunningOrthanc) -> Iterator[str]:
    """Serve OHIF on an Orthanc; yield its address."""
    app = FastAPI()
    script = _CONFIG.replace("ROOT", json.dumps(f"{orthanc.config.url}/dicom-web"))

    @app.get("/app-config.js")
    def config() -> Response:
        return Response(script, media_type=_TYPES[".js"])

    @app.get("/hanging.js")
    def hanging() -> Response:
        return FileResponse(ROOT / "ohif-config" / "hanging.js", media_type=_TYPES[".js"])

    @app.get("/{name:path}")
    def asset(name: str, request: Request) -> Response:
        path = OHIF_DIST / name
        if not name or "." not in name.rsplit("/", 1)[-1]:
            return FileResponse(OHIF_DIST / "index.html")
        if not path.is_file() or ".." in name:
            return Response(status_code=404)
        headers = dict(_KEPT)
        media_type = _TYPES.get(path.suffix)
        packed = path.with_name(path.name + ".gz")
        if packed.is_file() and "gzip" in request.headers.get("accept-encoding", ""):
            headers["Content-Encoding"] = "gzip"
            path = packed
        return FileResponse(path, media_type=media_type, headers=headers)

    with serving(app) as address:
        yield address
