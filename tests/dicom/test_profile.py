"""The profile as data: the table is whole, and each choice it leaves open is decided by a rule."""

import json
from collections import Counter
from pathlib import Path

import pytest
from pydicom.datadict import DicomDictionary, dictionary_VR, tag_for_keyword

from dicom.descriptors import clean_descriptor, looks_technical, words_of
from dicom.errors import ConflictingOptions
from dicom.profile import (
    METHOD_CODES,
    Action,
    Option,
    Profile,
    identity_tags,
    iod_of,
    known_sop_classes,
    node_profile,
    table_rules,
)

STANDARD = Path(__file__).parents[3] / "shared/standard/confidentiality_profile_attributes.json"
MR = iod_of("1.2.840.10008.5.1.4.1.1.4")
BASIC = Profile(frozenset())


def tag(keyword: str) -> int:
    found = tag_for_keyword(keyword)
    assert found is not None
    return int(found)


def action(
    keyword: str, *, profile: Profile | None = None, vr: str = "", **place: object
) -> Action:
    return (profile or node_profile()).verdict(tag(keyword), vr, **place).action  # type: ignore[arg-type]


def test_the_table_has_every_row_of_its_edition():
    rules = table_rules()
    assert node_profile().edition == "2026c"
    assert len(rules) == 652  # and curves, two overlay rows, private attributes
    assert Counter(rule.basic for rule in rules.values()) == {
        "X": 412,
        "D": 93,
        "U": 55,
        "Z": 42,
        "X/D": 23,
        "X/Z": 11,
        "X/Z/D": 8,
        "Z/D": 6,
        "X/Z/U*": 2,
    }


def test_the_table_agrees_with_the_standard_as_published():
    if not STANDARD.exists():
        pytest.skip("the standard's tables are not here")
    rules = table_rules()
    columns = {"cleanDescOpt": Option.CLEAN_DESCRIPTORS, "rtnUIDsOpt": Option.RETAIN_UIDS}
    seen = 0
    for row in json.loads(STANDARD.read_text()):
        if len(row["id"]) != 8 or "x" in row["id"]:
            continue  # repeating groups and private attributes
        rule = rules[int(row["id"], 16)]
        assert rule.basic == row["basicProfile"]
        for column, option in columns.items():
            assert rule.options.get(option) == row.get(column), row
        seen += 1
    assert seen > 600


@pytest.mark.parametrize(
    ("keyword", "expected"),
    [
        ("PatientName", Action.EMPTY),
        ("PatientBirthDate", Action.EMPTY),
        ("PatientAge", Action.REMOVE),
        ("InstitutionAddress", Action.REMOVE),
        ("StudyDate", Action.SHIFT),
        ("AcquisitionTime", Action.SHIFT),
        ("SOPInstanceUID", Action.PSEUDONYM),
        ("FrameOfReferenceUID", Action.PSEUDONYM),
        ("StudyDescription", Action.DESCRIPTOR),
        ("PatientComments", Action.REMOVE),  # a narrative: cleaned means lost
        ("RequestAttributesSequence", Action.REMOVE),
        ("SourceImageSequence", Action.ITEMS),
        ("IconImageSequence", Action.REMOVE),
        ("TimezoneOffsetFromUTC", Action.REMOVE),
        ("PixelSpacing", Action.NUMERAL),
        ("Rows", Action.KEEP),
        ("PixelData", Action.KEEP),
        ("Manufacturer", Action.TECHNICAL),
        ("CodeMeaning", Action.CODE),
        ("EvaluatorName", Action.REMOVE),
        ("RetrieveURL", Action.REMOVE),
        ("EncryptedContent", Action.REMOVE),
    ],
)
def test_what_happens_to_an_mr_attribute(keyword, expected):
    assert action(keyword, iod=MR) is expected


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (0x00091001, "private"),
        (0x00100000, "group length"),
        (0x60003000, "overlay"),
        (0x601E0010, "overlay"),
        (0x50000010, "curve"),
        (0x00020010, "data set"),
        (0x00081FFF, "dictionary"),
    ],
)
def test_what_no_rule_can_judge_is_removed(number, why):
    verdict = node_profile().verdict(number, "LO", iod=MR)
    assert verdict.action is Action.REMOVE
    assert why in verdict.why


def test_a_vr_that_contradicts_the_dictionary_is_not_believed():
    assert action("Rows", vr="LT", iod=MR) is Action.REMOVE
    assert action("AnatomicRegionSequence", vr="LT", iod=MR) is Action.REMOVE
    assert action("EchoTime", vr="SQ", iod=MR) is Action.REMOVE
    assert action("Rows", vr="SS", iod=MR) is Action.KEEP
    assert action("AnatomicRegionSequence", vr="UN", iod=MR) is Action.ITEMS


