"""What is about to be stored: pointed back at its study, and judged once more, whatever made it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ComputedRadiographyImageStorage

from dicom.deid import Deidentifier, Identity
from dicom.errors import InvalidReport, SourceMismatch, WrongGeometry, WrongLabels
from dicom.profile import node_profile
from dicom.relink import relink
from dicom.seg import Form
from dicom.sr import decode_report
from dicom.study import Instance, Series
from dicom.volume import Mending, Volume, read_volume
from models.bundle import Bundle, read_bundle
from models.prediction import Answer, Box, Boxes, Classes, Instances, Labels, Masks
from pipelines.outputs import Made, outputs_for
from pipelines.results import check_results, encode_all, look_at, source_of
from tests.bundles import BRAIN, CLEAR, NODULE, write_kidney_bundle, write_scripted_bundle
from tests.networks import Above, Itself, Means
from tests.segmentations import NOON
from tests.series import write_series

KEY = bytes(range(32))
LEFT = {"value": "7771000", "scheme": "SCT", "meaning": "Left"}
RIGHT = {"value": "24028007", "scheme": "SCT", "meaning": "Right"}
KIDNEY = {"value": "64033007", "scheme": "SCT", "meaning": "Kidney"}
KIDNEYS = [
    {**BRAIN, "number": 1, "label": "Left kidney", "type": KIDNEY, "laterality": LEFT},
    {**BRAIN, "number": 2, "label": "Right kidney", "type": KIDNEY, "laterality": RIGHT},
]


class Round:
    """A series, its de-identified copy, what a model makes of that, and the way back."""

    def __init__(self, folder: Path, bundle: Bundle, **how: object) -> None:
        self.folder, self.bundle = folder, bundle
        original = write_series(folder / "original", **how)
        deidentifier = Deidentifier(node_profile(), KEY)
        (folder / "clean").mkdir()
        identities, instances = [], []
        for instance in original.instances:
            clean, identity = deidentifier.deidentify(dcmread(instance.path))
            path = folder / "clean" / instance.path.name
            clean.save_as(path, enforce_file_format=True)
            identities.append(identity)
            instances.append(Instance(clean.SOPInstanceUID, clean.SOPClassUID, path))
        self.identity = Identity.of(identities)
        self.series = Series(clean.SeriesInstanceUID, original.modality, tuple(instances))

    def made(self, answer: Answer, volume: Volume | None, **changed: object) -> Made:
        """Return what the workflow makes of an answer on the volume's grid."""
        measured = look_at(self.bundle, answer, volume, self.series)
        if isinstance(answer, Labels) and volume is not None:
            answer = Labels(volume.to_source(answer.labels_kji))
        source = source_of(self.series, self.bundle, answer)
        made = Made(answer, source, self.bundle, "task", 9001, NOON, measured=measured)
        return replace(made, **changed)

    def stored(self, made: Made, *outputs: str) -> dict[str, Path]:
        """Return the objects as they are about to be stored."""
        encoded = encode_all(outputs or outputs_for(self.bundle), made)
        beside = frozenset(
            str(uid)
            for each in encoded.values()
            for uid in (each.ds.SOPInstanceUID, each.ds.SeriesInstanceUID)
        )
        paths = {}
        for name, each in encoded.items():
            paths[name] = self.folder / f"{name}.dcm"
            relinked = relink(each.ds, self.identity, beside=beside)
            relinked.save_as(paths[name], enforce_file_format=True)
        return paths


def kidneys(folder: Path) -> Bundle:
    table = {"segments": KIDNEYS, "suits": {"modalities": ["CT", "MR"], "min_slices": 1}}
    channels = ("background", "left kidney", "right kidney")
    two = Above(100, 200, background=True)
    return read_bundle(
        write_scripted_bundle(folder, "kidneys", two, table=table, channels=channels)
    )


def two_kidneys(volume: Volume) -> np.ndarray:
    labels_kji = np.zeros(volume.shape_kji, np.uint8)
    labels_kji[3:8, 9:14, 22:28] = 1  # columns run to the patient's left
    labels_kji[4:8, 10:15, 6:11] = 2
    return labels_kji


@pytest.fixture(scope="module")
def round_trip(tmp_path_factory: pytest.TempPathFactory) -> Round:
    folder = tmp_path_factory.mktemp("round")
    return Round(folder, kidneys(folder))


@pytest.fixture(scope="module")
def volume(round_trip: Round) -> Volume:
    return read_volume(round_trip.series)


