"""What is asked for and done later: batches; and what is not asked for here: scores, logs."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Request

from dicom.errors import InvalidRequest, NotFound
from node.auth import AdminCaller, ClinicalCaller
from node.monailabel.labels import known_labels
from node.monailabel.state import state_of
from node.parts import parts_of

router = APIRouter(prefix="/monailabel", tags=["monailabel"])

Params = dict[str, Any] | None


# --- batches ------------------------------------------------------------------------------------


@router.post("/batch/infer/{model}")
def run_batch(
    request: Request,
    model: str,
    caller: AdminCaller,
    images: Literal["all", "labeled", "unlabeled"] = "all",
    params: Params = None,
    run_sync: bool = False,
) -> dict[str, Any]:
    """Run a model on all images, or on those with or without a final label, as jobs."""
    parts = parts_of(request)
    if run_sync:
        raise InvalidRequest("a batch is done by the worker, and not waited for: ask how it stands")
    bundle = parts.registry.get(model)
    labels = known_labels(parts, caller)
    wanted = [
        image.id
        for image in parts.labelled.images()
        if images == "all" or ("final" in labels.get(image.id, {})) == (images == "labeled")
    ]
    return state_of(request).batches.start(parts, caller, bundle.identity, wanted).told(parts)


@router.get("/batch/infer")
def batch_status(
    request: Request, _caller: ClinicalCaller, all: bool = False, check_if_running: bool = False
) -> Any:  # noqa: ANN401 - two answers, as the real server has them
    """Tell how the newest batch stands, or all of them."""
    parts, batches = parts_of(request), state_of(request).batches
    last = batches.last()
    told = last.told(parts) if last is not None else None
    if told is None or (check_if_running and told["status"] != "RUNNING"):
        raise NotFound("no batch is running" if check_if_running else "there was no batch yet")
    return [each.told(parts) for each in batches.all()] if all else told


@router.delete("/batch/infer")
def stop_batch(request: Request, _caller: AdminCaller) -> dict[str, Any]:
    """Stop the newest batch; what is done stays."""
    parts = parts_of(request)
    stopped = state_of(request).batches.stop(parts)
    if stopped is None:
        raise NotFound("there was no batch yet")
    return stopped.told(parts)


# --- what is not done by this door --------------------------------------------------------------


@router.get("/scoring/")
def scoring_status(
    _caller: ClinicalCaller, all: bool = False, check_if_running: bool = False
) -> None:
    """Say that nothing is scored by this door."""
    raise NotFound("there are no scores: corrections are compared by themselves, see /api/effort")


@router.post("/scoring/")
@router.post("/scoring/{method}")
def score(_caller: ClinicalCaller, method: str = "", params: Params = None) -> None:
    """Refuse: corrections are compared with what they began with by themselves."""
    raise InvalidRequest("corrections are compared by themselves; GET /api/effort has the figures")


@router.get("/logs/")
def logs(_caller: AdminCaller, lines: int = 300, html: bool = True, text: bool = False) -> None:
    """Say where the logs are: not on the web."""
    raise NotFound("logs are files in the node's data folder, logs/, and are not shown by HTTP")


@router.get("/logs/gpu")
def gpu(_caller: AdminCaller) -> None:
    """Say where that is told: not on the web."""
    raise NotFound("`radloop check`, on the node's machine, says what it has")
