"""Rules as data: each condition matches what it says, and says why when it does not."""

from dataclasses import fields, replace

import pytest

from dicom.errors import InvalidSettings
from dicom.volume import Kind, SeriesFacts
from pipelines.routing import Route, When, explain, match_routes, untaken

HEAD = SeriesFacts(
    modality="MR",
    sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
    body_part="HEAD",
    description="T1 MPRAGE sag",
    study_description="MR head",
    protocol="Brain routine",
    manufacturer="ACME",
    image_type=("ORIGINAL", "PRIMARY", "M"),
    contrast_agent=False,
    slice_count=160,
    spacing_mm=1.0,
    pixel_spacing_mm=(1.0, 1.0),
    orientation="sagittal",
    kind="slices",
)
UNSAID = replace(
    HEAD,
    modality="",
    body_part=None,
    description=None,
    study_description=None,
    protocol=None,
    image_type=(),
    spacing_mm=None,
    orientation=None,
    kind=None,
)

# (condition, holds for HEAD, what is said)
CASES = [
    (When(modality=("MR",)), True, "modality is MR: MR"),
    (When(modality=("CT", "mr")), True, "modality is CT or mr: MR"),
    (When(modality=("CT",)), False, "modality is CT: MR"),
    (When(body_part=("head",)), True, "body_part is head: HEAD"),
    (When(body_part=("CHEST",)), False, "body_part is CHEST: HEAD"),
    (When(description="mprage|spgr"), True, "description matches mprage|spgr: T1 MPRAGE sag"),
    (When(study_description="^mr"), True, "study description matches ^mr: MR head"),
    (When(study_description="knee"), False, "study description matches knee: MR head"),
    (When(description="^flair"), False, "description matches ^flair: T1 MPRAGE sag"),
    (When(protocol=r"brain\b"), True, r"protocol matches brain\b: Brain routine"),
    (When(protocol="knee"), False, "protocol matches knee: Brain routine"),
    (When(min_slices=160), True, "at least 160 slices: 160"),
    (When(min_slices=161), False, "at least 161 slices: 160"),
    (When(max_slices=160), True, "at most 160 slices: 160"),
    (When(max_slices=159), False, "at most 159 slices: 160"),
    (When(max_spacing_mm=1.0), True, "slice step at most 1.0 mm: 1.00 mm"),
    (When(max_spacing_mm=0.9), False, "slice step at most 0.9 mm: 1.00 mm"),
    (When(orientation=("axial", "sagittal")), True, "orientation is axial or sagittal: sagittal"),
    (When(orientation=("axial",)), False, "orientation is axial: sagittal"),
    (When(image_type=("original",)), True, r"image type has original: ORIGINAL\PRIMARY\M"),
    (When(image_type=("DERIVED",)), False, r"image type has DERIVED: ORIGINAL\PRIMARY\M"),
    (When(not_image_type=("LOCALIZER",)), True, r"image type lacks LOCALIZER: ORIGINAL\PRIMARY\M"),
    (When(kind=(Kind.SLICES, Kind.REFORMAT)), True, "kind is slices or reformat: slices"),
    (When(kind=(Kind.LOCALISER,)), False, "kind is localiser: slices"),
    (When(not_image_type=("PRIMARY",)), False, r"image type lacks PRIMARY: ORIGINAL\PRIMARY\M"),
]


def route(when: When, **other: object) -> Route:
    return Route(name="r", when=when, **{"bundle": "mr_brain", **other})


@pytest.mark.parametrize(("when", "holds", "said"), CASES)
def test_a_condition_and_its_explanation(when, holds, said):
    explanation = explain(HEAD, route(when))
    (check,) = explanation.checks
    assert explanation.matched is holds
    assert f"{check.condition}: {check.found}" == said


def test_every_condition_is_tried_above_both_ways():
    for field in fields(When):
        mine = {
            holds for when, holds, _ in CASES if getattr(when, field.name) not in ((), "", None)
        }
        assert mine == {True, False}, field.name


@pytest.mark.parametrize(
    "when",
    [
        When(modality=("MR",)),
        When(body_part=("HEAD",)),
        When(description="."),
        When(study_description="."),
        When(protocol="."),
        When(max_spacing_mm=100.0),
        When(orientation=("axial", "sagittal", "coronal", "oblique")),
        When(image_type=("ORIGINAL",)),
        When(kind=tuple(Kind)),
    ],
)
def test_a_value_that_is_absent_never_matches(when):
    explanation = explain(UNSAID, route(when))
    assert not explanation.matched
    assert explanation.checks[0].found in ("nothing", "unknown")


@pytest.mark.parametrize("pattern", ["^$", ".*", "(?!flair)", "^(?!.*flair)"])
def test_a_pattern_that_fits_an_empty_text_needs_a_text_all_the_same(pattern):
    for when in (
        When(description=pattern),
        When(study_description=pattern),
        When(protocol=pattern),
    ):
        assert not explain(UNSAID, route(when)).matched


def test_a_rule_without_conditions_takes_everything():
    assert explain(UNSAID, route(When())).matched


def test_all_conditions_must_hold_and_each_is_told():
    explanation = explain(HEAD, route(When(modality=("MR",), min_slices=500, body_part=("HEAD",))))
    assert not explanation.matched
    assert [check.holds for check in explanation.checks] == [True, True, False]


def test_routes_match_in_their_order():
    routes = [
        replace(route(When(modality=("MR",))), name="first"),
        replace(route(When(modality=("CT",))), name="second"),
        replace(route(When(), bundle="", collect=True), name="third"),
    ]
    assert [each.name for each in match_routes(HEAD, routes)] == ["first", "third"]


def test_a_route_that_does_nothing_is_refused():
    with pytest.raises(InvalidSettings, match="neither runs a bundle nor collects"):
        Route(name="idle")


@pytest.mark.parametrize("when", [{"description": "("}, {"protocol": "*x"}])
def test_a_pattern_that_is_none_is_refused(when):
    with pytest.raises(InvalidSettings, match="no regular expression"):
        When(**when)


def test_no_rule_can_ask_for_a_name():
    asked = {field.name for field in fields(SeriesFacts)}
    assert not [name for name in asked if "patient" in name or "date" in name]


def test_what_no_rule_can_take_is_known_beforehand():
    ct = Route("ct", When(modality=("CT",)), bundle="a")
    drawn = Route("drawn", When(modality=("SEG", "RTSTRUCT")), collect=True)
    everything = Route("all", When(min_slices=2), collect=True)
    modalities = ("SEG", "RTSTRUCT", "CT")
    assert untaken(modalities, []) == set(modalities)
    assert untaken(modalities, [ct]) == {"SEG", "RTSTRUCT"}
    assert untaken(modalities, [ct, drawn]) == set()
    assert untaken(modalities, [ct, everything]) == set()
