"""The tables: what radloop remembers, one class each.

No table holds a patient's name, id, date or original UID in clear. Studies and series are known
by their pseudonymised UIDs; the way back lies sealed in :class:`VaultRow`. Orthanc's resource ids
are kept because the archive is addressed by them. Times are UTC.
"""

from pipelines.records.archived import CursorRow, SeriesRow, StudyRow
from pipelines.records.base import Base, UtcDateTime
from pipelines.records.collections import CollectedRow, CollectionRow, ExportedRow, ExportRow
from pipelines.records.drawn import AssessmentRow, CorrectionRow, DraftRow, ElsewhereRow
from pipelines.records.freezings import FreezingRow, TrainingSpanRow
from pipelines.records.held import HeldRow, WithdrawalRow, WithdrawnRow
from pipelines.records.identities import VaultRow
from pipelines.records.learning import (
    AlarmRow,
    DatasetCaseRow,
    DatasetRow,
    EpochRow,
    EvaluationRow,
    LearningRuleRow,
    ModelDeedRow,
    ModelVersionRow,
    TrainingRow,
)
from pipelines.records.people import AuditHeadRow, AuditRow, SessionRow, TokenRow, UserRow
from pipelines.records.work import (
    AskedRunRow,
    DeliveryRow,
    JobRow,
    JobSeriesRow,
    ResultRow,
    StepRow,
    TaskRow,
    WorkerRow,
)
from pipelines.records.worklist import (
    CaseCommentRow,
    CaseRow,
    ReadingRow,
    RoundRow,
    WorklistLookRow,
    WorkspaceCaseRow,
    WorkspaceMemberRow,
    WorkspaceRow,
)

__all__ = [
    "AlarmRow",
    "AskedRunRow",
    "AssessmentRow",
    "AuditHeadRow",
    "AuditRow",
    "Base",
    "CaseCommentRow",
    "CaseRow",
    "CollectedRow",
    "CollectionRow",
    "CorrectionRow",
    "CursorRow",
    "DatasetCaseRow",
    "DatasetRow",
    "DeliveryRow",
    "DraftRow",
    "ElsewhereRow",
    "EpochRow",
    "EvaluationRow",
    "ExportRow",
    "ExportedRow",
    "FreezingRow",
    "HeldRow",
    "JobRow",
    "JobSeriesRow",
    "LearningRuleRow",
    "ModelDeedRow",
    "ModelVersionRow",
    "ReadingRow",
    "ResultRow",
    "RoundRow",
    "SeriesRow",
    "SessionRow",
    "StepRow",
    "StudyRow",
    "TaskRow",
    "TokenRow",
    "TrainingRow",
    "TrainingSpanRow",
    "UserRow",
    "UtcDateTime",
    "VaultRow",
    "WithdrawalRow",
    "WithdrawnRow",
    "WorkerRow",
    "WorklistLookRow",
    "WorkspaceCaseRow",
    "WorkspaceMemberRow",
    "WorkspaceRow",
]
