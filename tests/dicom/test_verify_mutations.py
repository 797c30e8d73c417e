"""Every rule that is switched off is caught: nested, private, and with options, too."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom._dicom_dict import DicomDictionary
from pydicom.dataelem import DataElement
from pydicom.sequence import Sequence

from benchmarks.quality.planting import NEST, PRIVATE_SEQUENCE, PRIVATE_TEXT, Garden, gardens
from dicom.deid import Deidentifier, Engine
from dicom.fast import EitherEngine
from dicom.profile import PIXEL_OPTIONS, Action, Option, Profile, Verdict, node_profile, table_rules
from dicom.verify import Originals, SecondLook
from tests.planted import KEY

HEADERS = frozenset(Option) - PIXEL_OPTIONS
OPTIONS = {
    "basic": frozenset[Option](),
    "node": node_profile().options,
    "full dates": HEADERS - {Option.RETAIN_MODIFIED_DATES},
    "moved dates": HEADERS - {Option.RETAIN_FULL_DATES, Option.RETAIN_UIDS},
}


@dataclass(frozen=True)
class Lame(Profile):
    """A profile with one attribute's rule switched off, wherever it stands."""

    off: int = 0

    def verdict(
        self, tag: int, vr: str, *, iod: str = "", parent: int = 0, creator: str = ""
    ) -> Verdict:
        right = Profile.verdict(self, tag, vr, iod=iod, parent=parent, creator=creator)
        if tag != self.off:
            return right
        return Verdict(Action.KEEP, right.otherwise, right.vr or vr, "switched off")


@dataclass(frozen=True)
class WithoutAKind(Profile):
    """A profile that keeps whatever one kind of action would have changed."""

    kind: Action = Action.KEEP

    def verdict(
        self, tag: int, vr: str, *, iod: str = "", parent: int = 0, creator: str = ""
    ) -> Verdict:
        right = Profile.verdict(self, tag, vr, iod=iod, parent=parent, creator=creator)
        if right.action is not self.kind:
            return right
        return Verdict(Action.KEEP, right.otherwise, right.vr or vr, "switched off")


class Lab:
    """A garden on disk, its originals, and what one profile's second look says of an output."""

    def __init__(self, garden: Garden, options: frozenset[Option], folder: Path) -> None:
        self.garden = garden
        self.options = options
        self.source = folder / "source.dcm"
        self.out = folder / "out"
        garden.ds.save_as(self.source, enforce_file_format=True)
        originals = Originals(Profile(options))
        self._before = originals.read(self.source)
        self._look = SecondLook(Profile(options), originals.tokens)

    def leaks(self, engine: Engine) -> tuple[int, bool]:
        """Return how many tokens an engine leaves that the options do not retain; whether seen."""
        instance, _ = engine.deidentify_file(self.source, self.out)
        left = self.garden.left_in(instance.path.read_bytes(), self.options)
        return len(left), bool(self._look.look(instance.path, self._before))

    def left(self, engine: Engine) -> tuple[set[bytes], bool]:
        """Return which tokens an engine leaves; whether seen."""
        instance, _ = engine.deidentify_file(self.source, self.out)
        left = self.garden.left_in(instance.path.read_bytes(), self.options)
        tokens = {one.token for one in left}
        return tokens, bool(self._look.look(instance.path, self._before))


# The table is dealt out: every rule is tried with one set of options, at the top or in an item.
# (tests/dicom/test_verify.py tries all of them at the top, with the node's.)
@pytest.mark.parametrize("depth", [0, 2])
@pytest.mark.parametrize("name", OPTIONS)
def test_each_rule_that_is_switched_off_and_leaks_is_caught(
    tmp_path: Path, name: str, depth: int
) -> None:
    lab = Lab(dict(gardens())[depth], OPTIONS[name], tmp_path)
    assert lab.leaks(EitherEngine(Deidentifier(Profile(OPTIONS[name]), KEY))) == (0, False)
    leaked, missed = 0, []
    share = list(OPTIONS).index(name) + len(OPTIONS) * (depth > 0)
    for tag in sorted(table_rules())[share :: 2 * len(OPTIONS)]:
        lame = Lame(OPTIONS[name], off=tag)
        left, seen = lab.leaks(EitherEngine(Deidentifier(lame, KEY)))
        leaked += bool(left)
        if left and not seen:
            missed.append(f"{tag:08X}")
    assert missed == []
    assert leaked > 25


