"""What an open round still hides, as a condition on rows: nothing that is told to all counts it.

:meth:`pipelines.store.Rounds.unseen_by` says what is hidden from one person. Figures that everybody
is shown (how much of a model is redrawn, which series have labels, what a dataset is made of) leave
out what is hidden from anyone, so that nobody can tell from them that something was stored.
"""

from __future__ import annotations

import sqlalchemy as sa

from pipelines.records import AssessmentRow, CorrectionRow, ReadingRow, RoundRow


def is_veiled(work: type[CorrectionRow] | type[AssessmentRow]) -> sa.ColumnElement[bool]:
    """Whether somebody's work belongs to a round that is still open."""
    return sa.exists().where(
        RoundRow.state == "open",
        RoundRow.study_id == work.study_id,
        RoundRow.opened_at <= work.created_at,
        ReadingRow.round_id == RoundRow.id,
        ReadingRow.reader == work.author,
    )
