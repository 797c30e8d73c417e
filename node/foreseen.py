"""Metadata of series that have just become complete, asked for before a reader does.

Orthanc tells in its change feed which series have been quiet for a second. Their metadata goes into
the front's memory (node/metadata_cache.py), so that also the first one who opens a study waits for
none of it. Nothing depends on it: what is missing is asked for when somebody wants it.

It is every series: the viewer asks for the metadata of all, corrected segmentations too, since only
that tells which correction is the last (ohif-config/hanging.js). Voxels are asked for of the last
ones alone, and foreseen of none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import structlog

from dicom.errors import PeerError

_LOOK_EVERY_S = 2.0
_SETTLING_S = 3.5  # before that the memory keeps nothing: see metadata_cache
_REST_S = 0.1  # between two series: readers come first
_PAGE = 200
_MOST_AWAITED = 2000

log = structlog.get_logger()

Remember = Callable[[str, str], Awaitable[None]]
"""Takes a StudyInstanceUID and a SeriesInstanceUID."""


async def follow(archive: httpx.AsyncClient, remember: Remember) -> None:
    """Have the metadata of every series that becomes complete remembered, until it is canceled.

    Parameters
    ----------
    archive : httpx.AsyncClient
        Of the archive's REST API.
    remember : callable
        Asks for a series' metadata and keeps the answer.
    """
    since: int | None = None
    awaited: dict[str, float] = {}  # by Orthanc's ids, and when they are worth asking for
    clock = asyncio.get_running_loop().time
    while True:
        try:
            since = await _note(archive, since, awaited, clock() + _SETTLING_S)
            for orthanc_id in [one for one, due in awaited.items() if due <= clock()]:
                del awaited[orthanc_id]
                name = await _name(archive, orthanc_id)
                if name is not None:
                    await remember(*name)
                    await asyncio.sleep(_REST_S)
        except (httpx.HTTPError, PeerError) as error:  # it starts, or it is down
            log.debug("archive_silent", reason=type(error).__name__)
        await asyncio.sleep(_LOOK_EVERY_S)


async def _note(
    archive: httpx.AsyncClient, since: int | None, awaited: dict[str, float], due: float
) -> int:
    """Note the series that became complete since then; return up to where it was read."""
    if since is None:
        return int((await _json(archive, "changes?last"))["Last"])
    while True:
        told = await _json(archive, f"changes?since={since}&limit={_PAGE}")
        for change in told["Changes"]:
            if change["ChangeType"] == "StableSeries" and len(awaited) < _MOST_AWAITED:
                awaited[change["ID"]] = due
        since = int(told["Last"])
        if told["Done"]:
            return since


async def _name(archive: httpx.AsyncClient, orthanc_id: str) -> tuple[str, str] | None:
    """Return the UIDs of a series and of its study; None when it is gone."""
    series = await archive.get(f"series/{orthanc_id}")
    if series.status_code != httpx.codes.OK:
        return None
    told = series.json()
    study = await archive.get(f"studies/{told['ParentStudy']}")
    if study.status_code != httpx.codes.OK:
        return None
    return (
        str(study.json()["MainDicomTags"]["StudyInstanceUID"]),
        str(told["MainDicomTags"]["SeriesInstanceUID"]),
    )


async def _json(archive: httpx.AsyncClient, path: str) -> dict[str, Any]:
    answer = await archive.get(path)
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found
