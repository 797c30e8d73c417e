"""The images of the clinical archive and their labels, as MONAI Label's clients list them.

An image is a series, by its pseudonym. Its labels are `original`, the newest of a model, and
`final`, the newest of a person; a label has its image's id.
"""

from __future__ import annotations

import hashlib
import io
import time
import zipfile
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import numpy as np
from fastapi import APIRouter, File, Form, Query, Request, Response, UploadFile

from dicom.errors import InvalidRequest, NotFound, NotTakenIn, TooLarge
from models.nrrd import write_nrrd
from node.auth import AdminCaller, Caller, ClinicalCaller
from node.blind import rivals_of
from node.monailabel.access import ImageCaller
from node.monailabel.labels import (
    decoded,
    image_of,
    known_labels,
    label_of,
    params_of,
    save_label,
)
from node.monailabel.state import state_of
from node.parts import FrontParts, parts_of
from pipelines.labelfiles import write_label_file
from pipelines.store import LabelView, SeriesView

router = APIRouter(prefix="/monailabel/datastore", tags=["monailabel"])

_MOST_UPLOADED: Final = 2 << 30
_TAKEN_IN_WITHIN_S: Final = 20.0
_IMAGE: Final = ".nrrd"

Listed = dict[str, Any]


@router.get("/")
def datastore(
    request: Request, caller: ClinicalCaller, output: Literal["train", "stats", "all"] = "stats"
) -> Any:  # noqa: ANN401 - three answers, as the real server has them
    """List images and labels (`all`), those with a final label (`train`), or how many (`stats`)."""
    parts = parts_of(request)
    images, labels = parts.labelled.images(), known_labels(parts, caller)
    if output == "train":
        return [
            {"image": image.id, "label": image.id}
            for image in images
            if "final" in labels.get(image.id, {})
        ]
    if output == "stats":
        return status_of(parts, caller)
    return {
        "name": "radloop",
        "description": "the clinical archive of this node",
        "images_dir": "",
        "labels_dir": "",
        "objects": {
            image.id: {
                "image": {"ext": _IMAGE, "info": image_info(image)},
                "labels": {
                    tag: {"ext": ".nrrd", "info": label_info(label)}
                    for tag, label in labels.get(image.id, {}).items()
                },
            }
            for image in images
        },
    }


def status_of(parts: FrontParts, caller: Caller) -> Listed:
    """Return how many images there are, and how many have which label."""
    ids = {image.id for image in parts.labelled.images()}
    tags: dict[str, int] = {}
    for image, known in known_labels(parts, caller).items():
        for tag in known if image in ids else ():
            tags[tag] = tags.get(tag, 0) + 1
    return {"total": len(ids), "completed": tags.get("final", 0), "label_tags": tags}


def image_info(image: SeriesView) -> Listed:
    """Return what is told of an image: nothing that names a patient."""
    return {
        "name": f"{image.id}{_IMAGE}",
        "modality": image.modality,
        "images": image.instance_count,
        "ts": int(image.changed_at.timestamp()),
    }


def label_info(label: LabelView) -> Listed:
    """Return what is told of a label: its segments, in the order of their values."""
    names = {name: number for number, name in enumerate(label.labels, 1)}
    return {
        "ts": int(label.created_at.timestamp()),
        "model": label.bundle,
        "author": label.author,
        "confidence": label.confidence,
        "params": {"label_names": names},
    }


# --- images -------------------------------------------------------------------------------------


@router.get("/image")
def image(request: Request, image: str, caller: ImageCaller) -> Response:
    """Give an image as NRRD: the modality's values, on the voxels of the series."""
    parts = parts_of(request)
    series, content = _image(parts, image)
    parts.audit.note("study_opened", actor=caller.name, object=series.study_id, reason="monailabel")
    return file_answer(content, f"{image}{_IMAGE}")


@router.head("/image")
def image_exists(
    request: Request, image: str, _caller: ClinicalCaller, check_sum: str | None = None
) -> Response:
    """Say whether there is such an image; with a sum, whether it is this one."""
    parts = parts_of(request)
    if check_sum is None:
        image_of(parts, image)
        return Response()
    kind, _, digest = check_sum.rpartition(":")
    if kind.upper() not in ("", "SHA256"):
        raise InvalidRequest("sums are SHA256")
    if hashlib.sha256(_image(parts, image)[1]).hexdigest() != digest.lower():
        raise NotFound("the image has another sum")
    return Response()


@router.get("/image/info")
def info_of_image(request: Request, image: str, _caller: ClinicalCaller) -> Listed:
    """Tell what an image is."""
    series, _ = image_of(parts_of(request), image)
    return image_info(series)


@router.put("/image/info")
def change_image_info(image: str, _caller: ClinicalCaller) -> None:
    """Refuse: what an image says of itself stands in its DICOM files."""
    raise InvalidRequest("what an image says of itself stands in its DICOM files")


@router.put("/")
@router.put("/image")
def add_image(
    request: Request,
    caller: ClinicalCaller,
    file: Annotated[UploadFile, File()],
) -> Mapping[str, str]:
    """Store a DICOM file, or a ZIP archive of DICOM files, in the clinical archive.

    A NIfTI or NRRD file has no patient and no study, so that it has no place there: a session
    takes it.
    """
    parts = parts_of(request)
    stored = [parts.clinical.store(one) for one in _dicom_files(file)]
    parts.audit.note("study_opened", actor=caller.name, reason="monailabel: images were uploaded")
    parts.bell.ring()
    (first, *_) = parts.clinical.series_of(stored)
    until = time.monotonic() + _TAKEN_IN_WITHIN_S
    while (series := parts.studies.series_in_archive(first)) is None:
        if time.monotonic() > until:
            raise NotTakenIn("the images are stored, and not read yet; they are listed soon")
        time.sleep(0.2)
    return {"image": series.id}


