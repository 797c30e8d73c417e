"""Blind reading in what the clinical archive answers by itself: DICOMweb, as the viewer asks it.

Of a study with an open round, the series of corrections that are hidden from the caller are not
there: not by name, not in a list or in metadata, and not in a count. Whatever could tell that they
exist is answered as if they did not: the numbers of series and instances, the modalities of the
study, the length of a page. All other requests go through untouched.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlencode

from pydicom.datadict import tag_for_keyword
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicom.archive import ListedSeries
from dicom.errors import ArchiveMismatch, NotFound, RadloopError
from node.faults import fault, status_of
from node.parts import FrontParts

_NOBODY: Final = ""  # sees least: what is hidden from anyone is hidden from nobody
_LOOK_EVERY_S: Final = 1.0
_ROOT: Final = "/dicom-web/"
_LIST: Final = re.compile(r"(studies/[^/]+/(series/[^/]+/)?)?(studies|series|instances)")
_OF_STUDY: Final = re.compile(r"studies/([^/]+)(/.*)?")
_NOWHERE: Final = f"{_ROOT}nowhere"  # a guard stands before it, and nothing behind
_WHOLE: Final = re.compile(r"studies/[^/]+(/rendered|/thumbnail)?")
_PAGING: Final = ("limit", "offset")
_NO_MATCH: Final = (*_PAGING, "includefield", "fuzzymatching", "token")

_STUDY_UID, _SERIES_UID, _MODALITIES = "0020000D", "0020000E", "00080061"
_SERIES_COUNT, _INSTANCE_COUNT = "00201206", "00201208"
_COUNTS: Final = (_SERIES_COUNT, _INSTANCE_COUNT)
# PS3.18 10.6.3.3.1 and the study's other attributes: any other one comes of some instance of it.
_OF_A_STUDY: Final = frozenset(
    {
        "00080005", "00080020", "00080030", "00080050", "00080056", "00080090", "00081030",
        "00081190", "00080201", "00100010", "00100020", "00100021", "00100030", "00100032",
        "00100040", "00101000", "00101001", "00101010", "00101020", "00101030", "00102160",
        "00102180", "001021B0", "00104000", "00200010", _STUDY_UID, _MODALITIES, *_COUNTS,
    }
)  # fmt: skip

Attributes = dict[str, Any]
"""A dataset of the DICOM JSON model (PS3.18 F.2)."""


@dataclass(frozen=True, slots=True)
class _Study:
    """A study with an open round: its id in the archive, and its pseudonym."""

    orthanc_id: str
    pseudonym: str


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request to the archive, as far as it matters here: its path, and what a list has to be."""

    path: str
    query: tuple[tuple[str, str], ...]

    @property
    def study_uid(self) -> str | None:
        found = _OF_STUDY.fullmatch(self.path)
        return found[1] if found else None

    @property
    def is_list(self) -> bool:
        return _LIST.fullmatch(self.path) is not None

    @property
    def is_metadata(self) -> bool:
        return self.path.endswith("/metadata")

    def page(self) -> slice:
        """Return which of all that match are asked for."""
        said = {name.lower(): value for name, value in self.query}
        start = _whole(said.get("offset", "")) or 0
        limit = _whole(said.get("limit", ""))
        return slice(start, None if limit is None else start + limit)

    def query_of(self, *, more: int) -> bytes:
        """Return the query that asks for the same from the first on, and for some more."""
        page = self.page()
        kept = [(name, value) for name, value in self.query if name.lower() not in _PAGING]
        if page.stop is not None:
            kept.append(("limit", str(page.stop + more)))
        return urlencode(kept).encode()

    def wanted(self) -> dict[str, str]:
        """Return what is matched, by tag."""
        return {_tag(name): v for name, v in self.query if name.lower() not in _NO_MATCH and v}


