"""Which attributes an IOD has, and which it requires (PS3.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

from dicom.profile.table import facts

_OF_A_STUDY: Final = "1.2.840.10008.5.1.4.1.1."


@dataclass(frozen=True, slots=True)
class _Types:
    """Types of attributes: 1 (1, 1C) and 2 (2, 2C); what is absent is type 3."""

    sop_classes: Mapping[str, str]
    iods: Mapping[str, Mapping[int, int]]
    nested: Mapping[tuple[int, int], int]


@cache
def _types() -> _Types:
    content = facts("iod_types.json")
    sop_classes, iods, nested = content["sop_classes"], content["iods"], content["nested"]
    assert isinstance(sop_classes, dict) and isinstance(iods, dict) and isinstance(nested, dict)
    return _Types(
        sop_classes,
        {
            iod: {int(tag, 16): int(kind) for kind, tags in types.items() for tag in tags}
            for iod, types in iods.items()
        },
        {
            (int(parent, 16), int(child, 16)): int(kind)
            for child, types in nested.items()
            for kind, parents in types.items()
            for parent in parents
        },
    )


@cache
def known_sop_classes() -> frozenset[str]:
    """Return the SOP classes of PS3.4 B.5 whose objects belong to a study: no directories."""
    return frozenset(uid for uid in _types().sop_classes if uid.startswith(_OF_A_STUDY))


def iod_of(sop_class_uid: str) -> str:
    """Return the name of the IOD that a storage SOP class stores; empty when none is known."""
    return _types().sop_classes.get(sop_class_uid, "")


def type_in(iod: str, parent: int, tag: int) -> int:
    """Return the type of an attribute, 1, 2 or 3 (PS3.5 7.4), in an IOD or a sequence's items."""
    if parent:
        return _types().nested.get((parent, tag), 3)
    return _types().iods.get(iod, {}).get(tag, 3)


@dataclass(frozen=True, slots=True)
class _Members:
    modules: Mapping[str, frozenset[int]]
    iods: Mapping[str, tuple[str, ...]]
    nested: Mapping[int, frozenset[int]]


def _tags(text: str) -> frozenset[int]:
    return frozenset(int(tag, 16) for tag in text.split())


@cache
def _members() -> _Members:
    content = facts("iod_attributes.json")
    modules, iods, nested = content["modules"], content["iods"], content["nested"]
    assert isinstance(modules, dict) and isinstance(iods, dict) and isinstance(nested, dict)
    return _Members(
        {name: _tags(tags) for name, tags in modules.items()},
        {name: tuple(modules_of) for name, modules_of in iods.items()},
        {int(parent, 16): _tags(children) for parent, children in nested.items()},
    )


@cache
def _top_level(iod: str) -> frozenset[int]:
    members = _members()
    return frozenset().union(*(members.modules[name] for name in members.iods.get(iod, ())))


def belongs(iod: str, parent: int, tag: int) -> bool:
    """Return whether an attribute is part of an IOD, or of the items of a sequence.

    True where nothing is known of the IOD or the sequence: then its value representation decides.
    """
    if parent:
        children = _members().nested.get(parent)
        return children is None or tag in children
    known = _top_level(iod)
    return not known or tag in known


def attributes_of(iod: str) -> frozenset[int]:
    """Return the tags of an IOD's attributes at the top level; nothing where none is known."""
    return _top_level(iod)


def known_iods() -> tuple[str, ...]:
    """Return the names of all IODs whose attributes are known."""
    return tuple(sorted(_members().iods))
