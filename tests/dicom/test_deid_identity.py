"""The way back: the identity that was taken, and pseudonyms of UIDs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from dicom.deid import Deidentifier, Identity
from dicom.errors import CannotDeidentify
from dicom.profile import node_profile
from dicom.uids import pseudonym_uid
from tests.examples import examples
from tests.planted import (
    KEY,
    MR_CLASS,
    add,
    slice_of_mr,
)


def test_the_identity_holds_every_uid_and_every_attribute_of_patient_and_study(engine):
    ds = slice_of_mr()
    ds.ReferencedImageSequence = [Dataset()]
    ds.ReferencedImageSequence[0].ReferencedSOPClassUID = MR_CLASS
    ds.ReferencedImageSequence[0].ReferencedSOPInstanceUID = "1.2.826.77.1.9"
    clean, identity = engine.deidentify(ds)
    assert identity.study_pseudonym == clean.StudyInstanceUID
    assert set(identity.uids.values()) == {
        *("1.2.826.77.1.1", "1.2.826.77.2", "1.2.826.77.3", "1.2.826.77.4", "1.2.826.77.1.9")
    }
    assert all(pseudonym_uid(KEY, uid) == pseudonym for pseudonym, uid in identity.uids.items())
    original = Dataset.from_json(dict(identity.attributes))
    for keyword in [
        *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex"),
        *("PatientAge", "PatientWeight", "StudyDate", "StudyTime", "AccessionNumber", "StudyID"),
        *("ReferringPhysicianName", "StudyDescription"),
    ]:
        assert original[keyword].value == ds[keyword].value, keyword


def test_identities_of_one_study_add_up_and_of_two_do_not(engine):
    one = engine.deidentify(slice_of_mr())[1]
    two = engine.deidentify(slice_of_mr(SOPInstanceUID="1.2.826.77.1.2"))[1]
    assert set(one.merged(two).uids) == set(one.uids) | set(two.uids)
    assert one.merged(two).attributes == one.attributes
    strangers = [
        engine.deidentify(slice_of_mr(StudyInstanceUID="1.2.826.77.22"))[1],
        engine.deidentify(slice_of_mr(PatientID="MRN-4712"))[1],
        Identity(one.study_pseudonym, dict.fromkeys(one.uids, "1.2"), one.attributes),
    ]
    for stranger in strangers:
        with pytest.raises(CannotDeidentify):
            one.merged(stranger)
        with pytest.raises(CannotDeidentify):
            Identity.of([one, two, stranger])


def test_the_identity_of_many_instances_is_that_of_one_after_the_other(engine):
    parts = [
        engine.deidentify(slice_of_mr(SOPInstanceUID=f"1.2.826.77.1.{n}", PatientWeight=70 + n))[1]
        for n in range(5)
    ]
    before = [(dict(part.uids), dict(part.attributes)) for part in parts]
    whole = Identity.of(iter(parts))
    assert whole.uids == {k: v for part in parts for k, v in part.uids.items()}
    assert whole.attributes == parts[0].attributes
    assert whole.attributes["00101030"] != parts[1].attributes["00101030"]
    assert [(dict(part.uids), dict(part.attributes)) for part in parts] == before
    last = parts[-1]
    clash = Identity(last.study_pseudonym, dict.fromkeys(last.uids, "1.2"), last.attributes)
    with pytest.raises(CannotDeidentify, match="two UIDs"):
        Identity.of([*parts, clash])
    with pytest.raises(ValueError, match="at least one"):
        Identity.of([])


uids = st.from_regex(r"1\.2\.(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})", fullmatch=True)


@examples(25)
@given(st.lists(uids, min_size=1, max_size=6), st.binary(min_size=32, max_size=32))
def test_a_uid_has_one_pseudonym_wherever_it_stands(originals, key):
    ds = slice_of_mr(SOPInstanceUID=originals[0])
    ds.SourceImageSequence = []
    for uid in originals:
        reference = Dataset()
        reference.ReferencedSOPInstanceUID = uid
        ds.SourceImageSequence.append(reference)
    add(ds, 0x00083010, "UI", originals)  # IrradiationEventUID, many values
    clean, identity = Deidentifier(node_profile(), key).deidentify(ds)
    replaced = [item.ReferencedSOPInstanceUID for item in clean.SourceImageSequence]
    assert [identity.uids[uid] for uid in replaced] == originals
    assert clean.SOPInstanceUID == replaced[0]
    assert len(set(replaced)) == len(set(originals))
    assert clean.get_item(0x00083010).value.rstrip(b"\0").decode().split("\\") == replaced


def test_uids_of_the_standard_stay(engine):
    ds = slice_of_mr(FrameOfReferenceUID="1.2.840.10008.1.4.1.1")  # Talairach atlas
    ds.CodingSchemeIdentificationSequence = [Dataset()]
    ds.CodingSchemeIdentificationSequence[0].CodingSchemeUID = "2.16.840.1.113883.6.96"
    fake = "1.2.840.10008.99.4711"
    ds.RelatedGeneralSOPClassUID = fake
    clean, identity = engine.deidentify(ds)
    assert clean.FrameOfReferenceUID == "1.2.840.10008.1.4.1.1"
    assert clean.CodingSchemeIdentificationSequence[0].CodingSchemeUID == "2.16.840.1.113883.6.96"
    assert clean.RelatedGeneralSOPClassUID == pseudonym_uid(KEY, fake)
    assert fake in identity.uids.values()
