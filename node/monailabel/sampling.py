"""The image that a client is given next: one that no person has labelled yet."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import APIRouter, Request

from dicom.errors import InvalidRequest
from node.auth import ClinicalCaller
from node.monailabel.datastore import image_info
from node.monailabel.labels import known_labels
from node.monailabel.state import state_of
from node.parts import parts_of
from pipelines.store import LabelTag, LabelView, SeriesView

router = APIRouter(prefix="/monailabel/activelearning", tags=["monailabel"])

STRATEGIES: Final[Mapping[str, str]] = {
    "first": "The one that came first",
    "random": "Any",
    "uncertainty": "The one of which a model was least sure",
}

Known = Mapping[str, Mapping[LabelTag, LabelView]]


@router.post("/{strategy}")
def sample(
    request: Request,
    strategy: str,
    caller: ClinicalCaller,
    params: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Choose the next image among those without a final label; nothing where all have one.

    3D Slicer fetches it without its token: it may do so once, within two minutes.
    """
    parts = parts_of(request)
    if strategy not in STRATEGIES:
        raise InvalidRequest(f"the strategies are {', '.join(STRATEGIES)}")
    labels = known_labels(parts, caller)
    waiting = [one for one in parts.labelled.images() if "final" not in labels.get(one.id, {})]
    if not waiting:
        return {}
    chosen = _chosen(strategy, waiting, labels)
    state_of(request).grants.give(request, chosen.id, caller)
    return {"id": chosen.id, **image_info(chosen)}


def _chosen(strategy: str, waiting: Sequence[SeriesView], labels: Known) -> SeriesView:
    if strategy == "random":
        return random.choice(waiting)  # noqa: S311 - no secret
    if strategy == "first":
        return waiting[0]
    return min(waiting, key=lambda image: _sureness(labels.get(image.id, {}).get("original")))


def _sureness(label: LabelView | None) -> float:
    """Return how sure a model was of its least sure segment; 2 where none said so."""
    told = (label.confidence or {}) if label is not None else {}
    return min((float(each["probability"]) for each in told.values()), default=2.0)