@pytest.fixture(scope="module")
def made(round_trip: Round, volume: Volume) -> Made:
    return round_trip.made(Labels(two_kidneys(volume)), volume)


# --- what is right passes -------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["binary", "labelmap", "fractional"])
def test_a_segmentation_and_its_report_pass(round_trip: Round, made: Made, form: str) -> None:
    made = replace(made, form=Form(form))
    check_results(round_trip.stored(made), made, round_trip.identity)


def test_segments_that_overlap_and_one_that_was_not_found_pass(
    round_trip: Round, volume: Volume
) -> None:
    left = two_kidneys(volume) == 1
    for masks in ([left, np.zeros_like(left)], [left, np.roll(left, -10, axis=2)]):
        made = round_trip.made(Masks((1, 2), np.stack(masks)), volume)
        check_results(round_trip.stored(made), made, round_trip.identity)
    assert made.measured[0].voxels == left.sum()


def test_instances_pass(round_trip: Round, volume: Volume) -> None:
    instances_kji = two_kidneys(volume).astype(np.uint16)
    instances_kji[9:11, 9:12, 23:27] = 3
    made = round_trip.made(Instances(instances_kji, (1, 2, 1)), volume)
    check_results(round_trip.stored(made), made, round_trip.identity)


def test_findings_of_a_series_and_boxes_pass_and_others_do_not(tmp_path: Path) -> None:
    findings = {"findings": [CLEAR, NODULE]}
    table = {"task": "classification", **findings}
    root = write_scripted_bundle(tmp_path, "c", Means(), table=table, channels=("nodule", "clear"))
    one = Round(tmp_path / "c1", read_bundle(root))
    made = one.made(Classes((0, 1), np.array([0.25, 0.75])), read_volume(one.series))
    paths = one.stored(made)
    check_results(paths, made, one.identity)
    with pytest.raises(InvalidReport):
        other = replace(made, answer=Classes((0, 1), np.array([0.75, 0.25])))
        check_results(paths, other, one.identity)

    table = {"task": "detection", **findings}
    root = write_scripted_bundle(tmp_path, "d", Itself(), table=table, channels=("boxes",))
    two = Round(tmp_path / "d1", read_bundle(root))
    box = Box(0, 0.8, (-10.0, -8.0, -6.0), (-2.0, 4.5, 3.0))
    made = two.made(Boxes((box,)), read_volume(two.series))
    paths = two.stored(made)
    check_results(paths, made, two.identity)
    for wrong in (
        replace(box, low_lps=(2.0, -8.0, -6.0), high_lps=(10.0, 4.5, 3.0)),  # the other side
        replace(box, high_lps=(-2.0, 4.5, 6.0)),  # a slice too high
        replace(box, score=0.7),
        replace(box, number=1),
    ):
        with pytest.raises(InvalidReport):
            check_results(paths, replace(made, answer=Boxes((wrong,))), two.identity)
    ds = dcmread(paths["sr"])
    for item in ds.iterall():
        if item.keyword == "ReferencedFrameOfReferenceUID":
            item.value = dcmread(two.series.instances[0].path).SOPInstanceUID
    ds.save_as(paths["sr"])
    with pytest.raises((InvalidReport, SourceMismatch)):
        check_results(paths, made, two.identity)


def tilted(k: int, ds: Dataset) -> None:
    x, y, z = ds.ImagePositionPatient
    ds.ImagePositionPatient = [x, float(y) + 0.9 * k, z]


def test_a_tilt_that_was_mended_knowingly_passes(tmp_path: Path) -> None:
    """The model sees an orthogonal volume; its answer lies on the slices as they are."""
    bundle = replace(kidneys(tmp_path), mending=frozenset({Mending.TILT}))
    one = Round(tmp_path / "t", bundle, edit=tilted)
    volume = read_volume(one.series, mend=bundle.mending)
    assert volume.mended == {Mending.TILT}
    labels_kji = two_kidneys(volume)
    made = one.made(Labels(labels_kji), volume)
    assert made.source.shape_kji != volume.shape_kji
    paths = one.stored(made)
    check_results(paths, made, one.identity)
    wrong = replace(made, answer=Labels(np.roll(made.labels_kji, 1, axis=1)))
    with pytest.raises(WrongGeometry):
        check_results(paths, wrong, one.identity)


# --- pictures and single slices -------------------------------------------------------------------


