from __future__ import annotations

import pytest
from pydicom.dataset import Dataset
from pydicom.sr import _concepts_dict

from dicom.codes import (
    ARTIFICIAL_INTELLIGENCE,
    LEFT,
    RIGHT,
    STRUCTURES,
    Code,
    cielab,
    rgb_of,
)


def _standard_meanings(code: Code) -> set[str]:
    """Return the meanings that PS3.16, as pydicom carries it, gives to a code."""
    return {
        meaning
        for named in _concepts_dict.concepts[code.scheme].values()
        for value, (meaning, _) in named.items()
        if value == code.value
    }


@pytest.mark.parametrize("name", STRUCTURES)
def test_every_code_stands_in_the_standard_with_its_meaning(name: str) -> None:
    structure = STRUCTURES[name]
    for code in (structure.category, structure.type, structure.laterality):
        if code is not None:
            assert code.meaning in _standard_meanings(code)


def test_the_algorithm_family_stands_in_the_standard() -> None:
    assert ARTIFICIAL_INTELLIGENCE.meaning in _standard_meanings(ARTIFICIAL_INTELLIGENCE)


def test_no_two_structures_have_one_name_or_the_same_codes() -> None:
    coded = {(s.category, s.type, s.laterality) for s in STRUCTURES.values()}
    assert len(coded) == len(STRUCTURES)
    assert all(name == structure.name for name, structure in STRUCTURES.items())


def test_left_and_right_differ_in_side_and_colour() -> None:
    left, right = STRUCTURES["kidney_left"], STRUCTURES["kidney_right"]
    assert (left.laterality, right.laterality) == (LEFT, RIGHT)
    assert left.type == right.type
    assert left.rgb != right.rgb


def test_a_code_survives_its_dataset() -> None:
    code = STRUCTURES["brain"].type
    assert Code.from_dataset(code.to_dataset()) == code


def test_a_long_code_value_is_read() -> None:
    item = Dataset()
    item.LongCodeValue = "621000112108000"
    item.CodingSchemeDesignator, item.CodeMeaning = "SCT", "long"
    assert Code.from_dataset(item).value == "621000112108000"


@pytest.mark.parametrize("missing", ["CodeValue", "CodingSchemeDesignator", "CodeMeaning"])
def test_a_code_without_one_of_its_parts_is_refused(missing: str) -> None:
    item = STRUCTURES["brain"].type.to_dataset()
    delattr(item, missing)
    with pytest.raises(ValueError, match="characters"):
        Code.from_dataset(item)


def test_display_colours_are_scaled_as_the_standard_says() -> None:
    # PS3.3 C.10.7.1.1: L* 0..100 over 0..65535; a* and b* -128..127, zero at 0x8080
    assert cielab((0, 0, 0)) == (0, 0x8080, 0x8080)
    lightness, a, b = cielab((255, 255, 255))
    assert lightness > 65_500
    assert abs(a - 0x8080) < 10
    assert abs(b - 0x8080) < 10


@pytest.mark.parametrize("name", STRUCTURES)
def test_display_colours_survive_cielab(name: str) -> None:
    assert rgb_of(cielab(STRUCTURES[name].rgb)) == STRUCTURES[name].rgb