UNDONE = frozenset({Action.KEEP, Action.ITEMS})
"""Kinds that change nothing: KEEP, and ITEMS, which goes on with what is within."""
TEXTS = frozenset({"LO", "SH", "LT", "ST", "UT", "UC", "UR", "PN", "AE", "UI", "DA", "DT"})
NUMBERS = frozenset({"CS", "DS", "IS", "AS", "TM"})
CODES = frozenset({0x00080005, 0x00080016, 0x00080018, *range(0x00080100, 0x00080123)})
REFUSED = frozenset({0x00287FE0, 0x00420011})
ANATOMIC_REGION = 0x00082218


@pytest.mark.parametrize("depth", [0, 2])
@pytest.mark.parametrize("name", OPTIONS)
def test_each_kind_of_action_that_is_not_done_and_leaks_is_caught(
    tmp_path: Path, name: str, depth: int
) -> None:
    """Also on what the table does not name: there a value representation, or the IOD, decides."""
    garden = dict(gardens())[depth]
    plant_outside_the_table(garden, depth)
    lab = Lab(garden, OPTIONS[name], tmp_path)
    kept, seen = lab.left(EitherEngine(Deidentifier(Profile(OPTIONS[name]), KEY)))
    assert not seen
    leaked = set()
    for kind in set(Action) - UNDONE:
        lame = WithoutAKind(OPTIONS[name], kind=kind)
        left, seen = lab.left(EitherEngine(Deidentifier(lame, KEY)))
        if left - kept:
            leaked.add(kind)
            assert seen, kind
    assert leaked >= {Action.REMOVE, Action.EMPTY, Action.DUMMY, Action.TECHNICAL}
    assert depth or leaked >= {Action.NUMERAL, Action.CODE}  # in the item, they are no part of it


def plant_outside_the_table(garden: Garden, depth: int) -> None:
    """Plant tokens in attributes that the table does not name, some for each VR of text."""
    here = garden.ds
    for sequence in NEST[:depth]:
        (here,) = here[sequence].value
    count: Counter[str] = Counter()
    for tag, (vr, vm, *_) in sorted(DicomDictionary.items()):
        outside = tag not in table_rules() and tag >> 16 >= 0x0008 and tag not in CODES | REFUSED
        if outside and vm == "1" and vr in TEXTS | NUMBERS and tag not in here and count[vr] < 12:
            count[vr] += 1
            garden.plant_one(here, tag, vr, f"outside the table, {vr}", as_text=vr in NUMBERS)
    if depth == 0:
        local = Dataset()
        for tag, vr in ((0x00080100, "SH"), (0x00080102, "SH"), (0x00080104, "LO")):
            garden.plant_one(local, tag, vr, "a local code")
        here[ANATOMIC_REGION] = DataElement(ANATOMIC_REGION, "SQ", Sequence([local]))


# Where safe private attributes stay, a sequence's items are judged: nothing leaks.
@pytest.mark.parametrize("depth", [0, 3])
@pytest.mark.parametrize(
    ("name", "off"),
    [(name, PRIVATE_TEXT) for name in OPTIONS]
    + [(name, PRIVATE_SEQUENCE) for name in ("basic", "node")],
)
def test_a_private_attribute_that_is_let_through_is_caught(
    tmp_path: Path, name: str, off: int, depth: int
) -> None:
    lab = Lab(dict(gardens())[depth], OPTIONS[name], tmp_path)
    assert lab.leaks(Deidentifier(Lame(OPTIONS[name], off=off), KEY)) == (1, True)
