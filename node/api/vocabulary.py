"""The vocabulary of segments: words to search in, without a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query

from dicom.codes import Code
from dicom.vocabulary import Term, search
from node.auth import ClinicalCaller

router = APIRouter(prefix="/api/vocabulary", tags=["vocabulary"])


@dataclass(frozen=True, slots=True)
class Word:
    """What a segment can be, in codes; `region` is null where the type alone says it."""

    label: str
    category: Code
    type: Code
    region: Code | None
    laterality_allowed: bool
    colour: tuple[int, int, int]


@router.get("")
def vocabulary(
    _caller: ClinicalCaller,
    q: Annotated[str, Query(max_length=64)] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 30,
) -> list[Word]:
    """Find terms by the beginnings of their words; the usual organs come first."""
    return [_word(term) for term in search(q, limit=limit)]


def _word(term: Term) -> Word:
    return Word(term.label, term.category, term.type, None, term.laterality_allowed, term.rgb)
