"""What Orthanc says of a study's series and images, kept in memory while the study stays as it is.

Orthanc 1.10 reads every file of a series again each time that a viewer opens it: seconds for 500
slices. Here such an answer is kept as gzip, and before it is given again the archive is asked, in
milliseconds, whether the study is still what it was. The archive is the only one who knows: studies
change by C-STORE, by STOW-RS, by the worker, by hand, and the worker is another process.

A study's version is the time of its last instance with the number and the size of all; a series'
is the same of the series, so that a stored correction costs nobody the metadata of the images.
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
from typing import Literal
from weakref import WeakValueDictionary

import httpx

_UID = r"[0-9.]{1,64}"
_KEEPABLE = re.compile(
    rf"studies/({_UID})/(series|instances|metadata|series/{_UID}/(instances|metadata)"
    rf"|series/{_UID}/instances/{_UID}/metadata)"
)
_OF_SERIES = re.compile(rf"studies/{_UID}/series/({_UID})/")
_SETTLED = timedelta(seconds=2)
_ROOMS = {"Study": "studies", "Series": "series"}  # of Orthanc's REST API
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
    """The version of one study, asked for by several at once."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    begun: int = 0
    version: str | None = None
    __weakref__: object = field(init=False, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class _Entry:
    """An answer, the study's version when it was last right, and the version of its series."""

    version: str
    own: str | None
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
    """

    def __init__(self, archive: httpx.AsyncClient, *, most_bytes: int) -> None:
        self._archive = archive
        self._most_bytes = most_bytes
        self._bytes = 0
        self._kept: OrderedDict[Hashable, _Entry] = OrderedDict()
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
        version = await self._version(study_uid)
        if version is None:  # no such study, or an archive that does not tell
            return None
        fetching = self._fetching.get(key)
        if fetching is None:
            fetching = self._fetching[key] = _Fetching()
        async with fetching.lock:
            known = self._kept.get(key)
            if known is not None and known.version == version:
                self._kept.move_to_end(key)
                return known.kept
            own = None if series_uid is None else await self._ask_version("Series", series_uid)
            if known is not None and own is not None and known.own == own:
                if await self._is_settled(version):
                    self._keep(key, replace(known, version=version))
                return known.kept
            other = self._kept.get(beside[0]) if beside is not None else None
            if beside is not None and other is not None:
                is_right = other.version == version or (own is not None and other.own == own)
                if is_right:
                    made = await beside[1](other.kept)
                    self._keep(key, replace(other, kept=made))
                    return made
            is_settled = await self._is_settled(own or version)
            found = await fetch()
            # What came in while it was fetched has changed the version: it will be asked again.
            if found is not None and is_settled:
                self._keep(key, _Entry(version, own, found))
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

    async def _version(self, study_uid: str) -> str | None:
        """Return the version of a study by a question that began after the call.

        A viewer asks for hundreds of series at once: those that wait share the next question.
        """
        question = self._questions.get(study_uid)
        if question is None:
            question = self._questions[study_uid] = _Question()
        before = question.begun
        async with question.lock:
            if question.begun == before:  # none began since we came
                question.begun += 1
                question.version = None
                question.version = await self._ask_version("Study", study_uid)
            return question.version

    async def _ask_version(self, level: Literal["Study", "Series"], uid: str) -> str | None:
        query = {"Level": level, "Query": {f"{level}InstanceUID": uid}, "Expand": True}
        try:
            found = await self._archive.post("tools/find", json=query)
            if found.status_code != httpx.codes.OK:
                return None
            # Orthanc tells studies of one UID apart by PatientID, hence more than one.
            resources = sorted(
                (str(one["ID"]), str(one.get("LastUpdate", ""))) for one in found.json()
            )
            parts = []
            for orthanc_id, last_update in resources:
                told = await self._archive.get(f"{_ROOMS[level]}/{orthanc_id}/statistics")
                if told.status_code != httpx.codes.OK or not last_update:
                    return None
                held = told.json()
                counts = (held.get("CountSeries"), held["CountInstances"], held["DiskSize"])
                parts.append(" ".join((last_update, orthanc_id, *map(str, counts))))
        except httpx.TransportError:
            return None  # the request itself will say so
        return "\n".join(parts) or None

    async def _is_settled(self, version: str) -> bool:
        """Return whether another instance, from now on, would surely change the version."""
        try:
            now = await self._archive.get("tools/now")
        except httpx.TransportError:
            return False
        if now.status_code != httpx.codes.OK:
            return False
        last = max(part.split(" ", 1)[0] for part in version.split("\n"))
        try:
            return _time(now.text) - _time(last) >= _SETTLED
        except ValueError:  # an archive with another way to tell the time
            return False


def _time(text: str) -> datetime:
    return datetime.strptime(text.strip(), _CLOCK).replace(tzinfo=UTC)
