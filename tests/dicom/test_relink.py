from __future__ import annotations

import io
import subprocess
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from dicom.deid import Deidentifier, Identity
from dicom.errors import SourceMismatch
from dicom.phantom import WrittenHead, head_mr, write_head_study
from dicom.profile import node_profile
from dicom.relink import relink
from dicom.seg import check_seg
from dicom.study import Instance, Series
from dicom.volume import read_volume
from tests.segmentations import bytes_of, encoded, problems, uids_of

KEY = bytes(range(32))


class Round:
    """A study, its de-identified copy, a result made of the copy, and the way back."""

    def __init__(self, folder: Path) -> None:
        self.written: WrittenHead = write_head_study(
            folder / "original", head=head_mr(5, slices=20, size=40)
        )
        self.identity, self.clean = _deidentified(self.written, folder / "clean")
        self.labels = self.written.head.brain_kji
        self.result = encoded(self.labels, read_volume(self.clean))


def _deidentified(written: WrittenHead, folder: Path) -> tuple[Identity, Series]:
    folder.mkdir()
    deidentifier = Deidentifier(node_profile(), KEY)
    identities, instances = [], []
    for instance in written.series.instances:
        clean, identity = deidentifier.deidentify(dcmread(instance.path))
        path = folder / instance.path.name
        clean.save_as(path, enforce_file_format=True)
        identities.append(identity)
        instances.append(Instance(clean.SOPInstanceUID, clean.SOPClassUID, path))
    whole = identities[0]
    for identity in identities[1:]:
        whole = whole.merged(identity)
    return whole, Series(clean.SeriesInstanceUID, "MR", tuple(instances))


@pytest.fixture(scope="module")
def round_trip(tmp_path_factory: pytest.TempPathFactory) -> Round:
    return Round(tmp_path_factory.mktemp("round"))


def test_the_result_fits_the_original_study_voxel_for_voxel(round_trip: Round) -> None:
    relinked = relink(round_trip.result, round_trip.identity)
    original = read_volume(round_trip.written.series)
    check_seg(relinked, round_trip.labels, original)
    assert relinked.FrameOfReferenceUID == original.frame_of_reference_uid
    assert relinked.StudyInstanceUID == round_trip.written.study.study_uid
    assert relinked.ReferencedSeriesSequence[0].SeriesInstanceUID == original.series_uid


def test_patient_and_study_read_as_in_the_original(round_trip: Round) -> None:
    relinked = relink(round_trip.result, round_trip.identity)
    original = dcmread(round_trip.written.series.instances[0].path)
    for keyword in (
        "PatientName",
        "PatientID",
        "IssuerOfPatientID",
        "PatientBirthDate",
        "PatientSex",
        "StudyDate",
        "StudyTime",
        "StudyID",
        "AccessionNumber",
        "StudyDescription",
        "ReferringPhysicianName",
        "ProcedureCodeSequence",
    ):
        assert relinked[keyword].value == original[keyword].value, keyword


def test_no_sign_of_pseudonyms_is_left(round_trip: Round) -> None:
    content = bytes_of(relink(round_trip.result, round_trip.identity))
    assert not any(pseudonym.encode() in content for pseudonym in round_trip.identity.uids)
    assert str(dcmread(round_trip.clean.instances[0].path).PatientID).encode() not in content
    relinked = dcmread(io.BytesIO(content))
    for keyword in (
        "PatientIdentityRemoved",
        "DeidentificationMethod",
        "DeidentificationMethodCodeSequence",
        "LongitudinalTemporalInformationModified",
    ):
        assert keyword not in relinked


def test_the_result_keeps_its_own_names(round_trip: Round) -> None:
    relinked = relink(round_trip.result, round_trip.identity)
    uids = uids_of(1)
    assert relinked.SOPInstanceUID == uids.sop_instance_uid
    assert relinked.file_meta.MediaStorageSOPInstanceUID == uids.sop_instance_uid
    assert relinked.SeriesInstanceUID == uids.series_uid
    assert relinked.SegmentSequence[0].TrackingUID == uids.tracking[0]
    assert relinked.PixelData == round_trip.result.PixelData


