"""The API's own description."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from node.auth import AnyCaller

router = APIRouter(prefix="/api", tags=["node"])


@router.get("/openapi.json")
def openapi(request: Request, _caller: AnyCaller) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document; `/api/docs` shows it to people."""
    document: dict[str, Any] = request.app.openapi()
    return document
