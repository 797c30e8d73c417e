"""`/`: the studies, their jobs, what goes on; and the way into the viewer."""

from __future__ import annotations

from typing import Annotated, get_args
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from dicom.archive import ArchivedStudy
from node.api.health import WORKER_SILENT
from node.auth import AnyCaller, Caller, ClinicalCaller
from node.pages.patients import Patients
from node.pages.render import render
from node.parts import FrontParts, parts_of
from node.views import Study, view_study
from pipelines.store import Standing, StudyView

_A_PAGE = 25

router = APIRouter(include_in_schema=False)


@router.get("/", response_class=HTMLResponse)
def studies_page(
    request: Request,
    caller: AnyCaller,
    show: Standing | None = None,
    page: Annotated[int, Query(ge=1, le=100_000)] = 1,
) -> Response:
    """Show the studies, the newest first, a page at a time."""
    parts = parts_of(request)
    rows = parts.studies.studies(standing=show, limit=_A_PAGE + 1, offset=(page - 1) * _A_PAGE)
    shown = rows[:_A_PAGE]
    ids = [row.id for row in shown]
    series, jobs = parts.studies.series_of_studies(ids), parts.jobs.jobs_of_studies(ids)
    return render(
        "studies.html",
        caller=caller,
        version=parts.version,
        studies=[view_study(row, series[row.id], jobs[row.id]) for row in shown],
        patients=identities(request, caller, shown),
        show=show,
        counts={"all": parts.studies.count()}
        | {standing: parts.studies.count(standing) for standing in get_args(Standing)},
        page=page,
        has_more=len(rows) > _A_PAGE,
        worker_alive=bool(parts.access.workers_seen(within=WORKER_SILENT)),
        dicom=parts.dicom,
    )


@router.get("/fragments/studies/{study}", response_class=HTMLResponse)
def study_fragment(study: str, request: Request, caller: AnyCaller) -> Response:
    """Return one study as a piece of the page, for a study that has just arrived."""
    parts = parts_of(request)
    row = parts.studies.study(study)
    return render(
        "_study.html",
        caller=caller,
        study=_view(parts, row),
        patients=identities(request, caller, [row]),
    )


@router.get("/fragments/studies/{study}/work", response_class=HTMLResponse)
def work_fragment(study: str, request: Request, caller: AnyCaller) -> Response:
    """Return what is done with one study as a piece of the page; without identity."""
    parts = parts_of(request)
    return render("_work.html", caller=caller, study=_view(parts, parts.studies.study(study)))


@router.get("/open/{study}")
def open_study(study: str, request: Request, caller: ClinicalCaller) -> Response:
    """Go to the viewer: a link of ours holds the pseudonym, only the last step the real UID."""
    parts = parts_of(request)
    original = parts.clinical.study(parts.studies.study(study).orthanc_id)
    parts.audit.note("study_opened", actor=caller.name, object=study)
    uid = quote(original.study_uid, safe="")
    return RedirectResponse(f"/ohif/viewer?StudyInstanceUIDs={uid}", status_code=303)


def identities(request: Request, caller: Caller, rows: list[StudyView]) -> dict[str, ArchivedStudy]:
    """Return the identity of these studies for the eyes of a clinical role, else nothing."""
    if not caller.is_clinical or not rows:
        return {}
    patients: Patients = request.app.state.patients
    found = patients.of(rows)
    one = rows[0].id if len(rows) == 1 else ""
    parts_of(request).audit.note(
        "names_listed", actor=caller.name, object=one, reason=f"{len(found)} studies"
    )
    return found


def _view(parts: FrontParts, row: StudyView) -> Study:
    return view_study(row, parts.studies.series_of(row.id), parts.jobs.jobs_of(row.id))
