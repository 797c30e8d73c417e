"""Which attributes an IOD has, and which it requires (PS3.3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

from dicom.profile.table import facts

_OF_A_STUDY: Final = "1.2.840.10008.5.1.4.1.1."

Types = Mapping[int, int]
"""Tag -> type of the attribute: 1 (1, 1C), 2 (2, 2C) or 3 (PS3.5 7.4)."""


@dataclass(frozen=True, slots=True)
class _Facts:
    sop_classes: Mapping[str, str]
    iods: Mapping[str, tuple[str, ...]]
    modules: Mapping[str, Types]
    nested: Mapping[int, Types]
    incomplete: frozenset[str]


@cache
def _facts() -> _Facts:
    content = facts("iods.json")
    sop_classes, iods = content["sop_classes"], content["iods"]
    modules, nested = content["modules"], content["nested"]
    assert isinstance(sop_classes, dict) and isinstance(iods, dict)
    assert isinstance(modules, dict) and isinstance(nested, dict)
    assert isinstance(content["incomplete"], list)
    return _Facts(
        sop_classes,
        {name: tuple(listed.split()) for name, listed in iods.items()},
        {name: _by_tag(types) for name, types in modules.items()},
        {int(parent, 16): _by_tag(types) for parent, types in nested.items()},
        frozenset(content["incomplete"]),
    )


def _by_tag(types: Mapping[str, str]) -> Types:
    return {int(tag, 16): int(kind) for kind, tags in types.items() for tag in tags.split()}


def _strictest(several: Iterable[Types]) -> Types:
    found: dict[int, int] = {}
    for types in several:
        for tag, kind in types.items():
            found[tag] = min(kind, found.get(tag, 3))
    return found


@cache
def _top_level(iod: str) -> Types:
    return _strictest(_facts().modules[name] for name in _facts().iods.get(iod, ()))


@cache
def known_sop_classes() -> frozenset[str]:
    """Return the SOP classes of PS3.4 B.5 whose objects belong to a study: no directories."""
    return frozenset(uid for uid in _facts().sop_classes if uid.startswith(_OF_A_STUDY))


def iod_of(sop_class_uid: str) -> str:
    """Return the name of the IOD that a storage SOP class stores; empty when none is known."""
    return _facts().sop_classes.get(sop_class_uid, "")


def known_iods() -> tuple[str, ...]:
    """Return the names of all IODs whose attributes are known."""
    return tuple(sorted(_facts().iods))


def attributes_of(iod: str) -> frozenset[int]:
    """Return the tags of an IOD's attributes at the top level; nothing where none is known."""
    return frozenset(_top_level(iod))


def type_in(iod: str, parent: int, tag: int) -> int:
    """Return the type of an attribute, 1, 2 or 3 (PS3.5 7.4), in an IOD or a sequence's items."""
    types = _facts().nested.get(parent, {}) if parent else _top_level(iod)
    return types.get(tag, 3)


def belongs(iod: str, parent: int, tag: int) -> bool:
    """Return whether an attribute is part of an IOD, or of the items of a sequence.

    True where nothing is known of the IOD or the sequence: then its value representation decides.
    """
    if iod in _facts().incomplete:
        return True
    known = _facts().nested.get(parent) if parent else _top_level(iod)
    return not known or tag in known
