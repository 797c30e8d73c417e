"""Patients' names beside pseudonyms: asked live of the clinical archive, kept nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import structlog

from dicom.archive import Archive, ArchivedStudy
from dicom.errors import PeerError
from pipelines.store import StudyView

_AT_ONCE = 8
_WAIT_S = 2.0

log = structlog.get_logger()


class Patients:
    """Who the patients of some studies are, for clinical roles.

    Parameters
    ----------
    archive : Archive
        The clinical archive.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="patients")

    def of(self, studies: Sequence[StudyView]) -> dict[str, ArchivedStudy]:
        """Return the identity of each study that the archive tells within two seconds.

        A page must not wait for an archive that is down: what is missing is shown as missing.
        """
        asked = {study.id: self._pool.submit(self._ask, study.orthanc_id) for study in studies}
        wait(asked.values(), timeout=_WAIT_S)
        found = {}
        for study_id, answer in asked.items():
            if answer.done():
                identity = answer.result()
                if identity is not None:
                    found[study_id] = identity
            else:
                answer.cancel()
        if len(found) < len(asked):
            log.warning("names_missing", count=len(asked) - len(found))
        return found

    def close(self) -> None:
        """Ask no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _ask(self, orthanc_id: str) -> ArchivedStudy | None:
        try:
            return self._archive.study(orthanc_id)
        except PeerError:
            return None
