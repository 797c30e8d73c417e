"""Prompts: a reader's clicks on an image, computed here and shown at once in the viewer."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from node.api.documents import REQUEST_BODY, LabelsBody, LabelsResponse
from node.auth import ClinicalCaller
from node.parts import parts_of
from pipelines.labels import Uid, read_labels
from pipelines.prompting import KINDS, PromptHead, Refiners, answer

router = APIRouter(prefix="/api/prompts", tags=["prompts"])


@dataclass(frozen=True, slots=True)
class KnownPrompt:
    """A kind of prompt, and in which dimensions it works.

    `bundles` are the models that can answer it; without one, the image's edges decide.
    """

    kind: str
    dimensions: tuple[int, ...]
    bundles: tuple[str, ...] = ()


class SeriesName(BaseModel):
    """A series of the clinical archive."""

    model_config = ConfigDict(extra="forbid")

    study_uid: Uid = Field(alias="StudyInstanceUID")
    series_uid: Uid = Field(alias="SeriesInstanceUID")


@router.get("")
def kinds(request: Request, _caller: ClinicalCaller) -> list[KnownPrompt]:
    """List the prompts that can be asked for, and the installed models that take clicks."""
    bundles = parts_of(request).registry.taken()
    clicked = tuple(bundle.identity for bundle in bundles if bundle.prompts is not None)
    return [
        KnownPrompt(kind, dimensions, clicked if kind == "refine" else ())
        for kind, dimensions in KINDS.items()
    ]


@router.post("/warm", status_code=204)
def warm(series: SeriesName, request: Request, _caller: ClinicalCaller) -> None:
    """Read a series, so that its first prompt does not wait for that."""
    parts_of(request).warm.image(series.study_uid, series.series_uid)


@router.post("", response_class=LabelsResponse, openapi_extra=REQUEST_BODY)
def prompt(_caller: ClinicalCaller, content: LabelsBody, request: Request) -> LabelsResponse:
    """Answer a prompt with the slices on which its segment changes.

    The head of the labels document holds `prompt`; its slices are what the segment is so far, and
    may be none. The answer's slices are those that differ, with the segment as it is then.
    """
    document = read_labels(content, PromptHead)
    head = document.head
    parts = parts_of(request)
    image = parts.warm.image(head.study_uid, head.series_uid, head.named)
    return LabelsResponse(answer(document, image, Refiners(parts.predictor, parts.registry)))
