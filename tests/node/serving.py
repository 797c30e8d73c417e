"""Serve an application for a test: a real uvicorn on a free port of 127.0.0.1."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import uvicorn
from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp

from dicom.errors import RadloopError
from node.faults import fault, status_of
from tests.orthanc.servers import free_port


@contextmanager
def serving(app: ASGIApp) -> Iterator[str]:
    """Serve until the block ends; yield the address."""
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, access_log=False)
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server ended while it started"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)


async def coded(request: Request, error: Exception) -> JSONResponse:
    """Answer a coded error, for applications of a few routes."""
    assert isinstance(error, RadloopError)
    return JSONResponse(asdict(fault(error)), status_of(error))
