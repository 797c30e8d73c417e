"""The options of PS3.15 E.3: each keeps or cleans what it says, nothing more, and says so."""

from __future__ import annotations

import io

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.dataelem import DataElement
from pydicom.sequence import Sequence

from dicom.deid import Deidentifier, Heads
from dicom.errors import CannotDeidentify, HeadNotDefaced
from dicom.frames.painting import Canvas
from dicom.profile import METHOD_CODES, ObjectType, Option, Profile
from dicom.verify import Originals, SecondLook
from tests.planted import KEY, add, as_file, slice_of_mr

CLEAN = frozenset({Option.CLEAN_DESCRIPTORS, Option.RETAIN_MODIFIED_DATES})


def deidentified(ds: Dataset, *options: Option) -> Dataset:
    return Deidentifier(Profile(frozenset(options)), KEY).deidentify(ds)[0]


def codes_of(ds: Dataset) -> set[str]:
    return {item.CodeValue for item in ds.DeidentificationMethodCodeSequence}


@pytest.mark.parametrize(
    "option", [option for option in Option if option.value.startswith(("retain", "clean"))]
)
def test_an_option_is_declared_by_its_code_and_only_then(option):
    passes = {one: lambda ds: ds for one in Option}
    engine = Deidentifier(Profile(frozenset({option})), KEY, passes=passes)
    clean = dcmread(io.BytesIO(engine.clean(as_bytes(slice_of_mr())).header))
    assert codes_of(clean) == {"113100", METHOD_CODES[option][0]}


def as_bytes(ds: Dataset) -> io.BytesIO:
    buffer = io.BytesIO()
    ds.preamble = b"\0" * 128
    ds.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    return buffer


@pytest.mark.parametrize(
    ("options", "says", "study_date", "outside"),
    [
        ((), "REMOVED", "", None),
        ((Option.RETAIN_FULL_DATES,), "UNMODIFIED", "20240229", "20240301"),
    ],
)
def test_dates_without_a_shift(options, says, study_date, outside):
    ds = slice_of_mr(SeriesDate="20240301")
    clean = deidentified(ds, *options)
    assert clean.LongitudinalTemporalInformationModified == says
    assert clean.StudyDate == study_date
    assert clean.get("SeriesDate") == outside
    assert clean.PatientBirthDate == ""


def test_a_full_date_that_is_none_is_lost():
    ds = slice_of_mr()
    add(ds, 0x00080020, "DA", "Wagner")
    assert deidentified(ds, Option.RETAIN_FULL_DATES).StudyDate == ""


def test_retained_uids_stay_and_the_way_back_still_knows_them():
    engine = Deidentifier(Profile(frozenset({Option.RETAIN_UIDS})), KEY)
    clean, identity = engine.deidentify(slice_of_mr())
    assert clean.StudyInstanceUID == identity.study_pseudonym == "1.2.826.77.2"
    assert identity.uids["1.2.826.77.2"] == "1.2.826.77.2"
    ds = slice_of_mr()
    add(ds, 0x00200052, "UI", "1.2.Wagner")  # no UID: not kept, whatever the option
    assert deidentified(ds, Option.RETAIN_UIDS).FrameOfReferenceUID.startswith("2.25.")


def test_retained_identities_of_device_and_institution_stay_unless_they_name_the_patient():
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "H1", "99SITE", "Elsewhere"
    ds = slice_of_mr(
        StationName="MR-SCANNER-2",
        DeviceSerialNumber="1234567",
        InstitutionName="St. Elsewhere",
        InstitutionAddress="Wagner Street 3",
        InstitutionCodeSequence=[item],
    )
    none = deidentified(ds)
    for keyword in ("StationName", "DeviceSerialNumber", "InstitutionName"):
        assert keyword not in none
    device = deidentified(ds, Option.RETAIN_DEVICE_IDENTITY)
    assert (device.StationName, device.DeviceSerialNumber) == ("MR-SCANNER-2", "1234567")
    assert "InstitutionName" not in device
    institution = deidentified(ds, Option.RETAIN_INSTITUTION_IDENTITY)
    assert institution.InstitutionName == "St. Elsewhere"
    assert institution.InstitutionCodeSequence[0].CodeMeaning == "Elsewhere"
    assert "InstitutionAddress" not in institution  # it holds the patient's name
    assert "StationName" not in institution


