"""What a viewer says of a correction, beside its voxels."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from pipelines.labels import Head
from pipelines.store import Effort

_LONGEST_S = 7 * 24 * 3600.0


class EditingEffort(BaseModel):
    """What editing cost: seconds of work, seconds of rest between, strokes of any tool."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    active_s: float = Field(ge=0, le=_LONGEST_S)
    idle_s: float = Field(0.0, ge=0, le=_LONGEST_S)
    strokes: int = Field(0, ge=0, le=1_000_000)
    opened_at: datetime | None = None
    saved_at: datetime | None = None

    @property
    def row(self) -> Effort:
        """What is kept of it."""
        return Effort(self.active_s, self.idle_s, self.strokes)


class CorrectionHead(Head):
    """The head of a correction, and of a draft of one.

    `draft` is the draft that it was opened from, which ends when it is stored.
    """

    effort: EditingEffort | None = None
    comment: str | None = Field(None, max_length=2000)
    draft: str | None = Field(None, max_length=64)
