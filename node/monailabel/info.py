"""What this node offers, as `/info/` of a MONAI Label server says it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from models.bundle import Bundle
from node.auth import ClinicalCaller
from node.monailabel.clicking import CLICKS, SCRIBBLES
from node.monailabel.datastore import status_of
from node.monailabel.sampling import STRATEGIES
from node.monailabel.trainings import train_stats, trainers
from node.parts import parts_of

router = APIRouter(prefix="/monailabel", tags=["monailabel"])


@router.get("/info/")
def info(request: Request, caller: ClinicalCaller) -> dict[str, Any]:
    """List the models, the strategies for the next image, and how far the images are labelled."""
    parts = parts_of(request)
    models = {bundle.identity: _model(bundle) for bundle in parts.registry.allowed()}
    for name, kind, asked in (
        (CLICKS, "deepgrow", "clicks inside and outside"),
        (SCRIBBLES, "scribbles", "strokes inside and outside"),
    ):
        models[name] = {
            "type": kind,
            "labels": [],
            "dimension": 3,
            "description": f"The edges of the image, from {asked}",
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
        "trainers": trainers(parts),
        "strategies": {name: {"description": text} for name, text in STRATEGIES.items()},
        "scoring": {},
        "train_stats": train_stats(parts),
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
