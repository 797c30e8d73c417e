"""Every query, as a named function: the only room besides `records` that speaks SQL."""

from pipelines.store.access import Access, Role, Token, User
from pipelines.store.asked import AskedRun, AskedRuns
from pipelines.store.corrections import (
    AssessmentView,
    Corrections,
    CorrectionSource,
    CorrectionView,
    Difference,
    Effort,
    Judged,
    NewCorrection,
    Verdict,
)
from pipelines.store.database import Database
from pipelines.store.drafts import DraftKeys, Drafts, DraftView
from pipelines.store.elsewhere import (
    DRAWN_MODALITIES,
    ElsewhereObjects,
    ElsewhereState,
    ElsewhereView,
)
from pipelines.store.job_views import (
    DeliveryView,
    JobSeries,
    JobView,
    NewTask,
    ResultView,
    State,
    StepView,
    TaskView,
)
from pipelines.store.jobs import Jobs
from pipelines.store.sealed import SealedIdentities
from pipelines.store.studies import ArchivedChange, SeriesView, Standing, Studies, StudyView
from pipelines.store.trail import AuditEvent, Seal, Trail

__all__ = [
    "DRAWN_MODALITIES",
    "Access",
    "ArchivedChange",
    "AskedRun",
    "AskedRuns",
    "AssessmentView",
    "AuditEvent",
    "CorrectionSource",
    "CorrectionView",
    "Corrections",
    "Database",
    "DeliveryView",
    "Difference",
    "DraftKeys",
    "DraftView",
    "Drafts",
    "Effort",
    "ElsewhereObjects",
    "ElsewhereState",
    "ElsewhereView",
    "JobSeries",
    "JobView",
    "Jobs",
    "Judged",
    "NewCorrection",
    "NewTask",
    "ResultView",
    "Role",
    "Seal",
    "SealedIdentities",
    "SeriesView",
    "Standing",
    "State",
    "StepView",
    "Studies",
    "StudyView",
    "TaskView",
    "Token",
    "Trail",
    "User",
    "Verdict",
]
