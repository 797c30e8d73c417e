"""The reading room: everything that readers share, on the rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from dicom.archive import Archive
from dicom.errors import DrawerLocked
from pipelines.corrections import SourceGrids
from pipelines.drawer import Drawer
from pipelines.reading.agreeing import Agreeing
from pipelines.reading.preview import Previews
from pipelines.store import (
    CaseComments,
    Corrections,
    Database,
    Rounds,
    SealedComment,
    Studies,
    Unseen,
    Worklist,
    Workspaces,
)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Comment:
    """What somebody wrote of a case; `text` is None where it cannot be opened any longer."""

    id: str
    author: str
    created_at: datetime
    text: str | None


class ReadingRoom:
    """What readers share; safe to use from threads.

    Parameters
    ----------
    archive : Archive
        The clinical archive.
    grids : SourceGrids
        The desk's.
    drawer : Drawer
        Seals comments: people write names into them.
    lease : timedelta
        How long a claim holds without being renewed.
    tolerance_mm : float
        How near two surfaces count as the same.
    """

    def __init__(
        self,
        database: Database,
        archive: Archive,
        grids: SourceGrids,
        drawer: Drawer,
        *,
        lease: timedelta,
        tolerance_mm: float,
    ) -> None:
        self.lease = lease
        self.worklist = Worklist(database, lease=lease)
        self.rounds = Rounds(database)
        self.workspaces = Workspaces(database)
        self.previews = Previews(archive, Studies(database), grids, self.worklist)
        self.agreeing = Agreeing(
            archive,
            Studies(database),
            Corrections(database),
            self.rounds,
            grids,
            tolerance_mm=tolerance_mm,
        )
        self._comments = CaseComments(database)
        self._drawer = drawer

    def comment(self, case_id: str, text: str, *, author: str) -> Comment:
        """Keep what somebody writes of a case, sealed.

        Raises
        ------
        NotFound
            When there is no such case.
        """
        row = self._comments.add(
            case_id,
            author=author,
            seal=lambda comment_id: self._drawer.close(
                text.encode(), bound_to=_owner(case_id, comment_id)
            ),
        )
        return self._opened(row)

    def comments(self, case_id: str, unseen: Unseen) -> list[Comment]:
        """Return the comments on a case, the oldest first, without those that are hidden."""
        study_id = self.worklist.case(case_id).study_id
        return [
            self._opened(row)
            for row in self._comments.of_case(case_id)
            if not unseen.covers(study_id, row.author, row.created_at)
        ]

    def _opened(self, row: SealedComment) -> Comment:
        try:
            content = self._drawer.open(row.sealed, bound_to=_owner(row.case_id, row.id))
        except DrawerLocked as error:
            log.warning("comment_not_opened", code=error.code)
            return Comment(row.id, row.author, row.created_at, None)
        return Comment(row.id, row.author, row.created_at, content.decode())


def _owner(case_id: str, comment_id: str) -> str:
    return f"case comment {case_id} {comment_id}"
