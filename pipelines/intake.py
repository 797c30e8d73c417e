"""From the archive's change feed to jobs: nothing that was stored is missed or done twice.

The feed is the truth, the plugin's ring only a wake-up: a node that was down reads on from its
cursor. The cursor moves in the transaction that writes the rows. A series is complete when no
instance came for `quiet_s`, counted from when the archive wrote the last one; a late slice opens it
again. The job's id derives from the content,
so that the same bytes sent again are the same job.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta

import structlog

from dicom.archive import Archive, ArchivedSeries
from dicom.errors import ArchiveMismatch
from pipelines.store import ArchivedChange, Jobs, SeriesView, Studies

log = structlog.get_logger()

_CLINICAL = "clinical"


_PAUSED = 0.2
"""Share of the quiet time after which a sender seems to pause."""

_MANY, _SHARE = 32, 0.25
"""New instances of a sender that does not pause, at least and as a share of the series, that are
worth a look: the list of a series is as long as the series is by then."""


class Intake:
    """Reads what is new in the clinical archive.

    Parameters
    ----------
    archive : Archive
        The clinical archive.
    pseudonym : callable
        From an original UID to its pseudonym.
    quiet_s : float
        Seconds without a new instance after which a series counts as complete.
    passed_over : collection of str
        Modalities of which no job is made beside images: no rule can take them. A study of nothing
        else gets its job, which says so.
    """

    def __init__(
        self,
        archive: Archive,
        studies: Studies,
        jobs: Jobs,
        *,
        pseudonym: Callable[[str], str],
        quiet_s: float,
        passed_over: Collection[str] = (),
    ) -> None:
        self._archive = archive
        self._studies = studies
        self._jobs = jobs
        self._pseudonym = pseudonym
        self._quiet_s = quiet_s
        self._passed_over = frozenset(passed_over)
        self._read_at: datetime | None = None  # the feed was read to its end, last
        self._digests: dict[str, dict[str, str]] = {}  # of what is received: by series and file

    def look(self) -> None:
        """Read the feed to its end, then make jobs of what has become complete.

        Raises
        ------
        PeerError
            When the archive does not answer; nothing is lost, look again later.
        """
        begun = datetime.now(UTC)
        while self._read_page():
            pass
        self._read_at = begun
        for study_id in self._studies.quiet(quiet_s=self._quiet_s):
            self._complete(study_id)

    def look_ahead(self) -> None:
        """Ask for the digests of what came in, so that the end of the quiet time does not.

        Raises
        ------
        PeerError
            When the archive does not answer; it will be asked again.
        """
        receiving = [one for one in self._studies.receiving() if not one.ours]
        digests = {one.id: self._digests.get(one.id, {}) for one in receiving}
        horizon = datetime.now(UTC) - timedelta(seconds=self._quiet_s * _PAUSED)
        for one in receiving:
            new = one.instance_count - len(digests[one.id])
            paused = one.changed_at <= horizon and new != 0
            if paused or new >= max(_MANY, _SHARE * one.instance_count):
                try:
                    series = self._archive.series(one.orthanc_id)
                    digests[one.id] = self._archive.digests(series, digests[one.id])
                except ArchiveMismatch:  # deleted since; the end of the quiet time says it
                    continue
        self._digests = digests

    def _read_page(self) -> bool:
        """Read one page; return whether there is more."""
        since = self._studies.cursor(_CLINICAL)
        page = self._archive.changes(since)
        if page.last < since:  # another Orthanc stands there, with a shorter history
            log.warning("archive_was_replaced", cursor=since)
            self._studies.rewind(_CLINICAL)
            return True
        if page.last == since:
            return False
        new = [change.resource_id for change in page.changes if change.kind == "NewInstance"]
        changes = (
            [self._change(series_id) for series_id in self._archive.series_of(new)] if new else []
        )
        known = [change for change in changes if change is not None]
        if self._studies.record_changes(_CLINICAL, since=since, until=page.last, changes=known):
            log.info("changes_read", changes=len(page.changes), cursor=page.last)
        return not page.done

    def _change(self, series_orthanc_id: str) -> ArchivedChange | None:
        try:
            series = self._archive.series(series_orthanc_id)
        except ArchiveMismatch:  # deleted since; its study may come again, by the same feed
            return None
        return ArchivedChange(
            study_id=self._pseudonym(series.study_uid),
            study_orthanc_id=series.study_orthanc_id,
            series_id=self._pseudonym(series.series_uid),
            series_orthanc_id=series.orthanc_id,
            modality=series.modality,
            instance_count=len(series.instances),
            ours=self._jobs.is_ours(series.series_uid),
            stored_at=self._stored_at(series),
        )

    def _stored_at(self, series: ArchivedSeries) -> datetime | None:
        """Return when its last instance came: not before the feed was read without it."""
        found = self._archive.stored_at(series)
        if found is None or self._read_at is None:
            return None
        return min(max(found, self._read_at), datetime.now(UTC))

    def _complete(self, study_id: str) -> None:
        content, as_of = {}, {}
        modalities = {}
        for view in self._studies.series_of(study_id):
            modalities[view.id] = view.modality
            if view.state == "receiving":
                as_of[view.id] = view.changed_at
                content[view.id] = self._fingerprint(view)
        is_all = self._passed_over.issuperset(modalities.values())
        passed_over = frozenset() if is_all else self._passed_over
        done = self._jobs.done_fingerprints(study_id)
        new = {
            series_id: fingerprint
            for series_id, fingerprint in content.items()
            if fingerprint
            and (series_id, fingerprint) not in done
            and modalities[series_id] not in passed_over
        }
        job_id = derive_job_id(study_id, new) if new else None
        if self._jobs.schedule(study_id, complete=content, as_of=as_of, job_id=job_id, new=new):
            log.info("job_scheduled", job=job_id, study=study_id, count=len(new))

    def _fingerprint(self, view: SeriesView) -> str:
        """Return the digest of a series' content; empty when the archive lost it meanwhile."""
        try:
            series = self._archive.series(view.orthanc_id)
            return self._archive.fingerprint(series, self._digests.get(view.id))
        except ArchiveMismatch:
            return ""


def derive_job_id(study_id: str, content: Mapping[str, str]) -> str:
    """Return the id of the job about that content of that study."""
    lines = [study_id, *(f"{series}:{content[series]}" for series in sorted(content))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:24]
