"""Sessions: an image that a client uploads, so that models look at it; nothing of it is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, File, Request, Response, UploadFile

from dicom.errors import InvalidRequest
from models.nrrd import write_nrrd
from models.prediction import Image
from node.auth import ClinicalCaller
from node.monailabel.datastore import file_answer, read_upload
from node.monailabel.state import state_of

router = APIRouter(prefix="/monailabel/session", tags=["monailabel"])


@router.put("/")
def create(
    request: Request,
    caller: ClinicalCaller,
    files: Annotated[list[UploadFile], File()],
    uncompress: bool = False,
    expiry: int = 0,
) -> Mapping[str, object]:
    """Keep an image for a while: NRRD, NIfTI, or DICOM files, in a ZIP archive too."""
    session = state_of(request).uploads.add(
        {f"{n} {file.filename or ''}": read_upload(file) for n, file in enumerate(files)},
        owner=caller.name,
        expiry_s=expiry,
        unpack=uncompress or all((f.filename or "").lower().endswith(".zip") for f in files),
    )
    return {"session_id": session.id, "session_info": session.info}


@router.get("/{session_id}")
def session(
    request: Request,
    session_id: str,
    caller: ClinicalCaller,
    update_ts: bool = False,
    image: bool = False,
) -> Any:  # noqa: ANN401 - two answers, as the real server has them
    """Tell what a session is, or give its image."""
    found = state_of(request).uploads.get(session_id, owner=caller.name)
    if not image:
        return found.info
    source = found.source()
    if not isinstance(source, Image):
        raise InvalidRequest("only the image of one NRRD file is given back")
    return _image(source)


@router.delete("/{session_id}")
def remove(request: Request, session_id: str, caller: ClinicalCaller) -> Mapping[str, object]:
    """End a session and throw its files away."""
    return state_of(request).uploads.drop(session_id, owner=caller.name).info


def _image(image: Image) -> Response:
    return file_answer(write_nrrd(image.voxels, image.affine_lps), "image.nrrd")