def radiograph(spacing: str) -> Callable[[int, Dataset], None]:
    def edit(_: int, ds: Dataset) -> None:
        for keyword in ("FrameOfReferenceUID", "ImageOrientationPatient", "ImagePositionPatient"):
            del ds[keyword]
        ds.SOPClassUID, ds.Modality = ComputedRadiographyImageStorage, "CR"
        value = ds.PixelSpacing
        del ds.PixelSpacing
        if spacing:
            setattr(ds, spacing, value)

    return edit


def figures_of(path: Path) -> dict[str, float]:
    return {
        figure.concept: figure.value
        for figure in decode_report(dcmread(path))[0].figures
        if not figure.derivation
    }


AREA, VOLUME, LONG_AXIS = "42798000", "118565006", "103339001"


@pytest.mark.parametrize("slices", [1, 2])
@pytest.mark.parametrize("spacing", ["PixelSpacing", "ImagerPixelSpacing", ""])
def test_segments_on_radiographs_have_an_area_where_a_pixels_size_is_known(
    tmp_path: Path, spacing: str, slices: int
) -> None:
    one = Round(
        tmp_path / "r",
        kidneys(tmp_path),
        shape_kji=(slices, 20, 30),
        spacing_kji=(1, 0.5, 0.25),
        edit=radiograph(spacing),
    )
    labels_kji = np.zeros((slices, 20, 30), np.uint8)
    labels_kji[0, 4:8, 3:9], labels_kji[0, 12:14, 20:22] = 1, 2
    made = one.made(Labels(labels_kji), None)
    paths = one.stored(made)
    check_results(paths, made, one.identity)
    figures = figures_of(paths["sr"])
    assert VOLUME not in figures
    assert figures.get(AREA) == (24 * 0.125 if (spacing, slices) == ("PixelSpacing", 1) else None)
    assert (LONG_AXIS in figures) == (spacing == "PixelSpacing")
    wrong = replace(made, answer=Labels(labels_kji[:, ::-1]))
    with pytest.raises(WrongGeometry):
        check_results(paths, wrong, one.identity)


def test_a_single_slice_has_an_area_and_no_volume(tmp_path: Path) -> None:
    one = Round(tmp_path / "s", kidneys(tmp_path), shape_kji=(1, 20, 30), spacing_kji=(5, 2, 3))
    volume = read_volume(one.series)
    labels_kji = np.zeros(volume.shape_kji, np.uint8)
    labels_kji[0, 4:8, 20:26] = 1
    made = one.made(Labels(labels_kji), volume)
    paths = one.stored(made)
    check_results(paths, made, one.identity)
    assert figures_of(paths["sr"])[AREA] == pytest.approx(24 * 6.0)
    assert VOLUME not in figures_of(paths["sr"])
    first = replace(made.measured[0], area_mm2=24 * 6.6)
    with pytest.raises(InvalidReport):
        check_results(paths, replace(made, measured=(first, made.measured[1])), one.identity)


# --- a report that says something else ------------------------------------------------------------


def groups_of(ds: Dataset) -> list[Dataset]:
    return [
        group
        for item in ds.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeValue == "126010"
        for group in item.ContentSequence
    ]


def children(group: Dataset, concept: str) -> list[Dataset]:
    return [
        item
        for item in group.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeValue == concept
    ]


def figure_changed(ds: Dataset) -> None:
    value = children(groups_of(ds)[0], VOLUME)[0].MeasuredValueSequence[0]
    value.NumericValue = float(value.NumericValue) * 1.001


def mean_changed(ds: Dataset) -> None:
    value = children(groups_of(ds)[1], "112031")[0].MeasuredValueSequence[0]
    value.NumericValue = float(value.NumericValue) + 1


def figures_exchanged(ds: Dataset) -> None:
    one, other = (children(group, VOLUME)[0] for group in groups_of(ds))
    one.MeasuredValueSequence, other.MeasuredValueSequence = (
        other.MeasuredValueSequence,
        one.MeasuredValueSequence,
    )


def figure_left_out(ds: Dataset) -> None:
    group = groups_of(ds)[0]
    (volume,) = children(group, VOLUME)
    group.ContentSequence = [item for item in group.ContentSequence if item is not volume]


def segment(group: Dataset) -> Dataset:
    return children(group, "121191")[0].ReferencedSOPSequence[0]


def segments_exchanged(ds: Dataset) -> None:
    one, other = (segment(group) for group in groups_of(ds))
    one.ReferencedSegmentNumber, other.ReferencedSegmentNumber = 2, 1


def another_segment(ds: Dataset) -> None:
    segment(groups_of(ds)[0]).ReferencedSegmentNumber = 2


