"""What Orthanc says of a study's series and images, kept in memory while the study stays as it is.

Orthanc 1.10 reads every file of a series again each time that a viewer opens it: seconds for 500
slices. Here such an answer is kept as gzip, and before it is given again the archive is asked
whether it is still what it was: first the whole archive, which takes no time
(node/archive_state.py), and where anything came or went, the study. The archive is the only one who
knows: studies change by C-STORE, by STOW-RS, by the worker, by hand, and the worker is another
process.

A study's version is the time of its last instance with the number and the size of all; a series'
is that time with the names of all, which one question tells: a viewer asks for hundreds of series,
and a stored correction costs nobody the metadata of the images. Orthanc's change feed would be
less to ask, but it does not tell what was deleted.
Orthanc tells that time in whole seconds: two instances may come within one, so an answer is kept
only where the last instance had come at least two seconds before it was asked for.

Answers hold patients' data: they are in this process's memory and nowhere else.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from weakref import WeakValueDictionary

import httpx

from node.archive_state import ArchiveState

_UID = r"[0-9.]{1,64}"
_KEEPABLE = re.compile(
    rf"studies/({_UID})/(series|instances|metadata|series/{_UID}/(instances|metadata)"
    rf"|series/{_UID}/instances/{_UID}/metadata)"
)
_OF_SERIES = re.compile(rf"studies/{_UID}/series/({_UID})/")
_SETTLED = timedelta(seconds=2)
_CLOCK = "%Y%m%dT%H%M%S"  # Orthanc's, in UTC
_SHARE = 4  # one answer takes at most a quarter of the memory
_LAYOUT = b"\t\n\r"  # jsoncpp's; within a JSON string they are escaped (RFC 8259, 7)
_LEVEL = 3  # of gzip: 10 MB in 70 ms, to 3 %


def study_of(path: str) -> str | None:
    """Return the StudyInstanceUID whose metadata a DICOMweb path asks for; None of other paths."""
    found = _KEEPABLE.fullmatch(path)
    return found[1] if found else None


def series_of(path: str) -> str | None:
    """Return the SeriesInstanceUID whose metadata a DICOMweb path asks for; None of a study's."""
    found = _OF_SERIES.match(path)
    return found[1] if found and _KEEPABLE.fullmatch(path) else None


@dataclass(frozen=True, slots=True)
class Kept:
    """One answer, as it is kept.

    Attributes
    ----------
    packed : bytes
        gzip of the JSON, without line ends and tabs between its values.
    media_type : str
        The Content-Type that the archive gave.
    etag : str
        Of the content, in quotes.
    """

    packed: bytes = field(repr=False)
    media_type: str
    etag: str

    @property
    def plain(self) -> bytes:
        """Return the JSON."""
        return gzip.decompress(self.packed)

    def replace(self, old: bytes, new: bytes) -> Kept:
        """Return the same answer with other text in place of `old`."""
        plain = self.plain
        return pack(plain.replace(old, new), self.media_type) if old in plain else self


def pack(content: bytes, media_type: str) -> Kept:
    """Return an answer's JSON as it is kept."""
    content = content.translate(None, _LAYOUT)
    return Kept(
        gzip.compress(content, compresslevel=_LEVEL, mtime=0),
        media_type,
        f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"',
    )


Fetch = Callable[[], Awaitable[Kept | None]]
"""Asks the archive; None where the answer is not to be kept, and somebody else gives it."""


Beside = tuple[Hashable, Callable[[Kept], Awaitable[Kept]]]


@dataclass(slots=True)
class _Question:
    """What one study, one series or the archive is now, asked for by several at once."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    begun: int = 0
    answer: str | None = None
    __weakref__: object = field(init=False, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class _Entry:
    """An answer, the version of what it is about, and the archive's state, when it was right."""

    version: str
    state: str | None
    kept: Kept