@router.delete("/")
@router.delete("/image")
def remove_image(id: str, _caller: AdminCaller) -> None:
    """Refuse: the clinical archive is not emptied from here."""
    raise InvalidRequest("images of the clinical archive are not deleted by this door")


def _image(parts: FrontParts, image: str) -> tuple[SeriesView, bytes]:
    series, archived = image_of(parts, image)
    warm = parts.warm.image(archived.study_uid, archived.series_uid)
    voxels = warm.voxels_kji
    if voxels.dtype.kind == "b" or voxels.dtype.itemsize == 8:
        voxels = voxels.astype(np.float32)
    return series, write_nrrd(voxels, warm.grid.affine_lps)


def _dicom_files(file: UploadFile) -> list[bytes]:
    content = read_upload(file)
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            entries = [entry for entry in packed.infolist() if not entry.is_dir()]
            if sum(entry.file_size for entry in entries) > _MOST_UPLOADED:
                raise TooLarge(f"more than {_MOST_UPLOADED >> 30} GiB of images")
            files = [packed.read(entry) for entry in entries]
    else:
        files = [content]
    if not files or any(one[128:132] != b"DICM" for one in files):
        raise InvalidRequest(
            "the clinical archive takes DICOM files only; a NIfTI or NRRD file is for a session"
        )
    return files


# --- labels -------------------------------------------------------------------------------------


@router.get("/label")
def label(request: Request, label: str, tag: str, caller: ClinicalCaller) -> Response:
    """Give a label of an image: NRRD, or Slicer's kind of it where segments overlap."""
    parts = parts_of(request)
    series, archived = image_of(parts, label)
    found = label_of(parts, caller, label, tag)
    drawn = decoded(parts, found, archived)
    suffix = ".nrrd" if isinstance(drawn.labels, np.ndarray) else ".seg.nrrd"
    content = write_label_file(
        drawn.labels,
        drawn.grid.affine_lps,
        names=drawn.names,
        suffix=".nrrd" if suffix == ".nrrd" else ".seg.nrrd",
    )
    state_of(request).handed.note(caller.name, label, found.id)
    parts.audit.note("study_opened", actor=caller.name, object=series.study_id, reason="monailabel")
    return file_answer(content, f"{label}{suffix}")


@router.head("/label")
def label_exists(request: Request, image: str, tag: str, caller: ClinicalCaller) -> Response:
    """Say whether an image has a label of that tag."""
    label_of(parts_of(request), caller, image, tag)
    return Response()


@router.get("/label/info")
def info_of_label(request: Request, label: str, tag: str, caller: ClinicalCaller) -> Listed:
    """Tell what a label is."""
    return label_info(label_of(parts_of(request), caller, label, tag))


@router.put("/label")
def put_label(
    request: Request,
    image: str,
    caller: ClinicalCaller,
    label: Annotated[UploadFile, File()],
    params: Annotated[str, Form()] = "{}",
    tag: str = "final",
) -> Listed:
    """Store a label as a correction of its image: a DICOM SEG with author and history.

    It has to lie on the image's voxels. The tag is `final`; a person's label is no model's.
    """
    if tag not in ("", "final"):
        raise InvalidRequest("a label that a person saves is tagged final")
    parts = parts_of(request)
    stored = save_label(
        parts,
        state_of(request).handed,
        caller,
        image,
        read_upload(label),
        name=label.filename or "",
        params=params_of(params),
    )
    stale = bool(rivals_of(parts, stored, caller.name))
    return {"image": image, "label": image, "tag": "final", "stale": stale}


@router.put("/label/info")
@router.put("/updatelabelinfo")
def change_label_info(label: str, tag: str, _caller: ClinicalCaller) -> None:
    """Refuse: what a label says of itself stands in its DICOM SEG, which never changes."""
    raise InvalidRequest("what a label says of itself stands in its DICOM SEG, and never changes")


@router.delete("/label")
def remove_label(id: str, tag: str, _caller: AdminCaller) -> None:
    """Refuse: results and corrections stay, and are rejected in the viewer."""
    raise InvalidRequest("labels stay as history; reject a result in the viewer")


@router.get("/dataset")
def dataset(
    _caller: ClinicalCaller, limit_cases: Annotated[int | None, Query(ge=1)] = None
) -> None:
    """Refuse: identified images leave the archive de-identified alone, as an export."""
    raise InvalidRequest("datasets leave de-identified, as exports: see the exports page")


# --- files --------------------------------------------------------------------------------------


def read_upload(file: UploadFile) -> bytes:
    """Return an uploaded file.

    Raises
    ------
    TooLarge
    """
    content = file.file.read(_MOST_UPLOADED + 1)
    if len(content) > _MOST_UPLOADED:
        raise TooLarge(f"a file of more than {_MOST_UPLOADED >> 30} GiB")
    return content


def file_answer(content: bytes, name: str) -> Response:
    """Return a file to download."""
    return Response(
        content,
        media_type="application/octet-stream",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )
