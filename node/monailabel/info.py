"""What this node offers, as `/info/` of a MONAI Label server says it."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request

from models.bundle import Bundle
from node.auth import ClinicalCaller
from node.monailabel.datastore import status_of
from node.monailabel.sampling import STRATEGIES
from node.parts import parts_of

router = APIRouter(prefix="/monailabel", tags=["monailabel"])

CLICKS: Final = "clicks"
"""The model that needs no training: the watershed from the reader's clicks."""


@router.get("/info/")
def info(request: Request, caller: ClinicalCaller) -> dict[str, Any]:
    """List the models, the strategies for the next image, and how far the images are labelled."""
    parts = parts_of(request)
    models = {bundle.identity: _model(bundle) for bundle in parts.registry.bundles}
    models[CLICKS] = {
        "type": "deepgrow",
        "labels": [],
        "dimension": 3,
        "description": "The edges of the image, from clicks inside and outside",
        "version": parts.version,
        "config": {},
    }
    labels = dict.fromkeys(label for model in models.values() for label in model["labels"])
    return {
        "name": "radloop",
        "description": "An AI node beside a hospital's PACS",
        "version": parts.version,
        "labels": list(labels),
        "models": models,
        "trainers": {},
        "strategies": {name: {"description": text} for name, text in STRATEGIES.items()},
        "scoring": {},
        "train_stats": {},
        "datastore": status_of(parts, caller),
    }


def _model(bundle: Bundle) -> dict[str, Any]:
    kind = "classification" if not bundle.segments else "segmentation"
    labels: Any = {each.label: n for n, each in enumerate(bundle.segments, 1)}
    if bundle.prompts is not None:
        kind, labels = "deepgrow", [each.label for each in bundle.segments]
    return {
        "type": kind,
        "labels": labels or [each.label for each in bundle.findings],
        "dimension": 3,
        "description": bundle.title,
        "version": bundle.version,
        "config": {},
    }
