"""Taking the identity off, and seeing that it is gone; what is refused waits for a person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import structlog

from dicom.deid import Engine, Identity
from dicom.errors import (
    CannotDeidentify,
    Dismissed,
    InputError,
    NotAnImage,
    PatientWithdrawn,
)
from dicom.study import Instance, Series, Study
from pipelines.inference.house import House
from pipelines.keyring import NODE_PROJECT
from pipelines.looking import SeriesLook, study_tokens
from pipelines.store import HeldContent

log = structlog.get_logger()

_ACTOR = "worker"


@dataclass(frozen=True, slots=True)
class _Cleaned:
    """A series without its identity, and the second look at it as far as it went."""

    series: Series
    sources: Sequence[Path]
    look: SeriesLook


class Cleaning:
    """The steps of a job that deal with identity: de-identify, collect.

    Parameters
    ----------
    house : House
        What they work with.
    """

    def __init__(self, house: House) -> None:
        self._house = house

    # --- for the node's own models --------------------------------------------------------------

    def deidentify(self, job_id: str) -> None:
        """Take the identity off every instance, look a second time, and seal it in the vault.

        Fails closed: what is refused in one series holds the study back, and every series that is
        refused is noted for a person to decide on. A series that a person dismissed is left out.

        Raises
        ------
        InputError
            The first refusal; nothing of the study goes on.
        """
        workspace = self._house.workspace(job_id)
        sources = workspace.sources()
        if not any(sources.values()):
            raise NotAnImage("the study is empty")
        contents = self._contents(job_id, NODE_PROJECT)
        wanted = self._not_dismissed(job_id, sources, contents)
        cleaned: list[_Cleaned] = []
        refused: list[InputError] = []

        def taken() -> Iterator[Identity]:
            """One at a time: a long study's identities are never held all at once."""
            for series_id, paths in wanted.items():
                folder = workspace.clean_folder(series_id)
                ready = self._house.groundwork.take(series_id, paths, folder)
                engine = self._engine_for(contents[series_id])
                instances: list[Instance] = []
                try:
                    for path in paths:
                        instance: Instance
                        if path in ready.files:
                            prepared = ready.files[path]
                            instance, identity = prepared.instance, prepared.identity
                        else:
                            instance, identity = engine.deidentify_file(path, folder)
                            ready.look.read(path)
                        yield identity
                        instances.append(instance)
                except InputError as error:
                    refused.append(self._hold(contents[series_id], error))
                    continue
                cleaned.append(_Cleaned(self._series(series_id, instances), paths, ready.look))

        identity = self._identity_of(taken(), contents, refused)
        refused += self._look(cleaned, identity, contents)
        if refused:
            raise refused[0]
        self._house.vault.seal(identity)
        study = Study(identity.study_pseudonym, tuple(each.series for each in cleaned))
        self._house.keep_study(job_id, study)

    def _not_dismissed(
        self,
        job_id: str,
        sources: Mapping[str, tuple[Path, ...]],
        contents: Mapping[str, HeldContent],
    ) -> dict[str, tuple[Path, ...]]:
        """Return the series that nobody dismissed.

        Raises
        ------
        Dismissed
            When none is left.
        """
        dismissed = Dismissed("a person decided that this series is not to be used")
        wanted = {}
        for series_id, paths in sources.items():
            if self._house.held.is_deleted(contents[series_id]):
                self._house.jobs.skip_series(job_id, series_id, dismissed)
            else:
                wanted[series_id] = paths
        if not any(wanted.values()):
            raise dismissed
        return wanted

    def _engine_for(self, content: HeldContent) -> Engine:
        """Return who de-identifies a series: with what a person released of it let pass."""
        released = self._released(content)
        return self._house.overruled(released) if released else self._house.deidentifier

    def _identity_of(
        self,
        parts: Iterator[Identity],
        contents: Mapping[str, HeldContent],
        refused: Sequence[InputError],
    ) -> Identity:
        """Return what was taken from the study as a whole.

        Raises
        ------
        InputError
            When nothing could be taken, or its parts contradict each other.
        """
        first = next(parts, None)
        if first is None:
            raise refused[0]
        try:
            return Identity.of(chain([first], parts))
        except CannotDeidentify as error:
            one = next(iter(contents.values()))
            whole = HeldContent(one.study_id, "", one.job_id, one.project, one.job_id)
            raise self._hold(whole, error) from None

    def _look(
        self,
        cleaned: Sequence[_Cleaned],
        identity: Identity,
        contents: Mapping[str, HeldContent],
    ) -> list[InputError]:
        """Search all of the study for anything of its patient; return what was refused."""
        others = self._house.vault.others_of(identity, actor=_ACTOR, reason="second look")
        tokens = study_tokens([each.look for each in cleaned], others)
        refused = []
        for each in cleaned:
            paths = [instance.path for instance in each.series.instances]
            try:
                each.look.look(
                    dict(zip(each.sources, paths, strict=True)), tokens | each.look.tokens
                )
            except InputError as error:
                refused.append(self._hold(contents[each.series.series_uid], error))
        return refused

    def _series(self, series_id: str, instances: list[Instance]) -> Series:
        modality = self._house.studies.series(series_id).modality
        return Series(series_id, modality, tuple(instances))

    # --- for projects ---------------------------------------------------------------------------

    def collect(self, job_id: str, wanted: Sequence[tuple[Series, Sequence[str]]]) -> None:
        """Store series in the research archive, for each project; the node's has an empty name.

        What a project refuses is held back, and the job goes on.
        """
        workspace = self._house.workspace(job_id)
        sources = workspace.sources()
        for series, projects in wanted:
            for project in projects:
                if not project:
                    self._store_as_it_is(job_id, series)
                    continue
                content = self._contents(job_id, project)[series.series_uid]
                if self._house.held.is_deleted(content):
                    continue
                folder = workspace.folder / "collect" / project / series.series_uid
                collector = self._house.collectors[project]
                released = self._released(content)
                if released:
                    collector = self._house.overruled_collector(project, released)
                try:
                    collector.take(series.series_uid, sources[series.series_uid], folder)
                except PatientWithdrawn:
                    continue  # it stands on the trail; nobody has to decide anything
                except InputError as error:
                    self._hold(content, error)
                else:
                    self._house.held.lift(content)

    def _store_as_it_is(self, job_id: str, series: Series) -> None:
        """Store what the node's models saw, unless the patient has withdrawn."""
        study = self._house.study(job_id)
        if self._house.withdrawals.is_withdrawn([self._house.vault.patient(study.study_uid)]):
            log.info("not_collected", series=series.series_uid, code=PatientWithdrawn.code)
            return
        for instance in series.instances:
            self._house.research.store(instance.path)

    # --- what is held back ----------------------------------------------------------------------

    def _contents(self, job_id: str, project: str) -> dict[str, HeldContent]:
        job = self._house.jobs.job(job_id)
        return {
            part.series_id: HeldContent(
                job.study_id, part.series_id, job_id, project, part.fingerprint
            )
            for part in job.series
        }

    def _hold(self, content: HeldContent, error: InputError) -> InputError:
        self._house.held.hold(content, error)
        log.warning("held_back", job=content.job_id, series=content.series_id, code=error.code)
        return error

    def _released(self, content: HeldContent) -> frozenset[str]:
        """Return what a person overruled; nothing where the archive holds other bytes by now."""
        released = self._house.held.released(content)
        if not released:
            return released
        row = self._house.studies.series(content.series_id)
        now = self._house.clinical.fingerprint(self._house.clinical.series(row.orthanc_id))
        return released if now == content.fingerprint else frozenset()
