"""Collections and exports as API and pages show them, and the deeds that both offer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any

from fastapi import BackgroundTasks, Query

from dicom.errors import Conflict, InvalidRequest
from node.auth import Caller
from node.deeds import noted
from node.faults import Fault, fault_of
from node.parts import FrontParts
from pipelines.exports import get_format
from pipelines.exports.cases import Shares, check_name
from pipelines.projects import NODE, project_called
from pipelines.store import CollectionView, ExportView, NewExport, SeriesFilter, State

_NAME = re.compile(r"[^\x00-\x1f]{1,80}")


@dataclass(frozen=True, slots=True)
class Left:
    """How many series, or labels of series, a project did not take for one reason."""

    count: int
    fault: Fault


@dataclass(frozen=True, slots=True)
class Collection:
    """Series that somebody picked for a project.

    `series` is how many it has, `stored` and `refused` what became of them; patients, images and
    labels count what is stored. `filter` is how they were picked.
    """

    id: str
    name: str
    project: str
    filter: Mapping[str, Any]
    state: State
    cancel_requested: bool
    created_by: str
    created_at: datetime
    ended_at: datetime | None
    series: int
    stored: int
    refused: int
    studies: int
    patients: int
    images: int
    labels: int
    fault: Fault | None

    @property
    def is_open(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ("scheduled", "in_progress")

    @property
    def has_failed(self) -> bool:
        """Whether it ended with an error, and not by somebody's wish."""
        return self.fault is not None and self.fault.code != "canceled"


