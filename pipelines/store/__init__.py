"""Every query, as a named function: the only room besides `records` that speaks SQL."""

from pipelines.store.access import Access, AuditEvent, Role, Token, User
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
from pipelines.store.studies import ArchivedChange, SeriesView, Standing, Studies, StudyView

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
    "SeriesView",
    "Standing",
    "State",
    "StepView",
    "Studies",
    "StudyView",
    "TaskView",
    "Token",
    "User",
]