def itself_for_the_segmentation(ds: Dataset) -> None:
    segment(groups_of(ds)[0]).ReferencedSOPInstanceUID = ds.SOPInstanceUID


def another_source_series(ds: Dataset) -> None:
    children(groups_of(ds)[0], "121232")[0].UID = "2.25.1"


def sides_exchanged(ds: Dataset) -> None:
    one, other = (children(group, "363698007")[0] for group in groups_of(ds))
    one.ContentSequence, other.ContentSequence = other.ContentSequence, one.ContentSequence


def another_finding(ds: Dataset) -> None:
    children(groups_of(ds)[0], "121071")[0].ConceptCodeSequence[0].CodeValue = "78961009"


def tracking_exchanged(ds: Dataset) -> None:
    one, other = (children(group, "112040")[0] for group in groups_of(ds))
    one.UID, other.UID = other.UID, one.UID


def a_group_twice(ds: Dataset) -> None:
    for item in ds.ContentSequence:
        if item.ConceptNameCodeSequence[0].CodeValue == "126010":
            item.ContentSequence.append(deepcopy(item.ContentSequence[0]))


def no_groups(ds: Dataset) -> None:
    ds.ContentSequence = []


@pytest.mark.parametrize(
    "corrupt",
    [
        *(figure_changed, mean_changed, figures_exchanged, figure_left_out, segments_exchanged),
        *(another_segment, itself_for_the_segmentation, another_source_series, sides_exchanged),
        *(another_finding, tracking_exchanged, a_group_twice, no_groups),
    ],
    ids=lambda corrupt: corrupt.__name__,
)
def test_a_report_that_was_corrupted_is_refused(
    round_trip: Round, made: Made, corrupt: Callable[[Dataset], None]
) -> None:
    paths = round_trip.stored(made)
    ds = dcmread(paths["sr"])
    corrupt(ds)
    ds.save_as(paths["sr"])
    with pytest.raises(InvalidReport):
        check_results(paths, made, round_trip.identity)


def test_figures_that_belong_to_another_prediction_are_refused(
    round_trip: Round, made: Made, volume: Volume
) -> None:
    """The report says what was measured; it was not measured of what is stored."""
    labels_kji = two_kidneys(volume)
    labels_kji[8, 9:14, 22:28] = 1
    other = round_trip.made(Labels(labels_kji), volume)
    mixed = replace(made, measured=other.measured)
    with pytest.raises(InvalidReport):
        check_results(round_trip.stored(mixed), mixed, round_trip.identity)


# --- whose it is ----------------------------------------------------------------------------------


def another_patient(ds: Dataset) -> None:
    ds.PatientID = "T-2"


def another_name(ds: Dataset) -> None:
    ds.PatientName = "Test^Other"


def no_birth_date(ds: Dataset) -> None:
    ds.PatientBirthDate = ""


def another_study(ds: Dataset) -> None:
    ds.StudyInstanceUID = ds.SOPInstanceUID


def another_accession_number(ds: Dataset) -> None:
    ds.AccessionNumber = "A1"


def still_marked(ds: Dataset) -> None:
    ds.PatientIdentityRemoved = "YES"


def a_stranger_in_the_evidence(ds: Dataset) -> None:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = ds.SOPClassUID, "1.2.3.4.5.6.7"
    ds.PredecessorDocumentsSequence = [Dataset()]
    ds.PredecessorDocumentsSequence[0].ReferencedSeriesSequence = [Dataset()]
    series = ds.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    series.ReferencedSOPSequence = [item]


@pytest.mark.parametrize("name", ["seg", "sr"])
@pytest.mark.parametrize(
    "corrupt",
    [
        *(another_patient, another_name, no_birth_date, another_study, another_accession_number),
        *(still_marked, a_stranger_in_the_evidence),
    ],
    ids=lambda corrupt: corrupt.__name__,
)
def test_what_is_of_somebody_else_is_refused(
    round_trip: Round, made: Made, name: str, corrupt: Callable[[Dataset], None]
) -> None:
    paths = round_trip.stored(made)
    ds = dcmread(paths[name])
    corrupt(ds)
    ds.save_as(paths[name])
    with pytest.raises(SourceMismatch):
        check_results(paths, made, round_trip.identity)


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("ISO_IR 100", "Müller^Jörg^^Dr."),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("ISO_IR 192", "Ηλίας^Νίκος "),
        ("", ""),
    ],
    ids=["Latin", "Japanese", "Greek", "none"],
)
def test_a_patient_of_any_name_is_the_same_patient(
    tmp_path: Path, charset: str | list[str], name: str
) -> None:
    def named(_: int, ds: Dataset) -> None:
        ds.SpecificCharacterSet, ds.PatientName = charset, name
        ds.StudyTime, ds.AccessionNumber = "030405.120000", " 7 "
        ds.IssuerOfPatientID = "Süd" if charset == "ISO_IR 100" else "S"

    one = Round(tmp_path / "n", kidneys(tmp_path), shape_kji=(11, 20, 30), edit=named)
    volume = read_volume(one.series)
    made = one.made(Labels(two_kidneys(volume)), volume)
    check_results(one.stored(made), made, one.identity)


