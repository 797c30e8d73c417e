"""Labels documents in the bodies of requests and answers."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.responses import Response

from dicom.errors import InvalidRequest, TooLarge
from pipelines.labels import MEDIA_TYPE, MOST_BYTES

REQUEST_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
    }
}
"""For `openapi_extra` of a route that takes a labels document."""


class LabelsResponse(Response):
    """A labels document; it is compressed already."""

    media_type = MEDIA_TYPE
    charset = ""


async def labels_body(request: Request) -> bytes:
    """Return a request's labels document as it came; what is too long is not read to its end.

    Raises
    ------
    InvalidRequest
        When the request says that it is something else.
    TooLarge
    """
    if request.headers.get("content-type", "").split(";")[0].strip() != MEDIA_TYPE:
        raise InvalidRequest(f"the request's Content-Type is not {MEDIA_TYPE}")
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > MOST_BYTES:
            raise TooLarge(f"labels of more than {MOST_BYTES >> 20} MiB")
    return bytes(content)


LabelsBody = Annotated[bytes, Depends(labels_body)]
