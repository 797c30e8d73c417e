"""Which series of a study a bundle is given: rules as data, and the reason where none fits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from dicom.errors import MissingInput, UnsuitableSeries
from dicom.sequence import read_sequence
from dicom.study import Series, Study
from dicom.volume import SeriesFacts, describe_series
from models.bundle import Bundle
from models.tasks import Input


@dataclass(frozen=True, slots=True)
class Candidate:
    """A series, what it says of itself, and why it is not for the bundle; None when it is."""

    series: Series
    facts: SeriesFacts
    why_not: str | None


def candidates(bundle: Bundle, study: Study) -> tuple[Candidate, ...]:
    """Return every series of a study, seen as the bundle's first input; the best ones first.

    The best has most slices, then the finest ones; what is equal in that goes by UID, so that the
    same study always gives the same choice.

    Raises
    ------
    NotDicom
        When a file cannot be read as DICOM.
    """
    found = [_candidate(bundle, bundle.inputs[0], series) for series in study.series]
    return tuple(sorted(found, key=_best_first))


def choose_series(bundle: Bundle, study: Study, first: Series) -> dict[str, Series]:
    """Return the series for each input of a bundle, by the inputs' names.

    Parameters
    ----------
    first : Series
        Of the study: for the first input.

    Raises
    ------
    UnsuitableSeries
        When the bundle is not for `first`.
    MissingInput
        When the study has no series for another input; no series is given twice.
    """
    own = _candidate(bundle, bundle.inputs[0], first)
    if own.why_not is not None:
        raise UnsuitableSeries(f"the model is not for this series: {own.why_not}")
    chosen = {bundle.inputs[0].name: first}
    for each in bundle.inputs[1:]:
        left = [
            s for s in study.series if s.series_uid not in {c.series_uid for c in chosen.values()}
        ]
        seen = sorted((_candidate(bundle, each, series) for series in left), key=_best_first)
        if not seen or seen[0].why_not is not None:
            raise MissingInput(f"no series of the study is a {each.name}")
        chosen[each.name] = seen[0].series
    return chosen


def why_not(wanted: Input, facts: SeriesFacts, sequence: Mapping[str, float]) -> str | None:
    """Return why a series is not the wanted input, in plain words; None when it is.

    Parameters
    ----------
    sequence : Mapping of str to float
        From :func:`dicom.sequence.read_sequence`.
    """
    rule = wanted.wanted
    texts = [text for text in (facts.description, facts.protocol) if text]
    image_type = {value.upper() for value in facts.image_type}
    if rule.modalities and facts.modality not in rule.modalities:
        return f"modality {facts.modality} is not {' or '.join(rule.modalities)}"
    if rule.description and not _found(rule.description, facts.description):
        return f"its description does not match {rule.description}"
    if rule.protocol and not _found(rule.protocol, facts.protocol):
        return f"its protocol does not match {rule.protocol}"
    if rule.not_description and any(_found(rule.not_description, text) for text in texts):
        return f"its description matches {rule.not_description}"
    if rule.contrast is not None and facts.contrast_agent != rule.contrast:
        return f"it has {'no' if rule.contrast else 'a'} contrast agent"
    for value in rule.image_type:
        if value.upper() not in image_type:
            return f"its image type lacks {value}"
    for value in rule.not_image_type:
        if value.upper() in image_type:
            return f"its image type has {value}"
    for keyword, (low, high) in (rule.sequence or {}).items():
        if not low <= sequence.get(keyword, float("nan")) <= high:
            return f"its {keyword} is not {low:g} to {high:g}"
    return None


def _candidate(bundle: Bundle, wanted: Input, series: Series) -> Candidate:
    facts = describe_series(series)
    sequence = read_sequence(series) if wanted.wanted.sequence else {}
    return Candidate(series, facts, bundle.suits(facts) or why_not(wanted, facts, sequence))


def _best_first(candidate: Candidate) -> tuple[bool, int, float, str]:
    facts = candidate.facts
    fineness = facts.spacing_mm if facts.spacing_mm is not None else float("inf")
    return candidate.why_not is not None, -facts.slice_count, fineness, candidate.series.series_uid


def _found(pattern: str, text: str | None) -> bool:
    return text is not None and re.search(pattern, text, re.IGNORECASE) is not None