@pytest.mark.parametrize("name", ["seg", "sr"])
def test_a_pseudonym_that_is_left_anywhere_is_seen(
    round_trip: Round, made: Made, name: str
) -> None:
    for uid in (round_trip.series.series_uid, round_trip.series.instances[3].sop_instance_uid):
        for text in (uid, f"of {uid}, by a model"):
            paths = round_trip.stored(made)
            ds = dcmread(paths[name])
            item = Dataset()
            item.TextValue = text
            ds.ContentSequence = [*ds.get("ContentSequence", []), item]
            ds.save_as(paths[name])
            with pytest.raises(SourceMismatch):
                check_results(paths, made, round_trip.identity)


def test_descriptions_that_were_exchanged_are_refused(round_trip: Round, made: Made) -> None:
    paths = round_trip.stored(made)
    ds = dcmread(paths["seg"])
    one, other = ds.SegmentSequence
    one.SegmentNumber, other.SegmentNumber = 2, 1
    ds.save_as(paths["seg"])
    with pytest.raises(WrongLabels):
        check_results(paths, made, round_trip.identity)


# --- objects that other packages make -------------------------------------------------------------


def test_an_object_of_another_package_is_judged_as_far_as_it_goes(
    round_trip: Round, made: Made
) -> None:
    """A segmentation of other segments passes where it lies on the images, a shifted one not."""
    paths = round_trip.stored(made)
    ds = dcmread(paths["seg"])
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "2.25.77"
    ds.SegmentSequence[0].SegmentLabel = "what the site calls it"
    ds.PixelData = bytes(len(ds.PixelData))
    paths["site"] = round_trip.folder / "site.dcm"
    ds.save_as(paths["site"])
    check_results(paths, made, round_trip.identity)
    for group in ds.PerFrameFunctionalGroupsSequence:
        x, y, z = group.PlanePositionSequence[0].ImagePositionPatient
        group.PlanePositionSequence[0].ImagePositionPatient = [x, y, float(z) + 3.0]
    ds.save_as(paths["site"])
    with pytest.raises(WrongGeometry):
        check_results(paths, made, round_trip.identity)


def test_a_document_of_another_package_has_to_be_of_the_patient(
    round_trip: Round, made: Made
) -> None:
    paths = round_trip.stored(made)
    document = dcmread(paths["sr"])
    document.SOPClassUID = document.file_meta.MediaStorageSOPClassUID = (
        "1.2.840.10008.5.1.4.1.1.104.1"
    )
    del document.ContentSequence
    document.SOPInstanceUID = document.file_meta.MediaStorageSOPInstanceUID = "2.25.78"
    document.EncapsulatedDocument = b"%PDF-1.4 "
    paths["letter"] = round_trip.folder / "letter.dcm"
    document.save_as(paths["letter"])
    check_results(paths, made, round_trip.identity)
    document.PatientID = "T-2"
    document.save_as(paths["letter"])
    with pytest.raises(SourceMismatch):
        check_results(paths, made, round_trip.identity)


def test_a_model_that_calls_left_right_is_stopped_before_it_writes(
    tmp_path: Path, round_trip: Round, volume: Volume
) -> None:
    exchanged = np.array([0, 2, 1], np.uint8)[two_kidneys(volume)]
    with pytest.raises(WrongGeometry):
        look_at(round_trip.bundle, Labels(exchanged), volume, round_trip.series)
    wrong = read_bundle(write_kidney_bundle(tmp_path, "right"))
    body = np.where(np.indices(volume.shape_kji)[2] % 33 > 3, 40, -1000).astype(np.int16)
    wide = replace(volume, voxels_kji=body)
    only = (two_kidneys(volume) == 1).astype(np.uint8)
    with pytest.raises(WrongGeometry):
        look_at(wrong, Labels(only), wide, round_trip.series)