class _Fetching:
    """One answer on its way: who wants the same one waits for it."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()


class MetadataCache:
    """Answers of one archive, for one event loop.

    Parameters
    ----------
    archive : httpx.AsyncClient
        Of the archive's REST API; not closed here.
    most_bytes : int
        What is kept, compressed; what was longest not asked for goes first. 0: nothing.
    state : ArchiveState, optional
        Of the same archive; not closed here. Without it every question is about a study.
    """

    def __init__(
        self,
        archive: httpx.AsyncClient,
        *,
        most_bytes: int,
        state: ArchiveState | None = None,
    ) -> None:
        self._archive = archive
        self._state = state
        self._most_bytes = most_bytes
        self._bytes = 0
        self._kept: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._now: datetime | None = None  # by the archive's clock, when it was last asked
        self._questions: WeakValueDictionary[str, _Question] = WeakValueDictionary()
        self._fetching: WeakValueDictionary[Hashable, _Fetching] = WeakValueDictionary()

    async def answer(
        self,
        key: Hashable,
        study_uid: str,
        fetch: Fetch,
        *,
        series_uid: str | None = None,
        beside: Beside | None = None,
    ) -> Kept | None:
        """Return what `fetch` returned, or would return now.

        Parameters
        ----------
        key : Hashable
            All that the answer depends on, besides what the archive holds.
        study_uid : str
            The study that it is about.
        fetch : callable
            Asks the archive; what it raises is raised.
        series_uid : str, optional
            The series, where it is about nothing else of the study.
        beside : tuple, optional
            The key of another answer, and how this one is made of it.

        Returns
        -------
        Kept or None
            None where `fetch` returned that, or nothing is ever kept.
        """
        if not self._most_bytes:
            return None
        # Asked for before all else: what changes from here on makes another state.
        state = await self._shared("", self._state.now) if self._state is not None else None
        known = self._kept.get(key)
        if known is not None and state is not None and known.state == state:
            self._kept.move_to_end(key)
            return known.kept
        version = await self._version(study_uid, series_uid)
        if version is None:  # no such study, or an archive that does not tell
            return None
        fetching = self._fetching.get(key)
        if fetching is None:
            fetching = self._fetching[key] = _Fetching()
        async with fetching.lock:
            known = self._kept.get(key)
            if known is not None and known.version == version:
                self._keep(key, replace(known, state=state))
                return known.kept
            other = self._kept.get(beside[0]) if beside is not None else None
            if beside is not None and other is not None and other.version == version:
                made = await beside[1](other.kept)
                self._keep(key, _Entry(version, state, made))
                return made
            is_settled = await self._is_settled(version)
            found = await fetch()
            # What came in while it was fetched has changed the version: it will be asked again.
            if found is not None and is_settled:
                self._keep(key, _Entry(version, state, found))
            return found

    def _keep(self, key: Hashable, entry: _Entry) -> None:
        self._drop(key)
        if len(entry.kept.packed) > self._most_bytes // _SHARE:
            return
        self._kept[key] = entry
        self._bytes += len(entry.kept.packed)
        while self._bytes > self._most_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: Hashable) -> None:
        known = self._kept.pop(key, None)
        if known is not None:
            self._bytes -= len(known.kept.packed)

    async def _version(self, study_uid: str, series_uid: str | None) -> str | None:
        """Return the version of a study, or of a series."""
        if series_uid is None:
            return await self._shared(study_uid, lambda: self._version_of_study(study_uid))
        return await self._shared(series_uid, lambda: self._version_of_series(series_uid))

    async def _shared(self, name: str, ask: Callable[[], Awaitable[str | None]]) -> str | None:
        """Return the answer to a question that began after the call.

        A viewer asks for much at once: those that wait share the next question.
        """
        question = self._questions.get(name)
        if question is None:
            question = self._questions[name] = _Question()
        before = question.begun
        async with question.lock:
            if question.begun == before:  # none began since we came
                question.begun += 1
                question.answer = None
                question.answer = await ask()
            return question.answer

    async def _version_of_series(self, series_uid: str) -> str | None:
        """Ask once: what Orthanc finds of a series names each of its instances."""
        found = await self._find("Series", {"SeriesInstanceUID": series_uid})
        parts = []
        for one in found:
            names = hashlib.blake2b("\n".join(sorted(one["Instances"])).encode(), digest_size=16)
            parts.append((str(one.get("LastUpdate", "")), str(one["ID"]), names.hexdigest()))
        return _joined(parts)

    async def _version_of_study(self, study_uid: str) -> str | None:
        parts = []
        for one in await self._find("Study", {"StudyInstanceUID": study_uid}):
            held = await self._told(f"studies/{one['ID']}/statistics")
            if held is None:
                return None
            told = held.json()
            counts = (told["CountSeries"], told["CountInstances"], told["DiskSize"])
            last = str(one.get("LastUpdate", ""))
            parts.append((last, str(one["ID"]), " ".join(map(str, counts))))
        return _joined(parts)

    async def _find(self, level: str, query: dict[str, str]) -> list[dict[str, Any]]:
        """Return what the archive has of a UID: one, or several by patients' ids; or none."""
        asked = {"Level": level, "Query": query, "Expand": True}
        try:
            answer = await self._archive.post("tools/find", json=asked)
        except httpx.TransportError:
            return []  # the request itself will say so
        if answer.status_code != httpx.codes.OK:
            return []
        found: list[dict[str, Any]] = answer.json()
        return found

    async def _told(self, path: str) -> httpx.Response | None:
        try:
            answer = await self._archive.get(path)
        except httpx.TransportError:
            return None
        return answer if answer.status_code == httpx.codes.OK else None

    async def _is_settled(self, version: str) -> bool:
        """Return whether another instance, from now on, would surely change the version."""
        try:
            last = max(_time(part.split(" ", 1)[0]) for part in version.split("\n"))
            if self._now is not None and self._now - last >= _SETTLED:
                return True  # it was settled already when the archive was last asked for its time
            now = await self._told("tools/now")
            self._now = None if now is None else _time(now.text)
        except ValueError:  # an archive with another way to tell the time
            return False
        return self._now is not None and self._now - last >= _SETTLED


def _joined(parts: list[tuple[str, str, str]]) -> str | None:
    """Return one text of what was told; None where nothing was, or not since when it is so."""
    if not all(last for last, *_ in parts):
        return None
    return "\n".join(" ".join(part) for part in sorted(parts)) or None


def _time(text: str) -> datetime:
    return datetime.strptime(text.strip(), _CLOCK).replace(tzinfo=UTC)