def with_private() -> Dataset:
    ds = slice_of_mr()
    holder = Dataset()
    ds.ReferencedImageSequence = [holder]
    for where in (ds, holder):
        add(where, 0x00190010, "LO", "GEMS_ACQU_01")
        add(where, 0x00191023, "DS", "12.5")  # Table Speed: on the list
        add(where, 0x00191024, "LO", "4711 Wagner")  # a number, by the list
        add(where, 0x001910A0, "LO", "SECRET")  # not on the list
        add(where, 0x00190011, "LO", "ACME WAGNER")
        add(where, 0x00191123, "DS", "99.5")  # the same place of another creator
        add(where, 0x00210010, "LO", "GEMS_ACQU_01")
        add(where, 0x00211023, "DS", "98.5")  # the same creator in another group
    return ds


def test_safe_private_attributes_stay_by_creator_and_no_others(tmp_path):
    source = as_file(with_private(), tmp_path / "a.dcm")
    assert b"GEMS" not in as_clean(source, tmp_path / "none").read_bytes()
    clean = as_clean(source, tmp_path / "safe", Option.RETAIN_SAFE_PRIVATE)
    ds = dcmread(clean)
    for where in (ds, ds.ReferencedImageSequence[0]):
        assert where[0x00191023].value == 12.5
        private = sorted(int(tag) for tag in where.keys() if tag.is_private)  # noqa: SIM118
        assert private == [0x00190010, 0x00191023, 0x00210010]
    profile = Profile(frozenset({Option.RETAIN_SAFE_PRIVATE}))
    originals = Originals(profile)
    before = originals.read(source)
    assert SecondLook(profile, originals.tokens).look(clean, before) == ()


def as_clean(source, folder, *options: Option):
    engine = Deidentifier(Profile(frozenset(options)), KEY)
    return engine.deidentify_file(source, folder)[0].path


def test_structured_content_and_graphics_are_cleaned_item_by_item():
    text = Dataset()
    text.UnformattedTextValue = "Wagner, Johanna"
    text.AnchorPoint = [1, 2]
    graphic = Dataset()
    graphic.GraphicLayer = "LAYER1"
    graphic.TextObjectSequence = [text]
    value = Dataset()
    value.NumericValue = "3.5"
    ds = slice_of_mr(GraphicAnnotationSequence=[graphic], AcquisitionContextSequence=[value])
    plain = deidentified(ds)
    assert "AcquisitionContextSequence" not in plain or not plain.AcquisitionContextSequence
    clean = deidentified(ds, Option.CLEAN_STRUCTURED_CONTENT, Option.CLEAN_GRAPHICS)
    assert clean.AcquisitionContextSequence[0].NumericValue == 3.5
    assert "Wagner" not in str(clean)
    assert clean.GraphicAnnotationSequence[0].TextObjectSequence[0].AnchorPoint == [1, 2]


def test_what_the_iod_does_not_have_goes_but_for_numbers_that_say_how_to_read_the_voxels():
    ds = slice_of_mr(RescaleSlope="2", SpacingBetweenSlices="3", SeriesDescription="t1")
    ds.StudyStatusID = "READ"  # no attribute of an MR image
    ds.DetectorDescription = "brain"
    ds.FilmOrientation = "PORTRAIT"
    clean = deidentified(ds, *CLEAN)
    assert (clean.RescaleSlope, clean.SpacingBetweenSlices, clean.SeriesDescription) == (2, 3, "t1")
    for keyword in ("StudyStatusID", "DetectorDescription", "FilmOrientation"):
        assert keyword not in clean