@dataclass(frozen=True, slots=True)
class Export:
    """A dataset for other tools; `card` says what is in it once it is written."""

    id: str
    name: str
    project: str
    collection: str | None
    filter: Mapping[str, Any]
    formats: tuple[str, ...]
    validation: float
    test: float
    seed: str
    zipped: bool
    licence: str
    description: str
    state: State
    cancel_requested: bool
    done: int
    total: int
    manifest_sha256: str | None
    files: int
    size_bytes: int
    card: Mapping[str, Any] | None
    created_by: str
    created_at: datetime
    ended_at: datetime | None
    deleted_at: datetime | None
    fault: Fault | None

    @property
    def is_open(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ("scheduled", "in_progress")

    @property
    def is_there(self) -> bool:
        """Whether it can be downloaded."""
        return self.state == "completed" and self.deleted_at is None

    @property
    def has_failed(self) -> bool:
        """Whether it ended with an error, and not by somebody's wish."""
        return self.fault is not None and self.fault.code != "canceled"


def view_collection(row: CollectionView) -> Collection:
    """Return a collection as it is shown."""
    return Collection(
        id=row.id,
        name=row.name,
        project=row.project,
        filter=row.wanted.as_json(),
        state=row.state,
        cancel_requested=row.cancel_requested,
        created_by=row.created_by,
        created_at=row.created_at,
        ended_at=row.ended_at,
        series=row.series,
        stored=row.stored,
        refused=row.refused,
        studies=row.studies,
        patients=row.patients,
        images=row.images,
        labels=row.labels,
        fault=fault_of(row.error_code, row.error_message),
    )


def view_export(row: ExportView) -> Export:
    """Return an export as it is shown."""
    order = row.order
    return Export(
        id=row.id,
        name=order.name,
        project=order.project,
        collection=order.collection_id,
        filter=order.wanted.as_json(),
        formats=order.formats,
        validation=order.validation,
        test=order.test,
        seed=order.seed,
        zipped=order.zipped,
        licence=order.licence,
        description=order.description,
        state=row.state,
        cancel_requested=row.cancel_requested,
        done=row.done,
        total=row.total,
        manifest_sha256=row.manifest_sha256,
        files=row.files,
        size_bytes=row.size_bytes,
        card=row.card,
        created_by=order.created_by,
        created_at=row.created_at,
        ended_at=row.ended_at,
        deleted_at=row.deleted_at,
        fault=fault_of(row.error_code, row.error_message),
    )


def refusals(parts: FrontParts, collection_id: str) -> tuple[list[Left], list[Left]]:
    """Return what a project did not take, by reason: series, and labels of series that it took."""
    members = parts.collections.members(collection_id)
    series: Counter[tuple[str, str]] = Counter(
        (one.reason_code, one.reason or "") for one in members if one.reason_code
    )
    labels = Counter((said["code"], said["message"]) for one in members for said in one.left_out)
    return _left(series), _left(labels)


def _left(counted: Mapping[tuple[str, str], int]) -> list[Left]:
    found = []
    for (code, message), count in sorted(counted.items(), key=lambda entry: -entry[1]):
        fault = fault_of(code, message)
        if fault is not None:
            found.append(Left(count, fault))
    return found


# --- what is asked ------------------------------------------------------------------------------


def series_filter(
    modality: Annotated[list[str] | None, Query()] = None,
    body_part: Annotated[list[str] | None, Query()] = None,
    text: Annotated[str, Query(max_length=200)] = "",
    received_from: Annotated[str, Query(description="YYYY-MM-DD")] = "",
    received_until: Annotated[str, Query(description="YYYY-MM-DD")] = "",
    within_days: Annotated[str, Query(description="received in the last so many days")] = "",
    with_labels: bool = False,
) -> SeriesFilter:
    """Return the filter of a request; a dependency. What a form leaves empty asks nothing.

    Raises
    ------
    InvalidRequest
    """
    return SeriesFilter(
        modality=tuple(filter(None, modality or ())),
        body_part=tuple(filter(None, body_part or ())),
        text=text.strip(),
        received_from=_day(received_from),
        received_until=_day(received_until),
        within_days=_whole(within_days),
        with_labels=with_labels,
    )


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise InvalidRequest("a day is written as 2026-11-21") from None


def _whole(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 5):
        raise InvalidRequest("the last so many days are a whole number")
    return int(text)


# --- deeds --------------------------------------------------------------------------------------


def begin_collection(
    parts: FrontParts,
    caller: Caller,
    bell: BackgroundTasks,
    *,
    name: str,
    project: str,
    wanted: SeriesFilter,
) -> Collection:
    """Note a collection of what the filter picks now, and wake the worker up after the answer.

    Raises
    ------
    NotFound
        When there is no such project.
    InvalidRequest
        When nothing matches, or the name is none.
    """
    if project_called(project, parts.projects) is NODE:
        raise InvalidRequest("the node itself collects by routes; choose a project")
    if not _NAME.fullmatch(name.strip()):
        raise InvalidRequest("a collection's name has 1 to 80 characters")
    picked = parts.picking.series(wanted)
    row = parts.collections.begin(
        name.strip(),
        project=project,
        wanted=wanted,
        series={one.id: (one.study_id, one.instance_count) for one in picked},
        created_by=caller.name,
    )
    about = f"project {project}, {row.series} series"
    noted(parts, caller, "collection_begun", of=row.id, bell=bell, reason=about)
    return view_collection(row)


def cancel_collection(parts: FrontParts, caller: Caller, collection: str) -> Collection:
    """Ask for a collection to end.

    Raises
    ------
    NotFound
    Conflict
        When it has ended.
    """
    noted(
        parts,
        caller,
        "collection_canceled",
        of=collection,
        is_taken=parts.collections.ask_cancel(collection),
        refusal="the collection has ended already",
    )
    return view_collection(parts.collections.collection(collection))


def retry_collection(
    parts: FrontParts, caller: Caller, bell: BackgroundTasks, collection: str
) -> Collection:
    """Schedule what is not stored again.

    Raises
    ------
    NotFound
    Conflict
        When it is open.
    """
    noted(
        parts,
        caller,
        "collection_retried",
        of=collection,
        is_taken=parts.collections.retry(collection),
        refusal="the collection is still under way",
        bell=bell,
    )
    return view_collection(parts.collections.collection(collection))


def begin_export(
    parts: FrontParts, caller: Caller, bell: BackgroundTasks, new: NewExport
) -> Export:
    """Note an export, and wake the worker up after the answer.

    Raises
    ------
    NotFound
        When there is no such project or collection.
    InvalidRequest, InvalidSettings
        When the name, the shares or a format cannot be.
    Conflict
        When nothing is stored of what is asked for.
    """
    project_called(new.project, parts.projects)
    if new.collection_id is not None:
        collection = parts.collections.collection(new.collection_id)
        if collection.project != new.project:
            raise InvalidRequest("the collection is of another project")
    check_name(new.name)
    Shares(new.validation, new.test, new.seed)
    if not new.formats:
        raise InvalidRequest("choose one format at least")
    for each in new.formats:
        get_format(each)
    if not parts.collections.stored_for(
        new.project, collection_id=new.collection_id, wanted=new.wanted
    ):
        raise Conflict("nothing of this is stored for the project yet; collect it first")
    row = parts.exports.begin(new)
    about = f"project {new.project}: {', '.join(new.formats)}"
    noted(parts, caller, "export_begun", of=row.id, bell=bell, reason=about)
    return view_export(row)


def cancel_export(parts: FrontParts, caller: Caller, export: str) -> Export:
    """Ask for an export to end.

    Raises
    ------
    NotFound
    Conflict
        When it has ended.
    """
    noted(
        parts,
        caller,
        "export_canceled",
        of=export,
        is_taken=parts.exports.ask_cancel(export),
        refusal="the export has ended already",
    )
    return view_export(parts.exports.export(export))


def retry_export(parts: FrontParts, caller: Caller, bell: BackgroundTasks, export: str) -> Export:
    """Schedule a failed or canceled export again; it goes on where it stopped.

    Raises
    ------
    NotFound
    Conflict
        When it is open, completed or deleted.
    """
    noted(
        parts,
        caller,
        "export_retried",
        of=export,
        is_taken=parts.exports.retry(export),
        refusal="only an export that failed or was canceled can be tried again",
        bell=bell,
    )
    return view_export(parts.exports.export(export))


def delete_export(parts: FrontParts, caller: Caller, export: str) -> None:
    """Remove an export's files; that it was, and whom it held, stays in the rows.

    Raises
    ------
    NotFound
    Conflict
        While it is under way.
    """
    if not parts.exports.delete(export, deleted_by=caller.name):
        raise Conflict("the export is under way; cancel it first")
    parts.export_files.remove(export)
    parts.audit.note("export_deleted", actor=caller.name, object=export)
