"""A model on an image, answered as a file: `/infer/{model}`.

On an image of the archive a model is run by the worker, as a job like any other: the result is a
DICOM SEG on the study, which the client is given as the file that it understands. On an uploaded
file, and for clicks, it is run here, and nothing is stored.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import numpy as np
from fastapi import APIRouter, File, Form, Request, Response, UploadFile
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dicom.errors import Conflict, InvalidRequest, UnsuitableSeries, error_of
from models import prompts
from models.bundle import Bundle
from models.prediction import Boxes, Classes, Image
from models.prompts import Box, Mask, Point
from models.segments import as_segments
from models.sources import best_case
from node.auth import Caller, ClinicalCaller
from node.monailabel.datastore import file_answer, read_upload
from node.monailabel.info import CLICKS
from node.monailabel.labels import decoded, image_of
from node.monailabel.state import ClientState, state_of
from node.monailabel.uploads import Uploads
from node.parts import FrontParts, parts_of
from node.running import ask_run
from pipelines.labelfiles import Suffix, suffix_of, write_label_file
from pipelines.store import JobView

router = APIRouter(prefix="/monailabel/infer", tags=["monailabel"])

_LONGEST_S: Final = 900.0
_LOOK_EVERY_S: Final = 0.2

Triple = tuple[int, int, int]
Form_ = Annotated[str, Form()]


class InferParams(BaseModel):
    """What is understood of a client's params; places are column, row, slice, from 0."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    result_extension: str = ".nii.gz"
    label: str = Field("", max_length=64)
    foreground: tuple[Triple, ...] = Field((), max_length=2000)
    background: tuple[Triple, ...] = Field((), max_length=2000)
    roi: tuple[int, ...] = Field((), max_length=6)


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a model said: a file of labels or none, what is told of it, and its SEG or none."""

    labels: bytes | None
    suffix: Suffix
    params: Mapping[str, Any]
    seg: bytes | None = None


@router.post("/{model}")
def infer(
    request: Request,
    model: str,
    caller: ClinicalCaller,
    image: str = "",
    session_id: str = "",
    params: Form_ = "{}",
    file: Annotated[UploadFile | None, File()] = None,
    label: Annotated[UploadFile | None, File()] = None,
    output: Literal["image", "json", "all", "dicom_seg"] | None = None,
) -> Response:
    """Run a model on an image of the archive, on a session's, or on an uploaded file.

    The answer has two parts, `params` (JSON) and `image` (the labels, as `result_extension` says);
    `output` asks for one of them alone, or for the DICOM SEG.
    """
    parts, state, wanted = parts_of(request), state_of(request), _params(params)
    if label is not None:
        raise InvalidRequest("no model of this node is given a label map; give points")
    began = time.monotonic()
    if file is not None and file.filename:
        uploads = state.uploads
        session = uploads.add({file.filename: read_upload(file)}, owner=caller.name, unpack=True)
        try:
            found = _on_files(parts, uploads, caller, model, session.id, wanted)
        finally:
            uploads.drop(session.id, owner=caller.name)
    elif session_id:
        found = _on_files(parts, state.uploads, caller, model, session_id, wanted)
    elif image:
        found = _on_image(parts, state, caller, model, image, wanted)
    else:
        raise InvalidRequest("say which image: its id, a session's id, or a file")
    told = {**found.params, "latencies": {"total": round(time.monotonic() - began, 3)}}
    return _answer(found, told, output)


def _on_image(
    parts: FrontParts,
    state: ClientState,
    caller: Caller,
    model: str,
    image: str,
    wanted: InferParams,
) -> Found:
    if model == CLICKS:
        return _clicked(parts, None, image, wanted)
    bundle = parts.registry.get(model)
    if bundle.prompts is not None:
        return _clicked(parts, bundle, image, wanted)
    _, archived = image_of(parts, image)
    job_id = ask_run(
        parts, caller, archived.study_uid, archived.series_uid, bundle=model, region=None
    )
    parts.bell.ring()
    job = _ended(parts, job_id)
    tasks = {task.id: task for task in job.tasks}
    for label in parts.labelled.of_models(image):
        if any(result.id == label.id for result in job.results):
            drawn = decoded(parts, label, archived)
            state.handed.note(caller.name, image, label.id)
            return Found(
                write_label_file(
                    drawn.labels,
                    drawn.grid.affine_lps,
                    names=drawn.names,
                    suffix=_suffix(wanted),
                ),
                _suffix(wanted),
                {
                    "label_names": {name: n for n, name in enumerate(drawn.names, 1)},
                    "confidence": label.confidence,
                    "job": job_id,
                },
                parts.clinical.instance_bytes(label.id),
            )
    said = {key: value for result in job.results for key, value in result.summary.items()}
    if not tasks or not said:
        raise UnsuitableSeries("the model found no series that it is for")
    return Found(None, _suffix(wanted), {"prediction": said, "job": job_id})


def _ended(parts: FrontParts, job_id: str) -> JobView:
    """Wait for a job's end; what failed is raised as the error that it was."""
    until = time.monotonic() + _LONGEST_S
    while True:
        job = parts.jobs.job(job_id)
        if job.state == "completed":
            return job
        if job.state == "canceled":
            failed = [task for task in job.tasks if task.error_code]
            code = failed[0].error_code if failed else job.error_code
            message = failed[0].error_message if failed else job.error_message
            if code is None:
                raise Conflict("the run was canceled")
            try:
                raise error_of(code, message or "")
            except KeyError:
                raise Conflict("the run failed; the study's page has the details") from None
        if time.monotonic() > until:
            raise Conflict("the model is still at work; ask again, and its answer is ready")
        time.sleep(_LOOK_EVERY_S)


