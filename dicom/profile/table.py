"""PS3.15 Table E.1-1 and the lists beside it, read from dicom/data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType

from pydicom.datadict import tag_for_keyword

from dicom.profile.options import Option


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of Table E.1-1."""

    name: str
    basic: str
    options: Mapping[Option, str]


def facts(name: str) -> dict[str, object]:
    """Return the content of a file of dicom/data."""
    text = resources.files("dicom").joinpath("data", name).read_text(encoding="utf-8")
    content: dict[str, object] = json.loads(text)
    return content


@dataclass(frozen=True, slots=True)
class Table:
    """The table, its two repeating groups left out: those are removed as a whole."""

    edition: str
    rules: Mapping[int, Rule]


@cache
def table() -> Table:
    """Return Table E.1-1 with its edition."""
    content = facts("profile.json")
    rows = content["rows"]
    assert isinstance(rows, list)
    rules = {
        int(row["tag"], 16): Rule(
            row["name"],
            row["basic"],
            {Option(option): action for option, action in row["options"].items()},
        )
        for row in rows
        if row["tag"] != "private" and "x" not in row["tag"]
    }
    return Table(str(content["edition"]), rules)


def table_rules() -> Mapping[int, Rule]:
    """Return the rows of Table E.1-1 by tag, without private attributes, curves and overlays."""
    return MappingProxyType(dict(table().rules))


@cache
def _names(group: str) -> frozenset[str]:
    block = facts("kept.json")[group]
    assert isinstance(block, dict)
    return frozenset(block["names"])


@cache
def tags_of(group: str) -> frozenset[int]:
    """Return the tags of a list of kept.json."""
    tags = {tag_for_keyword(keyword) for keyword in _names(group)}
    return frozenset(tag for tag in tags if tag is not None)


def identity_tags() -> frozenset[int]:
    """Return the tags of patient and study that the vault keeps (PS3.3 C.7.1, C.7.2)."""
    return tags_of("identity")


def is_public_scheme(designator: str) -> bool:
    """Return whether a Coding Scheme Designator names a published scheme (PS3.16 Table 8-1)."""
    return designator in _names("public_coding_schemes")


def is_coded_term(word: str) -> bool:
    """Return whether a word, in lower case, is a defined term of code strings (CS)."""
    return word in _names("coded_terms")


@cache
def _safe_private() -> Mapping[str, Mapping[str, tuple[str, str]]]:
    creators = facts("safe_private.json")["creators"]
    assert isinstance(creators, dict)
    return {
        creator: {place: (vr, meaning) for place, (vr, meaning) in attributes.items()}
        for creator, attributes in creators.items()
    }


def safe_private(creator: str, tag: int) -> tuple[str, str] | None:
    """Return VR and meaning of a safe private attribute (PS3.15 Table E.3.10-1).

    Parameters
    ----------
    creator : str
        The private creator of its block, stripped of padding.
    tag : int
        Group and element; the block's number in it does not matter (PS3.5 7.8.1).

    Returns
    -------
    tuple of str, or None
        None where the list does not have it.
    """
    return _safe_private().get(creator, {}).get(f"{tag >> 16:04X}xx{tag & 0xFF:02X}")


def is_safe_creator(creator: str) -> bool:
    """Return whether the list of safe private attributes has any of this creator."""
    return creator in _safe_private()


def safe_private_rows() -> tuple[tuple[str, str, str, str], ...]:
    """Return creator, place (``GGGGxxEE``), VR and meaning of every safe private attribute."""
    return tuple(
        (creator, place, vr, meaning)
        for creator, attributes in sorted(_safe_private().items())
        for place, (vr, meaning) in sorted(attributes.items())
    )
