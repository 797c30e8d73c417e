"""What people say of results: accepted, modified, rejected, and why (IHE AIRAI's idea)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import structlog

from dicom.archive import Archive
from dicom.codes import Code
from dicom.errors import DrawerLocked, InvalidRequest, NotFound
from pipelines.drawer import Drawer
from pipelines.store import AssessmentView, Corrections, Judged, Verdict

log = structlog.get_logger()

_SCHEME: Final = "99RADLOOP"
REASONS: Final = (
    Code("incomplete", _SCHEME, "Part of the structure is missing"),
    Code("too_much", _SCHEME, "It reaches beyond the structure"),
    Code("wrong_place", _SCHEME, "It lies on another structure"),
    Code("wrong_side", _SCHEME, "Left and right are exchanged"),
    Code("wrong_label", _SCHEME, "It is called something else than it is"),
    Code("missed", _SCHEME, "A structure or finding was missed"),
    Code("nothing_there", _SCHEME, "It marks what is not there"),
    Code("bad_images", _SCHEME, "The images are not good enough: motion, artefacts, noise"),
    Code("wrong_series", _SCHEME, "The model was run on the wrong series"),
    Code("not_needed", _SCHEME, "Right, but of no use for this case"),
    Code("other", _SCHEME, "Another reason, see the comment"),
)
"""Why a result is rejected or modified; values are never given another meaning."""


@dataclass(frozen=True, slots=True)
class Assessed:
    """An assessment with its comment opened."""

    row: AssessmentView
    comment: str | None


class Verdicts:
    """Assessments of results and corrections.

    Parameters
    ----------
    archive : Archive
        The clinical archive.
    corrections : Corrections
        The rows.
    drawer : Drawer
        Seals comments: people write names into them.
    """

    def __init__(self, archive: Archive, corrections: Corrections, drawer: Drawer) -> None:
        self._archive = archive
        self._corrections = corrections
        self._drawer = drawer

    def judged(self, sop_instance_uid: str) -> Judged:
        """Return what a segmentation in the archive is to us.

        Raises
        ------
        NotFound
            When it is neither a result of a model nor a correction.
        """
        try:
            return self._corrections.judged(sop_instance_uid)
        except NotFound:
            for orthanc_id in self._archive.lookup("instances", sop_instance_uid):
                drawn = self._corrections.by_orthanc_id(orthanc_id)
                if drawn is not None:
                    return self._corrections.judged(drawn.id)
            raise

    def assess(
        self,
        sop_instance_uid: str,
        *,
        verdict: Verdict,
        reason: str | None,
        comment: str | None,
        author: str,
    ) -> Assessed:
        """Note what a person says of a result.

        Raises
        ------
        NotFound
            When there is no such result or correction.
        InvalidRequest
            When the reason is none of :data:`REASONS`, or a rejection has none.
        """
        if reason is not None and reason not in {code.value for code in REASONS}:
            raise InvalidRequest("reason: none of those that /api/assessments/reasons lists")
        if verdict == "rejected" and reason is None:
            raise InvalidRequest("reason: a rejection says why")
        judged = self.judged(sop_instance_uid)
        said = comment.strip() if comment else ""
        row = self._corrections.assess(
            judged.id,
            verdict=verdict,
            reason=reason,
            comment=self._drawer.close(said.encode(), bound_to=_owner(judged.id, author))
            if said
            else None,
            author=author,
        )
        return self._opened(row)

    def of_study(self, study_id: str) -> list[Assessed]:
        """Return the assessments of a study, the newest first."""
        return [self._opened(row) for row in self._corrections.assessments(study_id=study_id)]

    def _opened(self, row: AssessmentView) -> Assessed:
        if row.comment is None:
            return Assessed(row, None)
        try:
            content = self._drawer.open(row.comment, bound_to=_owner(row.result_id, row.author))
        except DrawerLocked as error:  # the verdict is still one
            log.warning("comment_not_opened", code=error.code)
            return Assessed(row, None)
        return Assessed(row, content.decode())


def _owner(result_id: str, author: str) -> str:
    return f"comment {result_id} {author}"
