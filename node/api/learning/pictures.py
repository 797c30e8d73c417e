"""Pictures as the routes of learning answer them."""

from __future__ import annotations

from typing import Any, Final

from fastapi.responses import Response

PNG: Final[dict[int | str, dict[str, Any]]] = {200: {"content": {"image/png": {}}}}
"""What such a route says of its answer."""


def picture(png: bytes) -> Response:
    """Return a PNG that the browser keeps for a minute."""
    return Response(png, media_type="image/png", headers={"Cache-Control": "private, max-age=60"})
