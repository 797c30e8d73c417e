"""A segmentation that the viewer exported by itself: held back, and made a correction if it can be.

OHIF 3.13.2 writes the first segmentation of a session as it was painted, without codes and history;
from the second one on it can hold other voxels. So the first of a reader on a series is stored the
way of all corrections, and later ones are refused, with the way that always works. Whether it is
the first, the rows tell; what shows the known damage is refused too.
"""

from __future__ import annotations

import json
import re
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np
from fastapi import Request
from fastapi.responses import Response

from dicom.codes import Code
from dicom.errors import InputError, InvalidRequest, NotTakenIn, UnsafeSegmentation
from dicom.seg import DecodedSeg, Masks, Segment, decode_seg
from dicom.volume import Grid
from node.auth import Caller
from node.parts import FrontParts, parts_of
from pipelines.corrections import DrawnObject, about, pairs_of, read_object
from pipelines.labels import layers_of, write_labels
from pipelines.store import CorrectionView, SeriesView

_SESSION: Final = timedelta(hours=12)
_FEW_FRAMES: Final = 3  # so many may well be the same
_COERCED: Final = 0xB000  # PS3.18 Table 10.5.3-2: stored with changed attributes
_UNCODED: Final = frozenset({"T-D0050", "85756007"})  # 'Tissue': what the viewer says of everything
_AGAIN: Final = (
    "only the first export of a session is surely as it was painted; save it with the panel "
    "'AI and corrections', which keeps codes and history too"
)


def take_exported(request: Request, body: bytes) -> Response:
    """Store the viewer's own export of one segmentation as a correction.

    Raises
    ------
    UnsafeSegmentation
        When it is not the reader's first on that series, looks damaged, or is not alone.
    InputError
        When it does not lie on the series that it names.
    PeerError
        When the archive is away; it is kept as a draft.
    """
    parts, caller = parts_of(request), _caller(request)
    content = _only_part(request, body)
    stored = _save(parts, caller, content)
    parts.audit.note(
        "correction_saved", actor=caller.name, object=stored.id, reason="exported by the viewer"
    )
    answer = {
        "00081199": {
            "vr": "SQ",
            "Value": [
                {
                    "00081150": {"vr": "UI", "Value": [about(content).sop_class_uid]},
                    "00081155": {"vr": "UI", "Value": [stored.id]},
                    "00081196": {"vr": "US", "Value": [_COERCED]},
                }
            ],
        }
    }
    return Response(json.dumps(answer), 200, media_type="application/dicom+json")


def _caller(request: Request) -> Caller:
    caller: Caller = request.state.caller  # the guard has passed
    return caller


def _save(parts: FrontParts, caller: Caller, content: bytes) -> CorrectionView:
    said = about(content)
    if len(said.series_uids) != 1:
        raise UnsafeSegmentation("the export does not name one series; use the panel to save it")
    (series_uid,) = said.series_uids
    source = parts.desk.grids.series(said.study_uid, series_uid)
    series = parts.studies.series_in_archive(source.archived.orthanc_id)
    if series is None:
        raise NotTakenIn("the node has not read this study yet")
    if parts.corrections.exported_since(caller.name, series.id, datetime.now(UTC) - _SESSION):
        raise UnsafeSegmentation(_AGAIN)
    with tempfile.TemporaryDirectory(prefix="radloop-") as name:
        folder = Path(name)
        grid, drawn = _read(content, source.grids, folder)
        path = folder / "exported.dcm"
        path.write_bytes(content)
        decoded = decode_seg(path, grid)
        _refuse_damaged(decoded, drawn.masks)
        document = _document(parts, said.study_uid, series_uid, series, grid, decoded, drawn)
    return parts.desk.save(document, author=caller.name, source="export")


def _read(content: bytes, grids: tuple[Grid, ...], folder: Path) -> tuple[Grid, DrawnObject]:
    refused: InputError = UnsafeSegmentation("the export lies on no volume of its series")
    for grid in grids:
        try:
            return grid, read_object(content, grid, folder)
        except InputError as error:
            refused = error
    raise refused


def _refuse_damaged(decoded: DecodedSeg, masks: Masks) -> None:
    """Refuse what shows the damage of a second export: frames that repeat, segments gone empty."""
    if any(not crop.voxels_kji.size for crop in masks.crops.values()):
        raise UnsafeSegmentation(f"a segment of the export is empty; {_AGAIN}")
    if len(decoded.places) < _FEW_FRAMES:
        return
    with decoded.stored.open() as file:
        first_ji = decoded.stored.pixels(file, 0).copy()
        frames = (decoded.stored.pixels(file, n) for n in range(1, len(decoded.places)))
        if all(np.array_equal(first_ji, pixels_ji) for pixels_ji in frames):
            raise UnsafeSegmentation(f"all frames of the export are the same; {_AGAIN}")


def _document(
    parts: FrontParts,
    study_uid: str,
    series_uid: str,
    series: SeriesView,
    grid: Grid,
    decoded: DecodedSeg,
    drawn: DrawnObject,
) -> bytes:
    """Return the export as the panel would have sent it, with what it was made from."""
    origin = parts.elsewhere.origin_of(drawn, series, grid)
    origins: dict[int, int] = {}
    if origin is not None:
        origins = {b: a for a, b in pairs_of(origin[1], drawn) if a is not None and b is not None}
    labels = drawn.masks if drawn.masks.overlap() else drawn.masks.labels()
    layers, planes = layers_of(labels, grid)
    _, rows, columns = grid.shape_kji
    head = {
        "StudyInstanceUID": study_uid,
        "SeriesInstanceUID": series_uid,
        "rows": rows,
        "columns": columns,
        "bits": 16 if planes and planes[0].dtype.itemsize == 2 else 8,
        "layers": [[name.model_dump(by_alias=True) for name in layer] for layer in layers],
        "segments": [
            _segment(number, segment, origins.get(number))
            for number, segment in enumerate(decoded.segments, 1)
        ],
        "predecessor": None
        if origin is None
        else {"SeriesInstanceUID": series_uid, "SOPInstanceUID": origin[0]},
    }
    return write_labels(head, planes)


def _segment(number: int, segment: Segment, origin: int | None) -> dict[str, object]:
    coded = segment.type.value not in _UNCODED
    return {
        "number": number,
        "label": segment.label or f"Segment {number}",
        "colour": list(segment.rgb),
        "origin": origin,
        "type": _code(segment.type) if coded else None,
        "category": _code(segment.category) if coded else None,
    }


def _code(code: Code) -> dict[str, str]:
    return {"value": code.value, "scheme": code.scheme, "meaning": code.meaning}


def _only_part(request: Request, body: bytes) -> bytes:
    """Return the one object of a multipart body (RFC 2046 5.1.1).

    Raises
    ------
    InvalidRequest
        When it is none.
    UnsafeSegmentation
        When there are several: they are stored together or not at all.
    """
    found = re.search(r'boundary="?([^";,]+)"?', request.headers.get("content-type", ""))
    if found is None:
        raise InvalidRequest("the multipart body names no boundary")
    mark = b"--" + found[1].strip().encode("latin-1")
    pieces = (b"\r\n" + body).split(b"\r\n" + mark)[1:]
    objects = [piece for piece in pieces if not piece.startswith(b"--")]
    if len(objects) != 1:
        raise UnsafeSegmentation("the viewer's own export comes with other objects; " + _AGAIN)
    _, blank, content = objects[0].partition(b"\r\n\r\n")
    if not blank or not content:
        raise InvalidRequest("the multipart body holds no object")
    return content