def test_the_argument_is_left_as_it_is_and_twice_is_the_same(round_trip: Round) -> None:
    before = bytes_of(round_trip.result)
    first = bytes_of(relink(round_trip.result, round_trip.identity))
    assert bytes_of(relink(round_trip.result, round_trip.identity)) == first
    assert bytes_of(round_trip.result) == before
    assert first != before


def test_names_in_any_alphabet_come_back(round_trip: Round, tmp_path: Path) -> None:
    for name in ("Müllerová^Saga", "Yamada^Tarou=山田^太郎=やまだ^たろう", "Đặng^Thị"):
        person = {"00100010": {"vr": "PN", "Value": [_json_name(name)]}}
        identity = Identity(
            round_trip.identity.study_pseudonym,
            round_trip.identity.uids,
            {**round_trip.identity.attributes, **person},
        )
        path = tmp_path / "seg.dcm"
        result = _changed(round_trip.result)
        result.SpecificCharacterSet = "ISO_IR 100"  # Latin alphabet No. 1 holds the first one only
        relink(result, identity).save_as(path)
        assert dcmread(path).PatientName == name


def _json_name(name: str) -> dict[str, str]:
    return dict(zip(("Alphabetic", "Ideographic", "Phonetic"), name.split("="), strict=False))


def test_the_standards_checkers_accept_it_in_its_study(round_trip: Round, tmp_path: Path) -> None:
    path = tmp_path / "seg.dcm"
    relink(round_trip.result, round_trip.identity).save_as(path)
    files = [instance.path for instance in round_trip.written.series.instances]
    assert problems("dciodvfy", "-new", path) == []
    assert problems("dcentvfy", path, *files) == []
    dump = subprocess.run(["dcmdump", path], capture_output=True, text=True, check=True).stdout
    assert round_trip.written.person.patient_id in dump


def test_attributes_that_the_original_lacked_are_empty_or_absent(round_trip: Round) -> None:
    attributes = {
        tag: element
        for tag, element in round_trip.identity.attributes.items()
        if tag not in ("00100030", "00200010", "00101010")
    }
    identity = Identity(round_trip.identity.study_pseudonym, round_trip.identity.uids, attributes)
    relinked = relink(round_trip.result, identity)
    assert relinked["PatientBirthDate"].is_empty
    assert relinked["StudyID"].is_empty
    assert "PatientAge" not in relinked


# --- sequences that lie there as they were read ---------------------------------------------------


def _walked(result: Dataset) -> Dataset:
    """Return the result read again, every sequence looked at."""
    changed = _changed(result)
    for _ in changed.iterall():
        pass
    return changed


def test_unread_sequences_come_out_as_those_that_were_read(round_trip: Round) -> None:
    unread = relink(_changed(round_trip.result), round_trip.identity)
    assert isinstance(unread.get_item("PerFrameFunctionalGroupsSequence"), RawDataElement)
    walked = relink(_walked(round_trip.result), round_trip.identity)
    assert not isinstance(walked.get_item("PerFrameFunctionalGroupsSequence"), RawDataElement)
    assert dcmread(io.BytesIO(bytes_of(unread))) == dcmread(io.BytesIO(bytes_of(walked)))


def test_a_foreign_reference_in_an_unread_sequence_is_refused(round_trip: Round) -> None:
    result = _changed(round_trip.result)
    derivation = result.PerFrameFunctionalGroupsSequence[-1].DerivationImageSequence[0]
    derivation.SourceImageSequence[0].ReferencedSOPInstanceUID = "1.2.840.99999.1"
    with pytest.raises(SourceMismatch):
        relink(_changed(result), round_trip.identity)


