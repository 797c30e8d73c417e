"""What the viewer's panel asks the node, by the UIDs that the viewer knows; they stay in bodies."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter, BackgroundTasks, Request
from pydantic import BaseModel, ConfigDict, Field

from models.region import Region
from node.api.documents import LabelsResponse
from node.auth import ClinicalCaller
from node.blind import check_seen, unseen_by
from node.parts import parts_of
from node.reading import StudyInViewer, study_for_viewer
from node.running import Models, ask_run, models_for
from pipelines.labels import Uid
from pipelines.reported import Reported

router = APIRouter(prefix="/api/viewer", tags=["viewer"])


class StudyName(BaseModel):
    """A study of the clinical archive."""

    model_config = ConfigDict(extra="forbid")

    study_uid: Uid = Field(alias="StudyInstanceUID")


class SeriesName(StudyName):
    """A series of the clinical archive."""

    series_uid: Uid = Field(alias="SeriesInstanceUID")


class StoredName(SeriesName):
    """A segmentation of the clinical archive, after the images that it lies on."""

    sop_instance_uid: Uid = Field(alias="SOPInstanceUID")


class Box(BaseModel):
    """A part of the series: column, row and slice of its first and its last voxel, from 0.

    Slices are counted along their normal. Both voxels are within it.
    """

    model_config = ConfigDict(extra="forbid")

    first: tuple[int, int, int] = Field(alias="from")
    last: tuple[int, int, int] = Field(alias="to")

    @property
    def region(self) -> Region:
        """The same, slices first."""
        i, j, k = self.first
        end_i, end_j, end_k = self.last
        return Region((k, j, i), (end_k, end_j, end_i))


class NewRun(SeriesName):
    """A model, NAME or NAME@VERSION, on a series or on a part of it."""

    bundle: str = Field(min_length=1, max_length=200)
    region: Box | None = None


@dataclass(frozen=True, slots=True)
class AskedJob:
    """The job that carries a run out: `/api/jobs/{job}/events` follows it."""

    job: str


@router.post("/models")
def models(name: SeriesName, request: Request, _caller: ClinicalCaller) -> Models:
    """List the models that can be run on a series, and why others cannot."""
    return models_for(parts_of(request), name.study_uid, name.series_uid)


@router.post("/runs", status_code=202)
def run(new: NewRun, request: Request, bell: BackgroundTasks, caller: ClinicalCaller) -> AskedJob:
    """Run a model on a series, whatever the routes say; the same wish is the same job."""
    parts = parts_of(request)
    job = ask_run(
        parts,
        caller,
        new.study_uid,
        new.series_uid,
        bundle=new.bundle,
        region=new.region.region if new.region else None,
    )
    bell.add_task(parts.bell.ring)
    return AskedJob(job)


@router.post("/study")
def study(name: StudyName, request: Request, caller: ClinicalCaller) -> StudyInViewer:
    """List the results on a study, the models that run on it, and one's own drafts."""
    parts = parts_of(request)
    reported: Reported = request.app.state.reported
    return study_for_viewer(parts, reported, caller, name.study_uid)


@router.post("/labels", response_class=LabelsResponse)
def labels(name: StoredName, request: Request, caller: ClinicalCaller) -> LabelsResponse:
    """Return a stored segmentation as a labels document; what that cannot hold is refused."""
    parts = parts_of(request)
    check_seen(parts, name.sop_instance_uid, unseen_by(request, caller.name))
    stored = parts.desk.stored
    return LabelsResponse(stored.document(name.study_uid, name.series_uid, name.sop_instance_uid))
