"""Every query, as a named function: the only room besides `records` that speaks SQL."""

from pipelines.store.access import Access, Role, Token, User
from pipelines.store.database import Database
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
    "Access",
    "ArchivedChange",
    "AuditEvent",
    "Database",
    "DeliveryView",
    "JobSeries",
    "JobView",
    "Jobs",
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
]
