"""The words for what people draw: every segment type of PS3.16, found by a few letters.

The terms are those of context groups 7191 to 7198, each with the category that its group belongs to
(CID 7150), in pydicom's copy of them: nothing is asked of a network.
"""

from __future__ import annotations

import colorsys
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final, cast

from dicom.codes import (
    ANATOMICAL_STRUCTURE,
    BODY_STRUCTURE,
    MORPHOLOGICALLY_ABNORMAL,
    STRUCTURES,
    Code,
    Rgb,
)

_CATEGORY_OF_GROUP: Final = {  # PS3.16: CID of property types -> its member of CID 7150
    7192: "AnatomicalStructure",
    7194: "MorphologicallyAbnormalStructure",
    7191: "Tissue",
    7197: "BodySubstance",
    7193: "PhysicalObject",
    7198: "Substance",
    7195: "Function",
    7196: "SpatialAndRelationalConcept",
}
_CATEGORIES: Final = 7150
_SIDED: Final = (ANATOMICAL_STRUCTURE, MORPHOLOGICALLY_ABNORMAL)
_WORDS: Final = re.compile(r"[a-z0-9]+")
_SAID: Final = (  # words of a term, and what else people type for it
    ({"neoplasm"}, {"tumor", "cancer"}),
    ({"neoplasm", "secondary"}, {"metastasis", "metastases"}),
)
_SIDES: Final = frozenset({"left", "right", "bilateral"})


@dataclass(frozen=True, slots=True)
class Term:
    """What a segment can be: category and type in codes, and a colour to show it in.

    `laterality_allowed` says whether a side makes sense beside it.
    """

    label: str
    category: Code
    type: Code
    laterality_allowed: bool
    rgb: Rgb


def named(label: str) -> Term | None:
    """Return the term of that very name, whatever its letters' case; None where there is none."""
    found = search(label)
    return next((term for term in found if term.label.casefold() == label.casefold()), None)


def unnamed(label: str) -> Term:
    """Return a term for what the vocabulary has no name for: a body structure, no more."""
    return Term(label, ANATOMICAL_STRUCTURE, BODY_STRUCTURE, True, _colour(label))


def search(text: str, *, limit: int = 30) -> list[Term]:
    """Return the terms whose words begin with the words of a text; the usual organs come first.

    A side in the text is passed over: it is no part of the term. British and American spelling are
    one. An empty text gives the organs,
    tissues and lesions that are segmented most.
    """
    wanted = [word for word in _WORDS.findall(text.casefold()) if word not in _SIDES]
    found = []
    for term, words, usual in _index():
        if all(any(word.startswith((each, _plain(each))) for word in words) for each in wanted):
            rank = (not usual, not term.label.casefold().startswith(" ".join(wanted)))
            found.append((rank, len(term.label) if wanted else 0, term))
    found.sort(key=lambda one: one[:2])
    return [term for _, _, term in found[:limit]]


@cache
def _index() -> tuple[tuple[Term, frozenset[str], bool], ...]:
    """Return each term with the words that it is found by, and whether it is a usual one."""
    usual: dict[str, Term] = {}
    names: dict[str, set[str]] = {}
    for structure in STRUCTURES.values():
        value = structure.type.value
        names.setdefault(value, set()).update(_WORDS.findall(structure.name))
        if structure.laterality is None:
            sided = f"{structure.name}_left" in STRUCTURES or (
                structure.category == MORPHOLOGICALLY_ABNORMAL
            )
            usual[value] = Term(
                structure.type.meaning, structure.category, structure.type, sided, structure.rgb
            )
    rows = [(term, _words(term) | names[value], True) for value, term in usual.items()]
    for category, kind in _standard():
        if kind.value not in usual:
            side = category in _SIDED and not _SIDES & {*_WORDS.findall(kind.meaning.casefold())}
            term = Term(kind.meaning, category, kind, side, _colour(kind.value))
            rows.append((term, _words(term), False))
    return tuple((term, frozenset(words), is_usual) for term, words, is_usual in rows)


def _words(term: Term) -> set[str]:
    said = set(_WORDS.findall(term.label.casefold()))
    return said.union(map(_plain, said), *(more for words, more in _SAID if words <= said))


def _plain(word: str) -> str:
    """Return a word in American spelling, which most of PS3.16 has: edema, hemorrhage, tumor."""
    return word.replace("ae", "e").replace("oe", "e").replace("our", "or")


def _standard() -> Iterator[tuple[Code, Code]]:
    """Yield category and type of every term of the standard, each type once."""
    seen: set[tuple[str, str]] = set()
    categories = {code.meaning.replace(" ", "").casefold(): code for code in _codes(_CATEGORIES)}
    for group, name in _CATEGORY_OF_GROUP.items():
        category = categories[name.casefold()]
        for kind in _codes(group):
            if (kind.value, kind.scheme) not in seen:
                seen.add((kind.value, kind.scheme))
                yield category, kind


def _codes(group: int) -> Iterator[Code]:
    from pydicom.sr._cid_dict import cid_concepts  # 20 MB: when it is needed
    from pydicom.sr._concepts_dict import concepts

    # pydicom types its dictionary as one of objects: keyword -> value -> meaning, groups.
    known = cast(Mapping[str, Mapping[str, Mapping[str, tuple[str, list[int]]]]], concepts)
    for scheme, keywords in cid_concepts[group].items():
        for keyword in keywords:
            for value, (meaning, groups) in known[scheme][keyword].items():
                if group in groups and len(value) <= 16 and len(meaning) <= 64:
                    yield Code(value, scheme, meaning)


def _colour(value: str) -> Rgb:
    """Return a colour of a term's own, the same every time, of one brightness with the others."""
    hue = hashlib.sha256(value.encode()).digest()[0] / 256
    red, green, blue = colorsys.hls_to_rgb(hue, 0.6, 0.55)
    return round(red * 255), round(green * 255), round(blue * 255)