class BlindArchive:
    """ASGI middleware: takes hidden series out of what `/dicom-web` answers.

    Parameters
    ----------
    app : ASGIApp
        What answers.
    parts : FrontParts
        Of the front.
    """

    def __init__(self, app: ASGIApp, *, parts: FrontParts) -> None:
        self._app = app
        self._parts = parts
        self._rounds = parts.reading.rounds
        self._looked_at = -math.inf
        self._open: Mapping[str, _Study] = {}
        self._uids: dict[str, tuple[str, _Study]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        is_read = scope["type"] == "http" and scope["method"] == "GET"
        if not is_read or not scope["path"].startswith(_ROOT):
            await self._app(scope, receive, send)
            return
        try:
            studies = await self._studies_read_blind()
        except RadloopError as error:  # what is hidden cannot be told: nothing is
            await _refuse(send, error)
            return
        asked = _asked(scope)
        if not studies or (asked.study_uid is not None and asked.study_uid not in studies):
            await self._app(scope, receive, send)
        elif _WHOLE.fullmatch(asked.path):
            # Every instance of a study at once: fetched series by series while it is read blind.
            await self._app({**scope, "path": _NOWHERE}, receive, send)
        else:
            await self._answer(asked, studies, scope, receive, send)

    async def _answer(
        self,
        asked: _Asked,
        studies: Mapping[str, _Study],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        held = asked.is_list or asked.is_metadata
        if held:
            hidden_at_most = len(await run_in_threadpool(self._hidden_from, _NOBODY))
            scope = _plain(scope, asked, more=hidden_at_most)
        state: dict[str, Any] = scope.setdefault("state", {})
        start: Message | None = None
        hidden: frozenset[str] = frozenset()
        refused = False
        body = bytearray()

        async def look(message: Message) -> None:
            nonlocal start, hidden, refused
            if message["type"] == "http.response.start":
                caller = state.get("caller")
                hidden = await run_in_threadpool(self._hidden_from, caller.name if caller else "")
                refused = any(part in hidden for part in asked.path.split("/")) or (
                    held and message["status"] < 300 and not _is_json(message)
                )
                if refused:
                    await _refuse(send, NotFound("there is nothing at this address"))
                elif held and message["status"] < 300:
                    start = message
                else:
                    await send(message)
            elif start is not None:
                body.extend(message.get("body", b""))
                if not message.get("more_body", False):
                    kept = await run_in_threadpool(self._kept, asked, studies, hidden, bytes(body))
                    await _send(start, kept, send)
            elif not refused:
                await send(message)

        await self._app(scope, receive, look)

    def _kept(
        self, asked: _Asked, studies: Mapping[str, _Study], hidden: frozenset[str], body: bytes
    ) -> bytes:
        """Return a DICOM JSON answer (PS3.18 F.2) as if there were no hidden series."""
        if not body:
            return body
        datasets = json.loads(body)
        if not isinstance(datasets, list):
            return body
        shown = [one for one in datasets if _value(one, _SERIES_UID) not in hidden]
        if asked.is_list:
            facts = self._facts(studies, hidden, {_value(one, _STUDY_UID) for one in shown})
            wanted, of_studies = asked.wanted(), asked.path == "studies"
            shown = [
                _as_if(one, facts[uid], of_studies=of_studies) if uid in facts else one
                for one in shown
                if (uid := _value(one, _STUDY_UID)) not in facts
                or _matches(wanted, facts[uid or ""], of_studies=of_studies)
            ][asked.page()]
        return json.dumps(shown, separators=(",", ":")).encode()

    def _facts(
        self, studies: Mapping[str, _Study], hidden: frozenset[str], uids: Iterable[str | None]
    ) -> dict[str | None, Sequence[ListedSeries]]:
        """Return the series of those studies that are read blind, without the hidden ones."""
        listed = self._parts.clinical.listed_series
        return {
            uid: [each for each in listed(studies[uid].orthanc_id) if each.series_uid not in hidden]
            for uid in uids
            if uid is not None and uid in studies
        }

    async def _studies_read_blind(self) -> Mapping[str, _Study]:
        """Return the studies with an open round, by their UIDs in the archive.

        Asked once a second, since a viewer asks for every slice: a round hides what is done after
        its beginning, and nobody saves within a second of it.
        """
        if time.monotonic() - self._looked_at > _LOOK_EVERY_S:
            self._open = await run_in_threadpool(self._look)
            self._looked_at = time.monotonic()
        return self._open

    def _look(self) -> Mapping[str, _Study]:
        pseudonyms = {study for study, _author in self._rounds.unseen_by(_NOBODY).since}
        for pseudonym in pseudonyms - self._uids.keys():
            orthanc_id = self._parts.studies.study(pseudonym).orthanc_id
            try:
                study_uid = self._parts.clinical.study(orthanc_id).study_uid
            except ArchiveMismatch:  # deleted since: there is nothing to hide
                continue
            self._uids[pseudonym] = study_uid, _Study(orthanc_id, pseudonym)
        return dict(self._uids[one] for one in pseudonyms if one in self._uids)

    def _hidden_from(self, user: str) -> frozenset[str]:
        return self._rounds.hidden_series(self._rounds.unseen_by(user))


def _asked(scope: Scope) -> _Asked:
    query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    return _Asked(unquote(scope["path"]).removeprefix(_ROOT).strip("/"), tuple(query))


def _plain(scope: Scope, asked: _Asked, *, more: int) -> Scope:
    """Return the request for plain JSON, whole, from the first match on."""
    gone = (b"accept-encoding", b"if-none-match", b"range", b"accept")
    headers = [(name, value) for name, value in scope["headers"] if name.lower() not in gone]
    headers.append((b"accept", b"application/dicom+json"))
    changed = {**scope, "headers": headers}
    if asked.is_list:
        changed["query_string"] = asked.query_of(more=more)
    return changed


def _matches(
    wanted: Mapping[str, str], series: Sequence[ListedSeries], *, of_studies: bool
) -> bool:
    """Whether a study is still one that was asked for, by the series that are shown.

    The archive looked at hidden ones, too. What is asked of studies by an attribute that is none of
    a study's, it looks up in any one of its instances: such a study is not found.
    """
    if of_studies and not wanted.keys() <= _OF_A_STUDY:
        return False
    modalities = wanted.get(_MODALITIES)
    if modalities and not {*re.split(r"[\\,]", modalities)} & {each.modality for each in series}:
        return False
    counts = _numbers(series)
    return all(wanted.get(tag, str(counts[tag])) == str(counts[tag]) for tag in _COUNTS)


def _as_if(dataset: Attributes, series: Sequence[ListedSeries], *, of_studies: bool) -> Attributes:
    """Return what is told of a study, as if only these series were there."""
    kept = {tag: v for tag, v in dataset.items() if not of_studies or tag in _OF_A_STUDY}
    for tag, number in _numbers(series).items():
        if tag in kept:
            kept[tag] = {**kept[tag], "Value": [number]}
    if _MODALITIES in kept:
        shown = sorted({each.modality for each in series if each.modality})
        kept[_MODALITIES] = {**kept[_MODALITIES], "Value": shown}
    return kept


def _numbers(series: Sequence[ListedSeries]) -> dict[str, int]:
    return {
        _SERIES_COUNT: len(series),
        _INSTANCE_COUNT: sum(each.instances for each in series),
    }


def _value(dataset: object, tag: str) -> str | None:
    element = dataset.get(tag) if isinstance(dataset, Mapping) else None
    values = element.get("Value") if isinstance(element, Mapping) else None
    return str(values[0]) if values else None


def _tag(attribute: str) -> str:
    tag = tag_for_keyword(attribute)
    return attribute.upper() if tag is None else f"{tag:08X}"


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None


def _is_json(message: Message) -> bool:
    return "json" in Headers(raw=message["headers"]).get("content-type", "")


async def _refuse(send: Send, error: RadloopError) -> None:
    body = json.dumps(asdict(fault(error))).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status_of(error), "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _send(start: Message, body: bytes, send: Send) -> None:
    headers = MutableHeaders(raw=list(start["headers"]))
    del headers["etag"]
    headers["content-length"] = str(len(body))
    headers["cache-control"] = "no-store"
    await send({**start, "headers": headers.raw})
    await send({"type": "http.response.body", "body": body})
