"""What de-identification took from a study: the way back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dicom.errors import CannotDeidentify


@dataclass(frozen=True)
class Identity:
    """What de-identification took from a study: the way back.

    Parameters
    ----------
    study_pseudonym : str
        The StudyInstanceUID after de-identification.
    uids : Mapping of str to str
        Pseudonym -> original, for every UID that was replaced.
    attributes : Mapping of str to object
        The original patient- and study-level attributes in the DICOM JSON model (PS3.18 F.2):
        ``Dataset.from_json`` reads them.
    """

    study_pseudonym: str
    uids: Mapping[str, str]
    attributes: Mapping[str, object]

    @classmethod
    def of(cls, parts: Iterable[Identity]) -> Identity:
        """Return the identity of all parts; where they differ in a detail, the first stands.

        Parameters
        ----------
        parts : Iterable of Identity
            Of one study's instances; at least one.

        Raises
        ------
        CannotDeidentify
            When parts are of different studies or name different patients, or when one pseudonym
            stands for two UIDs.
        ValueError
            When there is no part.
        """
        remaining = iter(parts)
        first = next(remaining, None)
        if first is None:
            raise ValueError("an identity has at least one part")
        uids, attributes = dict(first.uids), dict(first.attributes)
        for part in remaining:
            if part.study_pseudonym != first.study_pseudonym:
                raise CannotDeidentify("two studies cannot share one identity")
            for tag in ("00100020", "00100021"):
                if part.attributes.get(tag) != first.attributes.get(tag):
                    raise CannotDeidentify("the study's instances name different patients")
            for pseudonym, original in part.uids.items():
                if uids.setdefault(pseudonym, original) != original:
                    raise CannotDeidentify("one pseudonym stands for two UIDs")
            for tag, value in part.attributes.items():
                attributes.setdefault(tag, value)
        return cls(first.study_pseudonym, uids, attributes)

    def merged(self, other: Identity) -> Identity:
        """Return the identity of both, as :meth:`of` does."""
        return Identity.of((self, other))
