"""Models that can be run on a series by a person's wish, and the runs that are asked for."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter

from dicom.archive import ArchivedSeries
from dicom.errors import Conflict, NotFound, NotTakenIn, UnsuitableSeries
from dicom.sequence import read_sequence
from dicom.volume import SeriesFacts, describe_series
from models.bundle import Bundle
from models.choice import why_not
from models.region import Region
from node.auth import Caller
from node.parts import FrontParts
from pipelines.store import AskedRun, SeriesView

_FACTS = TypeAdapter(SeriesFacts)
_DOCUMENTS = frozenset({"SEG", "RTSTRUCT", "SR", "PR", "KO"})


@dataclass(frozen=True, slots=True)
class FittingModel:
    """A model that can be run on the series.

    Of a version that is not current, a candidate for one, `is_current` is false: routes do not take
    it, and who runs it wants that very one.
    """

    bundle: str
    title: str
    description: str
    is_current: bool


@dataclass(frozen=True, slots=True)
class OtherModel:
    """A model that cannot, and why."""

    bundle: str
    title: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Models:
    """The installed models, as far as a series is concerned."""

    fits: tuple[FittingModel, ...]
    others: tuple[OtherModel, ...]


def models_for(parts: FrontParts, study_uid: str, series_uid: str) -> Models:
    """Return which models can be run on a series, and why others cannot.

    Raises
    ------
    NotFound
        When the archive does not hold that series in that study.
    """
    archived, row = _series(parts, study_uid, series_uid)
    asked = _Asked.of(parts, archived, row)
    fits, others = [], []
    refused = parts.registry.refused()
    taken = {bundle.identity for bundle in parts.registry.taken()}
    for bundle in parts.registry.bundles:
        title = parts.registry.title_of(bundle.identity)
        if (error := refused.get(bundle.identity)) is not None:  # withdrawn, say
            others.append(OtherModel(bundle.identity, title, error.code, error.message))
            continue
        reason = asked.why_not(bundle)
        if reason is None:
            is_current = bundle.identity in taken
            fits.append(FittingModel(bundle.identity, title, bundle.description, is_current))
        else:
            others.append(OtherModel(bundle.identity, title, UnsuitableSeries.code, reason))
    fits.sort(key=lambda model: not model.is_current)
    others += [
        OtherModel(broken.root.name, broken.root.name, broken.error.code, broken.error.message)
        for broken in parts.registry.broken
    ]
    return Models(tuple(fits), tuple(others))


def ask_run(
    parts: FrontParts,
    caller: Caller,
    study_uid: str,
    series_uid: str,
    *,
    bundle: str,
    region: Region | None,
) -> str:
    """Schedule a model on a series, and return the job's id; the same wish is the same job.

    A run that failed or was canceled is tried again.

    Raises
    ------
    NotFound, UnknownBundle
        When there is no such series, or no such model.
    NotTakenIn, Conflict
        When the node has not read the series yet, or it is still arriving.
    UnsuitableSeries
        When the model is not for it.
    """
    archived, row = _series(parts, study_uid, series_uid)
    if row is None:
        raise NotTakenIn("the node has not read this study yet")
    chosen = parts.registry.get(bundle)
    reason = _Asked.of(parts, archived, row).why_not(chosen)
    if reason is not None:
        raise UnsuitableSeries(f"the model is not for this series: {reason}")
    content = _content(parts, row, chosen)
    job_id = _job_id(row, content, chosen, region)
    run = AskedRun(
        job_id=job_id,
        series_id=row.id,
        bundle=chosen.identity,
        region=None if region is None else (region.first_kji, region.last_kji),
        asked_by=caller.name,
    )
    if not parts.asked.ask(run, study_id=row.study_id, content=content):
        parts.jobs.retry(job_id)  # one that runs or is done stays as it is
    parts.audit.note("run_asked", actor=caller.name, object=job_id, reason=chosen.identity)
    return job_id


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is known of a series that a model may be for."""

    facts: SeriesFacts
    sequence: Mapping[str, float]

    @classmethod
    def of(cls, parts: FrontParts, archived: ArchivedSeries, row: SeriesView | None) -> _Asked:
        timed = any(bundle.inputs[0].wanted.sequence for bundle in parts.registry.bundles)
        kept = row.facts if row is not None else None
        if kept is not None and not timed:
            return cls(_FACTS.validate_python(kept), {})
        with tempfile.TemporaryDirectory(prefix="radloop-") as folder:
            # The echo time and the like stand in each image: one of them is enough.
            one = replace(archived, instances=archived.instances[:1])
            series = parts.clinical.fetch(archived if kept is None else one, Path(folder))
            facts = describe_series(series) if kept is None else _FACTS.validate_python(kept)
            return cls(facts, read_sequence(series) if timed else {})

    def why_not(self, bundle: Bundle) -> str | None:
        """Return why the model is not for the series, in plain words; None when it is."""
        return bundle.suits(self.facts) or why_not(bundle.inputs[0], self.facts, self.sequence)


def _series(
    parts: FrontParts, study_uid: str, series_uid: str
) -> tuple[ArchivedSeries, SeriesView | None]:
    for orthanc_id in parts.clinical.lookup("series", series_uid):
        archived = parts.clinical.series(orthanc_id)
        if archived.study_uid == study_uid:
            return archived, parts.studies.series_in_archive(orthanc_id)
    raise NotFound("the archive holds no such series in that study")


def _content(parts: FrontParts, row: SeriesView, bundle: Bundle) -> dict[str, str]:
    """Return the series that the job fetches: others too, where the model needs several."""
    wanted = [row]
    if len(bundle.inputs) > 1:
        wanted += [
            other
            for other in parts.studies.series_of(row.study_id)
            if other.id != row.id and not other.ours and other.modality not in _DOCUMENTS
        ]
    content = {each.id: each.fingerprint for each in wanted if each.state == "complete"}
    if not content.get(row.id):
        raise Conflict("the series is still arriving; try again in a few seconds")
    return {series_id: fingerprint for series_id, fingerprint in content.items() if fingerprint}


def _job_id(
    row: SeriesView, content: Mapping[str, str], bundle: Bundle, region: Region | None
) -> str:
    lines = [
        "asked",
        row.study_id,
        row.id,
        bundle.identity,
        bundle.sha256,
        repr(region),
        *(f"{series}:{content[series]}" for series in sorted(content)),
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:24]
