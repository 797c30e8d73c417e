"""What the viewer's panel asks the node, by the UIDs that the viewer knows; they stay in bodies."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from node.auth import ClinicalCaller
from node.parts import parts_of
from node.reading import StudyInViewer, study_for_viewer
from pipelines.labels import Uid
from pipelines.reported import Reported

router = APIRouter(prefix="/api/viewer", tags=["viewer"])


class StudyName(BaseModel):
    """A study of the clinical archive."""

    model_config = ConfigDict(extra="forbid")

    study_uid: Uid = Field(alias="StudyInstanceUID")


@router.post("/study")
def study(name: StudyName, request: Request, caller: ClinicalCaller) -> StudyInViewer:
    """List the results on a study, the models that run on it, and one's own drafts."""
    parts = parts_of(request)
    reported: Reported = request.app.state.reported
    return study_for_viewer(parts, reported, caller, name.study_uid)
