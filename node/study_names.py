"""From the archive's StudyInstanceUIDs to our pseudonyms, many at once; kept in memory alone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Final

from dicom.archive import Archive
from pipelines.store import Studies

_AT_ONCE: Final = 8
_MOST_KEPT: Final = 20_000


class StudyNames:
    """Which of our studies are which of the clinical archive's; safe to use from threads.

    Parameters
    ----------
    archive : Archive
        The clinical archive, asked once for each UID.
    """

    def __init__(self, archive: Archive, studies: Studies) -> None:
        self._archive = archive
        self._studies = studies
        self._kept: OrderedDict[str, str] = OrderedDict()
        self._lock = Lock()

    def of(self, study_uids: Sequence[str]) -> dict[str, str]:
        """Return the pseudonyms of these studies; those that nobody knows are left out.

        Raises
        ------
        PeerError
            When the archive does not answer.
        """
        with self._lock:
            found = {uid: self._kept[uid] for uid in study_uids if uid in self._kept}
        rest = [uid for uid in dict.fromkeys(study_uids) if uid not in found]
        if rest:
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                for uid, study in zip(rest, pool.map(self._ask, rest), strict=True):
                    if study is not None:
                        found[uid] = study
            self._keep({uid: found[uid] for uid in rest if uid in found})
        return {uid: found[uid] for uid in study_uids if uid in found}

    def _ask(self, study_uid: str) -> str | None:
        there = self._archive.lookup("studies", study_uid)
        if len(there) != 1:  # studies of two patients under one UID: neither is told
            return None
        study = self._studies.study_in_archive(there[0])
        return study.id if study else None

    def _keep(self, known: dict[str, str]) -> None:
        with self._lock:
            self._kept.update(known)
            while len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
