"""Every query, as a named function: the only room besides `records` that speaks SQL."""

from pipelines.store.access import Access, Role, Token, User
from pipelines.store.alarms import AlarmKind, Alarms, AlarmView, RuleView
from pipelines.store.asked import AskedRun, AskedRuns
from pipelines.store.case_views import (
    PRIORITIES,
    CaseView,
    Chosen,
    Priority,
    Sort,
    Strategy,
    WantedCases,
)
from pipelines.store.collections import Collected, Collections, CollectionView, Stored
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
from pipelines.store.datasets import DatasetCase, Datasets, DatasetView, known_dataset
from pipelines.store.drafts import DraftKeys, Drafts, DraftView
from pipelines.store.elsewhere import (
    DRAWN_MODALITIES,
    ElsewhereObjects,
    ElsewhereState,
    ElsewhereView,
)
from pipelines.store.exports import Exports, ExportView, Finished, NewExport
from pipelines.store.freezings import Freezings, FreezingView, NewFreezing
from pipelines.store.held import Held, HeldContent, HeldState, HeldView
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
from pipelines.store.labelled import Labelled, LabelTag, LabelView
from pipelines.store.picking import Choices, Count, Drawn, Picking, SeriesFilter
from pipelines.store.rounds import Reading, Rounds, RoundState, RoundView, Unseen
from pipelines.store.sealed import SealedIdentities
from pipelines.store.standing import SEGMENTATION_CLASSES, CaseState
from pipelines.store.studies import ArchivedChange, SeriesView, Standing, Studies, StudyView
from pipelines.store.trail import AuditEvent, Seal, Trail
from pipelines.store.trainings import (
    EpochView,
    LauncherName,
    NewTraining,
    Trainings,
    TrainingStep,
    TrainingView,
)
from pipelines.store.versions import (
    DeedView,
    EvaluationView,
    ResultOf,
    Stage,
    Versions,
    VersionView,
    new_evaluation_id,
)
from pipelines.store.withdrawn import FoundIn, Withdrawals, WithdrawalView
from pipelines.store.worklist import LEASE, Worklist
from pipelines.store.workspaces import CaseComments, SealedComment, Workspaces, WorkspaceView

__all__ = [
    "DRAWN_MODALITIES",
    "LEASE",
    "PRIORITIES",
    "SEGMENTATION_CLASSES",
    "Access",
    "AlarmKind",
    "AlarmView",
    "Alarms",
    "ArchivedChange",
    "AskedRun",
    "AskedRuns",
    "AssessmentView",
    "AuditEvent",
    "CaseComments",
    "CaseState",
    "CaseView",
    "Choices",
    "Chosen",
    "Collected",
    "CollectionView",
    "Collections",
    "CorrectionSource",
    "CorrectionView",
    "Corrections",
    "Count",
    "Database",
    "DatasetCase",
    "DatasetView",
    "Datasets",
    "DeedView",
    "DeliveryView",
    "Difference",
    "DraftKeys",
    "DraftView",
    "Drafts",
    "Drawn",
    "Effort",
    "ElsewhereObjects",
    "ElsewhereState",
    "ElsewhereView",
    "EpochView",
    "EvaluationView",
    "ExportView",
    "Exports",
    "Finished",
    "FoundIn",
    "FreezingView",
    "Freezings",
    "Held",
    "HeldContent",
    "HeldState",
    "HeldView",
    "JobSeries",
    "JobView",
    "Jobs",
    "Judged",
    "LabelTag",
    "LabelView",
    "Labelled",
    "LauncherName",
    "NewCorrection",
    "NewExport",
    "NewFreezing",
    "NewTask",
    "NewTraining",
    "Picking",
    "Priority",
    "Reading",
    "ResultOf",
    "ResultView",
    "Role",
    "RoundState",
    "RoundView",
    "Rounds",
    "RuleView",
    "Seal",
    "SealedComment",
    "SealedIdentities",
    "SeriesFilter",
    "SeriesView",
    "Sort",
    "Stage",
    "Standing",
    "State",
    "StepView",
    "Stored",
    "Strategy",
    "Studies",
    "StudyView",
    "TaskView",
    "Token",
    "Trail",
    "TrainingStep",
    "TrainingView",
    "Trainings",
    "Unseen",
    "User",
    "Verdict",
    "VersionView",
    "Versions",
    "WantedCases",
    "WithdrawalView",
    "Withdrawals",
    "Worklist",
    "WorkspaceView",
    "Workspaces",
    "known_dataset",
    "new_evaluation_id",
]
