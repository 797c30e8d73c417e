"""A model on an image, answered as a file: `/infer/{model}`.

On an image of the archive a model is run by the worker, as a job like any other: the result is a
DICOM SEG on the study, which the client is given as the file that it understands. On an uploaded
file, and for clicks and scribbles (:mod:`node.monailabel.clicking`), it is run here, and nothing is
stored.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import numpy as np
from fastapi import APIRouter, File, Form, Request, Response, UploadFile
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from dicom.errors import Conflict, InvalidRequest, UnsuitableSeries, error_of
from models.prediction import Boxes, Classes
from models.segments import as_segments
from models.sources import Source, best_case
from node.auth import Caller, ClinicalCaller
from node.monailabel.clicking import (
    Clickable,
    InferParams,
    in_archive,
    refined,
    takes_clicks,
    uploaded,
)
from node.monailabel.datastore import file_answer, read_upload
from node.monailabel.labels import decoded, image_of
from node.monailabel.state import ClientState, state_of
from node.parts import FrontParts, parts_of
from node.running import ask_run
from pipelines.labelfiles import (
    LabelFile,
    Suffix,
    read_label_file,
    suffix_of,
    write_label_file,
)
from pipelines.store import JobView

router = APIRouter(prefix="/monailabel/infer", tags=["monailabel"])

_LONGEST_S: Final = 900.0
_LOOK_EVERY_S: Final = 0.2

Form_ = Annotated[str, Form()]


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
    drawn = None
    if label is not None:
        drawn = read_label_file(read_upload(label), suffix_of(label.filename or ""))
    began = time.monotonic()
    if file is not None and file.filename:
        uploads = state.uploads
        session = uploads.add({file.filename: read_upload(file)}, owner=caller.name, unpack=True)
        try:
            found = _on_files(parts, session.source(), model, wanted, drawn)
        finally:
            uploads.drop(session.id, owner=caller.name)
    elif session_id:
        source = state.uploads.get(session_id, owner=caller.name).source()
        found = _on_files(parts, source, model, wanted, drawn)
    elif image:
        found = _on_image(parts, state, caller, model, image, wanted, drawn)
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
    strokes: LabelFile | None,
) -> Found:
    if takes_clicks(parts, model):
        return _clicked(parts, model, in_archive(parts, image), wanted, strokes)
    _refuse_drawn(strokes)
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
    parts: FrontParts, source: Source, model: str, wanted: InferParams, drawn: LabelFile | None
) -> Found:
    """Run a model on uploaded files, in the front's own child; nothing is stored."""
    if takes_clicks(parts, model):
        return _clicked(parts, model, uploaded(source), wanted, drawn)
    _refuse_drawn(drawn)
    bundle = parts.registry.get(model)
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


def _clicked(
    parts: FrontParts,
    model: str,
    image: Clickable,
    wanted: InferParams,
    drawn: LabelFile | None,
) -> Found:
    """Return the structure that was clicked on, or scribbled in."""
    name, mask_kji = refined(parts, model, image, wanted, drawn)
    content = write_label_file(
        mask_kji.astype(np.uint8), image.affine_lps, names=[name], suffix=_suffix(wanted)
    )
    return Found(content, _suffix(wanted), {"label_names": {name: 1}})


def _refuse_drawn(drawn: LabelFile | None) -> None:
    if drawn is not None:
        raise InvalidRequest("that model is given no label map; `clicks` and `scribbles` are")


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