def test_texts_in_unread_sequences_keep_their_meaning_in_another_character_set(
    round_trip: Round,
) -> None:
    person = {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Đặng^Thị"}]}}
    attributes = {**round_trip.identity.attributes, **person}
    identity = Identity(round_trip.identity.study_pseudonym, round_trip.identity.uids, attributes)
    result = _changed(round_trip.result)
    result.SpecificCharacterSet = "ISO_IR 100"
    result.SegmentSequence[0].SegmentDescription = "Großhirn"
    relinked = dcmread(io.BytesIO(bytes_of(relink(_changed(result), identity))))
    assert relinked.SegmentSequence[0].SegmentDescription == "Großhirn"
    assert relinked.PatientName == "Đặng^Thị"


def test_sequences_without_lengths_are_read(round_trip: Round) -> None:
    result = _changed(round_trip.result)
    for item in result.PerFrameFunctionalGroupsSequence:
        item.is_undefined_length_sequence_item = True
    content = bytes_of(result)
    assert b"\xfe\xff\x0d\xe0" in content  # Item Delimitation
    relinked = relink(dcmread(io.BytesIO(content)), round_trip.identity)
    expected = relink(round_trip.result, round_trip.identity)
    groups, wanted = (ds.PerFrameFunctionalGroupsSequence for ds in (relinked, expected))
    assert list(groups) == list(wanted)


# --- fails closed -------------------------------------------------------------------------------


def _changed(result: Dataset) -> Dataset:
    return dcmread(io.BytesIO(bytes_of(result)))


def test_another_study_is_refused(round_trip: Round) -> None:
    identity = Identity("2.25.1", round_trip.identity.uids, round_trip.identity.attributes)
    with pytest.raises(SourceMismatch):
        relink(round_trip.result, identity)


@pytest.mark.parametrize("of", ["slice", "series", "frame of reference", "study"])
def test_a_reference_that_nobody_knows_is_refused(round_trip: Round, of: str) -> None:
    clean = dcmread(round_trip.clean.instances[3].path)
    forgotten = {
        "slice": clean.SOPInstanceUID,
        "series": clean.SeriesInstanceUID,
        "frame of reference": clean.FrameOfReferenceUID,
        "study": clean.StudyInstanceUID,
    }[of]
    uids = {a: b for a, b in round_trip.identity.uids.items() if a != forgotten}
    assert len(uids) == len(round_trip.identity.uids) - 1
    identity = Identity(round_trip.identity.study_pseudonym, uids, round_trip.identity.attributes)
    with pytest.raises(SourceMismatch) as refusal:
        relink(round_trip.result, identity)
    assert forgotten not in refusal.value.message


def test_a_foreign_reference_deep_inside_is_refused(round_trip: Round) -> None:
    result = _changed(round_trip.result)
    derivation = result.PerFrameFunctionalGroupsSequence[-1].DerivationImageSequence[0]
    derivation.SourceImageSequence[0].ReferencedSOPInstanceUID = "1.2.840.99999.1"
    with pytest.raises(SourceMismatch):
        relink(result, round_trip.identity)


def test_references_to_itself_and_to_the_standard_are_kept(round_trip: Round) -> None:
    result = _changed(round_trip.result)
    item = Dataset()
    item.ReferencedSOPClassUID = result.SOPClassUID
    item.ReferencedSOPInstanceUID = result.SOPInstanceUID
    result.SourceImageSequence.append(item)
    relinked = relink(result, round_trip.identity)
    last = relinked.SourceImageSequence[-1]
    assert last.ReferencedSOPInstanceUID == result.SOPInstanceUID
    assert last.ReferencedSOPClassUID == result.SOPClassUID


def test_several_uids_in_one_attribute_are_all_pointed_back(round_trip: Round) -> None:
    pseudonyms = list(round_trip.identity.uids)[:2]
    result = _changed(round_trip.result)
    result.add_new(0x00081155, "UI", pseudonyms)
    relinked = relink(result, round_trip.identity)
    assert list(relinked[0x00081155].value) == [
        round_trip.identity.uids[pseudonym] for pseudonym in pseudonyms
    ]


def test_voxels_are_not_touched(round_trip: Round) -> None:
    relinked = relink(round_trip.result, round_trip.identity)
    np.testing.assert_array_equal(relinked.pixel_array, round_trip.result.pixel_array)