# --- objects that nobody looks into ---------------------------------------------------------------


def document() -> Dataset:
    ds = slice_of_mr(SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1")
    del ds.PixelData
    ds.EncapsulatedDocument = b"%PDF-1.4 "
    ds.MIMETypeOfEncapsulatedDocument = "application/pdf"
    return ds


def test_documents_waveforms_and_videos_pass_only_where_a_project_allows_them():
    wave = slice_of_mr(SOPClassUID="1.2.840.10008.5.1.4.1.1.9.1.1")
    del wave.PixelData
    samples = Dataset()
    add(samples, 0x54001010, "OW", b"\1\0\2\0")
    wave.WaveformSequence = [samples]
    video = slice_of_mr(SOPClassUID="1.2.840.10008.5.1.4.1.1.77.1.1.1")
    video.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"
    for ds, kind in (
        (document(), ObjectType.DOCUMENT),
        (wave, ObjectType.WAVEFORM),
        (video, ObjectType.VIDEO),
    ):
        for allowed in (frozenset(), frozenset(ObjectType) - {kind}):
            with pytest.raises(CannotDeidentify):
                Deidentifier(Profile(CLEAN, allowed), KEY).deidentify(ds)
    allowing = Deidentifier(Profile(CLEAN, frozenset(ObjectType)), KEY)
    assert allowing.deidentify(document())[0].EncapsulatedDocument == b"%PDF-1.4 "
    kept = allowing.deidentify(wave)[0].WaveformSequence[0]
    assert kept.get_item(0x54001010).value == b"\1\0\2\0"
    assert allowing.deidentify(video)[0].PixelData == video.PixelData


# --- passes over the pixels -----------------------------------------------------------------------


def corner_painted(ds: Dataset) -> Dataset:
    canvas = Canvas(ds)
    mask = np.zeros((canvas.form.rows, canvas.form.columns), bool)
    mask[:2, :2] = True
    return canvas.painted(lambda frame: mask)


def test_text_in_the_pixels_is_masked_declared_and_then_allowed(tmp_path):
    source = as_file(slice_of_mr(BurnedInAnnotation="YES"), tmp_path / "a.dcm")
    with pytest.raises(CannotDeidentify, match="burned"):
        as_clean(source, tmp_path)
    profile = Profile(CLEAN | {Option.CLEAN_PIXEL_DATA})
    with pytest.raises(ValueError, match="pass"):
        Deidentifier(profile, KEY)
    engine = Deidentifier(profile, KEY, passes={Option.CLEAN_PIXEL_DATA: corner_painted})
    clean = dcmread(engine.deidentify_file(source, tmp_path)[0].path)
    assert clean.BurnedInAnnotation == "NO"
    assert METHOD_CODES[Option.CLEAN_PIXEL_DATA][0] in codes_of(clean)
    before, after = dcmread(source).pixel_array, clean.pixel_array
    assert (after[:2, :2] == before.min()).all()
    assert (after[2:] == before[2:]).all() and (after[:, 2:] == before[:, 2:]).all()


def test_a_pass_that_is_not_for_an_object_is_not_declared(tmp_path):
    engine = Deidentifier(
        Profile(frozenset({Option.CLEAN_PIXEL_DATA})),
        KEY,
        passes={Option.CLEAN_PIXEL_DATA: lambda ds: None},
    )
    source = as_file(slice_of_mr(), tmp_path / "a.dcm")
    clean = dcmread(engine.deidentify_file(source, tmp_path)[0].path)
    assert codes_of(clean) == {"113100"}
    assert "BurnedInAnnotation" not in clean
    assert clean.PixelData == slice_of_mr().PixelData
    burned = as_file(slice_of_mr(BurnedInAnnotation="YES"), tmp_path / "b.dcm")
    with pytest.raises(CannotDeidentify):
        engine.deidentify_file(burned, tmp_path)


@pytest.mark.parametrize(
    ("attributes", "refused"),
    [
        ({"BodyPartExamined": "HEAD"}, True),
        ({"BodyPartExamined": "ABDOMEN"}, False),
        ({"BodyPartExamined": "ABDOMEN", "SeriesDescription": "t1 mprage head"}, True),
        ({}, True),  # MR Brain, by the study
        ({"StudyDescription": ""}, True),  # nothing says what it shows
        ({"StudyDescription": "", "SeriesDescription": "liver t2"}, False),
        ({"RecognizableVisualFeatures": "NO"}, False),
        ({"Modality": "DX"}, False),
    ],
)
def test_a_volume_that_may_show_a_face_is_refused_where_faces_are(attributes, refused):
    ds = slice_of_mr(**attributes)
    if "BodyPartExamined" in attributes and attributes["BodyPartExamined"] == "ABDOMEN":
        ds.StudyDescription = "Abdomen"
    engine = Deidentifier(Profile(CLEAN), KEY, heads=Heads.REFUSE)
    if refused:
        with pytest.raises(HeadNotDefaced):
            engine.deidentify(ds)
    else:
        engine.deidentify(ds)
    Deidentifier(Profile(CLEAN), KEY).deidentify(ds)  # the node itself keeps heads


def test_a_head_whose_face_was_painted_over_passes_and_says_so(tmp_path):
    option = Option.CLEAN_RECOGNIZABLE_VISUAL_FEATURES
    source = as_file(slice_of_mr(BodyPartExamined="HEAD"), tmp_path / "a.dcm")
    profile = Profile(CLEAN | {option})
    idle = Deidentifier(profile, KEY, passes={option: lambda ds: None}, heads=Heads.DEFACE)
    with pytest.raises(HeadNotDefaced):
        idle.deidentify_file(source, tmp_path)
    engine = Deidentifier(profile, KEY, passes={option: corner_painted}, heads=Heads.DEFACE)
    clean = dcmread(engine.deidentify_file(source, tmp_path)[0].path)
    assert clean.RecognizableVisualFeatures == "NO"
    assert METHOD_CODES[option][0] in codes_of(clean)


def test_a_dummy_of_a_binary_number_has_its_size():
    """Clinical trial and RT attributes of VR FD, UL or US that have to be there (D)."""
    from dicom.profile import table_rules

    ds = slice_of_mr(SOPClassUID="1.2.840.10008.5.1.4.1.1.481.5")
    item = Dataset()
    add(item, 0x00080018, "UI", "1.2.3")
    ds[0x0040A730] = DataElement(0x0040A730, "SQ", Sequence([item]))
    sizes = {"US": 2, "SS": 2, "UL": 4, "SL": 4, "FL": 4, "FD": 8}
    from pydicom.datadict import dictionary_VR

    planted = {}
    for tag, rule in table_rules().items():
        try:
            vr = dictionary_VR(tag)
        except KeyError:
            continue
        if vr in sizes and tag >> 16 > 8:
            add(ds, tag, vr, 7)
            planted[tag] = (vr, rule)
    clean = deidentified(ds)
    for tag, (vr, _) in planted.items():
        if tag in clean:
            assert len(clean.get_item(tag).value) in (0, sizes[vr])


def test_a_code_string_that_is_the_patients_name_goes_unless_a_device_would_mean_it():
    ds = slice_of_mr(PatientName="Wagner^Head^None")
    ds.ScanningSequence = "WAGNER"
    ds.SequenceVariant = "NONE"
    ds.BodyPartExamined = "HEAD"
    clean = deidentified(ds, *CLEAN)
    assert clean.ScanningSequence == "REMOVED"  # type 1
    assert (clean.SequenceVariant, clean.BodyPartExamined) == ("NONE", "HEAD")