def test_a_choice_of_the_table_is_made_by_what_the_iod_requires():
    """PS3.15 Table E.1-1a: X unless the attribute is type 2 (Z) or type 1 (D)."""
    x_ray = iod_of("1.2.840.10008.5.1.4.1.1.13.1.1")  # X-Ray 3D: DeviceSerialNumber is type 1
    assert table_rules()[tag("DeviceSerialNumber")].basic == "X/Z/D"
    assert action("DeviceSerialNumber", iod=MR) is Action.REMOVE
    assert action("DeviceSerialNumber", iod=x_ray) is Action.DUMMY
    assert action("OperatorsName", iod=MR) is Action.REMOVE
    plan = iod_of("1.2.840.10008.5.1.4.1.1.481.5")
    assert action("OperatorsName", iod=plan) is Action.EMPTY


def test_without_the_date_option_dates_go_by_the_basic_profile():
    assert action("StudyDate", profile=BASIC, iod=MR) is Action.EMPTY
    assert action("SeriesDate", profile=BASIC, iod=MR) is Action.REMOVE
    assert action("StudyDescription", profile=BASIC, iod=MR) is Action.REMOVE


def test_patient_characteristics_stay_only_when_asked_for():
    generous = Profile(node_profile().options | {Option.RETAIN_PATIENT_CHARACTERISTICS})
    assert action("PatientAge", profile=generous, iod=MR) is Action.AGE
    assert action("PatientWeight", profile=generous, iod=MR) is Action.NUMERAL
    assert action("PatientSex", profile=generous, iod=MR) is Action.NUMERAL


@pytest.mark.parametrize("other", [Option.RETAIN_FULL_DATES, Option.RETAIN_UIDS])
def test_options_that_exclude_each_other_are_refused_by_code(other):
    with pytest.raises(ConflictingOptions, match=other.value):
        Profile(frozenset({Option.RETAIN_MODIFIED_DATES, other}))


def test_every_option_has_its_code():
    assert set(METHOD_CODES) == {None, *Option}
    assert len({value for value, _ in METHOD_CODES.values()}) == len(METHOD_CODES)


def test_every_attribute_of_the_dictionary_gets_a_verdict():
    needs_another = {Action.SHIFT, Action.DESCRIPTOR, Action.TECHNICAL, Action.NUMERAL, Action.AGE}
    for number in DicomDictionary:
        verdict = node_profile().verdict(number, dictionary_VR(number), iod=MR)
        assert verdict.why
        if verdict.action in needs_another:
            assert verdict.otherwise in (Action.REMOVE, Action.EMPTY, Action.DUMMY)


def test_the_vault_keeps_who_the_patient_is():
    wanted = ("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "StudyDate")
    assert {tag(keyword) for keyword in wanted} <= identity_tags()


def test_the_sop_classes_are_those_of_the_standard():
    assert "1.2.840.10008.5.1.4.1.1.66.4" in known_sop_classes()
    assert "1.2.840.10008.5.1.4.1.1.66.7" in known_sop_classes()  # Label Map Segmentation
    assert "1.2.840.10008.1.3.10" not in known_sop_classes()  # Media Storage Directory


# --- descriptions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "SAG MPRAGE",
        "t1_mprage_sag_iso 1.0",
        "MR-Brain w Contrast",
        "CT Thorax/Abdomen 5mm",
        "ax T2 FLAIR 3 mm",
        "DWI b1000",
        "L-SPINE STIR",
    ],
)
def test_a_description_of_safe_words_stays_as_it_is(text):
    assert clean_descriptor(text) == text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("MR Brain for John Miller", "MR Brain"),
        ("Brain, MRN 4711288", "Brain"),
        ("Brain 1985-03-07", "Brain"),
        ("Brain 3/7/85", "Brain"),
        ("Brain 3 7 85", "Brain"),
        ("Müller Schädel t1", "t1"),
        ("1.2.840.113619.2.1", ""),
        ("KAUFMAN^SCOTT", ""),
        ("call 555-1234", ""),
        ("\x1b$B;3ED\x1b(B brain", ""),
        ("thorax\tSmith\nliver", "thorax liver"),
        ("", ""),
    ],
)
def test_every_other_word_is_dropped(text, left):
    assert clean_descriptor(text) == left


def test_a_word_of_the_patients_own_name_is_dropped_though_it_is_anatomy():
    identity = words_of("HEAD^Simon^^Dr.")
    assert clean_descriptor("Head t1 sag", identity=identity) == "t1 sag"
    assert clean_descriptor("Head t1 sag") == "Head t1 sag"
    assert not looks_technical("coil of Simon", identity=identity)


@pytest.mark.parametrize("text", ["syngo MR E11", "*tfl3d1_16ns", "12.0.4", "B30f", "SIEMENS"])
def test_technical_terms_pass(text):
    assert looks_technical(text)


@pytest.mark.parametrize(
    "text", ["Smith^J", "me@site.org", "S/N 1234567", "2019-03-04", "4.3.2019", "\x1b$B;3\x1b(B"]
)
def test_what_looks_like_an_identity_is_not_technical(text):
    assert not looks_technical(text)