def _on_files(
    parts: FrontParts,
    uploads: Uploads,
    caller: Caller,
    model: str,
    session_id: str,
    wanted: InferParams,
) -> Found:
    """Run a model on uploaded files, in the front's own child; nothing is stored."""
    bundle = parts.registry.get(model)
    source = uploads.get(session_id, owner=caller.name).source()
    case = best_case(bundle, source)
    prediction = parts.predictor.predict_images(bundle.identity, case.images)
    answer = case.on_source(prediction.answer)
    if isinstance(answer, Classes):
        names = {finding.number: finding.label for finding in bundle.findings}
        chances = zip(answer.numbers, answer.probabilities.tolist(), strict=True)
        return Found(None, _suffix(wanted), {"prediction": {names[n]: p for n, p in chances}})
    if isinstance(answer, Boxes):
        return Found(None, _suffix(wanted), {"boxes": len(answer.boxes)})
    labels, segments = as_segments(bundle, answer)
    affine_lps = next(iter(case.images.values())).affine_lps
    if case.volume is not None:
        affine_lps = case.volume.source.affine_lps
    names_of = [segment.label for segment in segments]
    return Found(
        write_label_file(labels, affine_lps, names=names_of, suffix=_suffix(wanted)),
        _suffix(wanted),
        {"label_names": {name: n for n, name in enumerate(names_of, 1)}},
    )


# --- clicks -------------------------------------------------------------------------------------


def _clicked(parts: FrontParts, bundle: Bundle | None, image: str, wanted: InferParams) -> Found:
    """Return the structure that was clicked on; all clicks come with each request."""
    _, archived = image_of(parts, image)
    warm = parts.warm.image(archived.study_uid, archived.series_uid)
    shape, grid = warm.grid.shape_kji, warm.grid
    positive, negative = _points(wanted.foreground, shape), _points(wanted.background, shape)
    box = _box(wanted.roi, shape)
    if not positive and not negative and box is None:
        raise InvalidRequest("nothing was clicked: params has no foreground, background or roi")
    mask_kji: Mask
    if bundle is None:
        mask_kji = prompts.refine(
            warm.voxels_kji, grid.spacing_kji, positive=positive, negative=negative, box=box
        )
    else:
        if grid.modality not in bundle.modalities:
            raise UnsuitableSeries("the model takes no clicks on such images")
        mask_kji = prompts.refine_by_bundle(
            parts.predictor,
            bundle,
            Image(warm.voxels_kji, grid.affine_lps, grid.frame_of_reference_uid),
            positive=positive,
            negative=negative,
            box=box,
        )
    name = wanted.label or (bundle.segments[0].label if bundle else "structure")
    content = write_label_file(
        mask_kji.astype(np.uint8), grid.affine_lps, names=[name], suffix=_suffix(wanted)
    )
    return Found(content, _suffix(wanted), {"label_names": {name: 1}})


def _points(places: Sequence[Triple], shape_kji: tuple[int, ...]) -> list[Point]:
    points = [Point(k, j, i) for i, j, k in places]
    for point in points:
        if any(not 0 <= at < size for at, size in zip(point, shape_kji, strict=True)):
            raise InvalidRequest("a place that was clicked lies outside of the image")
    return points


def _box(roi: Sequence[int], shape_kji: tuple[int, ...]) -> Box | None:
    """Return the box of a client's region: lowest and highest column, row and slice."""
    if not roi:
        return None
    if len(roi) != 6:
        raise InvalidRequest("roi has six numbers: columns, rows and slices, from and to")
    low = [min(roi[n], roi[n + 1]) for n in (4, 2, 0)]
    high = [max(roi[n], roi[n + 1]) for n in (4, 2, 0)]
    first = [max(0, at) for at in low]
    last = [min(size - 1, at) for at, size in zip(high, shape_kji, strict=True)]
    if any(a > b for a, b in zip(first, last, strict=True)):
        raise InvalidRequest("roi lies outside of the image")
    return Box(Point(*first), Point(*last))


# --- what goes back -----------------------------------------------------------------------------


def _params(text: str) -> InferParams:
    try:
        return InferParams.model_validate_json(text or "{}")
    except ValidationError as error:
        places = sorted({".".join(str(part) for part in one["loc"]) for one in error.errors()})
        raise InvalidRequest(f"params is wrong at: {', '.join(places) or 'its JSON'}") from None


def _suffix(wanted: InferParams) -> Suffix:
    return suffix_of(wanted.result_extension)


def _answer(found: Found, told: Mapping[str, Any], output: str | None) -> Response:
    if output == "dicom_seg":
        if found.seg is None:
            raise InvalidRequest("there is a DICOM SEG of models on images of the archive only")
        return Response(found.seg, media_type="application/dicom")
    if output == "json" or found.labels is None:
        return JSONResponse(dict(told))
    name = f"labels{found.suffix}"
    if output == "image":
        return file_answer(found.labels, name)
    limit = secrets.token_hex(16)
    body = b"\r\n".join(
        (
            f"--{limit}".encode(),
            b'Content-Disposition: form-data; name="params"',
            b"Content-Type: application/json",
            b"",
            json.dumps(told).encode(),
            f"--{limit}".encode(),
            f'Content-Disposition: form-data; name="image"; filename="{name}"'.encode(),
            b"Content-Type: application/octet-stream",
            b"",
            found.labels,
            f"--{limit}--".encode(),
            b"",
        )
    )
    return Response(body, media_type=f"multipart/form-data; boundary={limit}")
