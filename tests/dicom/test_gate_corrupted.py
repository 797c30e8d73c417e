"""Every way in which an encoded object could mislead, done by hand: the gate refuses each, by code.

Each corruption is made of an object that passes, in every form that it can be made of.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from dicom.codes import STRUCTURES
from dicom.errors import RadloopError, WrongGeometry, WrongLabels
from dicom.gate import check_described, check_placed
from dicom.seg import Form, Masks, Segment
from dicom.volume import Grid, read_grid
from tests.segmentations import encoded, segments_of, uids_of
from tests.series import write_series

SHAPE, SPACING = (9, 14, 16), (4.0, 2.5, 2.25)
FORMS = {
    "binary": Form("binary"),
    "labelmap": Form("labelmap", rle=False),
    "labelmap+rle": Form("labelmap"),
    "fractional": Form("fractional", rle=False),
    "fractional+rle": Form("fractional"),
}
KIDNEY, TUMOUR = STRUCTURES["kidney_left"], STRUCTURES["tumour"]
SEGMENTS = (
    *segments_of("kidney_left", "kidney_right"),
    # Of a region that has a side: what is wrong there is as wrong as in the type.
    Segment(3, "Tumour", TUMOUR.category, TUMOUR.type, KIDNEY.type, KIDNEY.laterality, (9, 9, 9)),
)


@dataclass(frozen=True)
class Written:
    """An object that passes, and what it was made of."""

    path: Path
    wanted: np.ndarray | Masks
    grid: Grid

    def judge(self, path: Path) -> None:
        check_described(path, SEGMENTS)
        check_placed(path, self.wanted, self.grid)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Written]:
    folder = tmp_path_factory.mktemp("written")
    grid = read_grid(write_series(folder / "ct", shape_kji=SHAPE, spacing_kji=SPACING))
    labels_kji = np.zeros(SHAPE, np.uint8)
    labels_kji[2:8, 3:9, 9:15], labels_kji[3:7, 2:6, 1:5], labels_kji[5:7, 4:6, 10:12] = 1, 2, 3
    labels_kji[2, 3, 9] = 0  # no symmetry
    rng = np.random.default_rng(3)
    shares = [rng.random(SHAPE).astype(np.float32) * (labels_kji == n) for n in (1, 2, 3)]
    made = {}
    for name, form in FORMS.items():
        wanted = Masks.of(shares) if name.startswith("fractional") else labels_kji
        ds = encoded(wanted, grid, SEGMENTS, uids=uids_of(3), form=form)
        made[name] = Written(folder / f"{name}.dcm", wanted, grid)
        ds.save_as(made[name].path, enforce_file_format=True)
    return made


# --- pixels ---------------------------------------------------------------------------------------


def pixels_of(ds: Dataset) -> np.ndarray:
    pixels = ds.pixel_array
    return np.array(pixels[None] if pixels.ndim == 2 else pixels)


def put(ds: Dataset, pixels: np.ndarray) -> None:
    """Put pixels back as they were packed or compressed."""
    syntax = ds.file_meta.TransferSyntaxUID
    bits = ds.BitsAllocated == 1
    raw = (np.packbits(pixels != 0, bitorder="little") if bits else pixels).tobytes()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.PixelData = raw + b"\0" * (len(raw) % 2)
    ds["PixelData"].VR = "OB" if bits else "OW"
    ds["PixelData"].is_undefined_length = False
    if syntax == RLELossless:
        ds.compress(RLELossless, generate_instance_uid=False)


def rows_flipped(ds: Dataset) -> None:
    put(ds, pixels_of(ds)[:, ::-1])


def columns_flipped(ds: Dataset) -> None:
    put(ds, pixels_of(ds)[:, :, ::-1])


def frames_reversed(ds: Dataset) -> None:
    put(ds, pixels_of(ds)[::-1])


def a_column_to_the_right(ds: Dataset) -> None:
    put(ds, np.roll(pixels_of(ds), 1, axis=2))


def a_row_down(ds: Dataset) -> None:
    put(ds, np.roll(pixels_of(ds), 1, axis=1))


def a_frame_on(ds: Dataset) -> None:
    put(ds, np.roll(pixels_of(ds), 1, axis=0))


def one_voxel_more(ds: Dataset) -> None:
    pixels = pixels_of(ds)
    pixels[0, 0, 0] = 1
    put(ds, pixels)


def one_voxel_less(ds: Dataset) -> None:
    pixels = pixels_of(ds)
    at = np.argwhere(pixels)[-1]
    pixels[tuple(at)] = 0
    put(ds, pixels)


def a_frame_emptied(ds: Dataset) -> None:
    pixels = pixels_of(ds)
    pixels[-1] = 0
    put(ds, pixels)


def labels_exchanged(ds: Dataset) -> None:
    put(ds, np.array([0, 2, 1, 3], np.uint8)[pixels_of(ds)])


def labels_raised(ds: Dataset) -> None:
    pixels = pixels_of(ds)
    put(ds, np.where(pixels, pixels + 1, 0).astype(np.uint8))


def shares_halved(ds: Dataset) -> None:
    put(ds, pixels_of(ds) // 2)


def shares_a_step_more(ds: Dataset) -> None:
    pixels = pixels_of(ds)
    put(ds, np.where((pixels > 0) & (pixels < 255), pixels + 1, pixels).astype(np.uint8))


def shares_all_or_nothing(ds: Dataset) -> None:
    put(ds, np.where(pixels_of(ds), 255, 0).astype(np.uint8))


def another_whole(ds: Dataset) -> None:
    ds.MaximumFractionalValue = 200


def no_whole(ds: Dataset) -> None:
    del ds.MaximumFractionalValue


def other_bits(ds: Dataset) -> None:
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit = 15


def fewer_rows(ds: Dataset) -> None:
    ds.Rows, ds.Columns = ds.Rows // 2, ds.Columns * 2


def rows_for_columns(ds: Dataset) -> None:
    ds.Rows, ds.Columns = ds.Columns, ds.Rows


def fewer_frames(ds: Dataset) -> None:
    ds.NumberOfFrames -= 1


def a_frame_cut_off(ds: Dataset) -> None:
    ds.PixelData = ds.PixelData[:-64]


def fractions_for_bits(ds: Dataset) -> None:
    ds.SegmentationType, ds.MaximumFractionalValue = "FRACTIONAL", 255


def another_kind(ds: Dataset) -> None:
    ds.SegmentationType = "BINARY" if ds.SegmentationType == "LABELMAP" else "LABELMAP"


# --- places ---------------------------------------------------------------------------------------


def moved(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Callable[[Dataset], None]:
    def move(ds: Dataset) -> None:
        for group in ds.PerFrameFunctionalGroupsSequence:
            place = group.PlanePositionSequence[0]
            along = zip(place.ImagePositionPatient, (x, y, z), strict=True)
            place.ImagePositionPatient = [float(value) + by for value, by in along]

    move.__name__ = f"moved {x:g} {y:g} {z:g} mm"
    return move


def places_reversed(ds: Dataset) -> None:
    groups = list(ds.PerFrameFunctionalGroupsSequence)
    places = [group.PlanePositionSequence for group in groups]
    for group, place in zip(groups, places[::-1], strict=True):
        group.PlanePositionSequence = place


def places_and_references_reversed(ds: Dataset) -> None:
    places_reversed(ds)
    groups = list(ds.PerFrameFunctionalGroupsSequence)
    images = [group.DerivationImageSequence for group in groups]
    for group, image in zip(groups, images[::-1], strict=True):
        group.DerivationImageSequence = image


def shared(ds: Dataset, macro: str) -> Dataset:
    return ds.SharedFunctionalGroupsSequence[0][macro].value[0]


def mirrored_rows(ds: Dataset) -> None:
    item = shared(ds, "PlaneOrientationSequence")
    values = [float(v) for v in item.ImageOrientationPatient]
    item.ImageOrientationPatient = [-v for v in values[:3]] + values[3:]


def axes_exchanged(ds: Dataset) -> None:
    item = shared(ds, "PlaneOrientationSequence")
    values = list(item.ImageOrientationPatient)
    item.ImageOrientationPatient = values[3:] + values[:3]


def turned_by_half_a_degree(ds: Dataset) -> None:
    item = shared(ds, "PlaneOrientationSequence")
    cos, sin = np.cos(np.deg2rad(0.5)), np.sin(np.deg2rad(0.5))
    item.ImageOrientationPatient = [round(v, 10) for v in (cos, sin, 0, -sin, cos, 0)]


def spacing_of_a_thousandth_more(ds: Dataset) -> None:
    item = shared(ds, "PixelMeasuresSequence")
    item.PixelSpacing = [float(value) * 1.001 for value in item.PixelSpacing]


def spacings_exchanged(ds: Dataset) -> None:
    item = shared(ds, "PixelMeasuresSequence")
    item.PixelSpacing = list(item.PixelSpacing)[::-1]


def no_spacing(ds: Dataset) -> None:
    del ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence


def another_step(ds: Dataset) -> None:
    shared(ds, "PixelMeasuresSequence").SpacingBetweenSlices = 3.2


def no_orientation(ds: Dataset) -> None:
    del ds.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence


def no_position(ds: Dataset) -> None:
    del ds.PerFrameFunctionalGroupsSequence[-1].PlanePositionSequence


def position_that_is_no_number(ds: Dataset) -> None:
    place = ds.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
    place.ImagePositionPatient = list(place.ImagePositionPatient)[:2]


def one_frame_twice(ds: Dataset) -> None:
    groups = ds.PerFrameFunctionalGroupsSequence
    groups[1] = deepcopy(groups[0])
    pixels = pixels_of(ds)
    pixels[1] = pixels[0]
    put(ds, pixels)


def one_frame_again(ds: Dataset) -> None:
    pixels = pixels_of(ds)
    ds.PerFrameFunctionalGroupsSequence.append(deepcopy(ds.PerFrameFunctionalGroupsSequence[0]))
    ds.NumberOfFrames += 1
    put(ds, np.concatenate([pixels, pixels[:1]]))


# --- references -----------------------------------------------------------------------------------


def another_study(ds: Dataset) -> None:
    ds.StudyInstanceUID = "2.25.1"


def another_frame_of_reference(ds: Dataset) -> None:
    ds.FrameOfReferenceUID = "2.25.1"


def no_frame_of_reference(ds: Dataset) -> None:
    del ds.FrameOfReferenceUID


def another_series(ds: Dataset) -> None:
    ds.ReferencedSeriesSequence[0].SeriesInstanceUID = "2.25.1"


def no_series(ds: Dataset) -> None:
    del ds.ReferencedSeriesSequence


def one_series_more(ds: Dataset) -> None:
    again = deepcopy(ds.ReferencedSeriesSequence[0])
    again.SeriesInstanceUID = "2.25.1"
    ds.ReferencedSeriesSequence.append(again)


def an_image_unnamed(ds: Dataset) -> None:
    named = ds.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    ds.ReferencedSeriesSequence[0].ReferencedInstanceSequence = Items(named[1:])


def a_foreign_image_named(ds: Dataset) -> None:
    item = ds.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]
    item.ReferencedSOPInstanceUID = "2.25.1"


def no_derivation(ds: Dataset) -> None:
    for group in ds.PerFrameFunctionalGroupsSequence:
        del group.DerivationImageSequence


def no_derivation_of_one_frame(ds: Dataset) -> None:
    del ds.PerFrameFunctionalGroupsSequence[-1].DerivationImageSequence


def no_source_images(ds: Dataset) -> None:
    for group in ds.PerFrameFunctionalGroupsSequence:
        group.DerivationImageSequence[0].SourceImageSequence = Items([])


def images_of(ds: Dataset) -> list[Dataset]:
    return [
        group.DerivationImageSequence[0].SourceImageSequence[0]
        for group in ds.PerFrameFunctionalGroupsSequence
    ]


def the_next_images(ds: Dataset) -> None:
    order = sorted({str(image.ReferencedSOPInstanceUID) for image in images_of(ds)})
    following = dict(zip(order, order[1:] + order[:1], strict=True))
    for image in images_of(ds):
        image.ReferencedSOPInstanceUID = following[str(image.ReferencedSOPInstanceUID)]


def a_frame_that_is_not_there(ds: Dataset) -> None:
    for image in images_of(ds):
        image.ReferencedFrameNumber = 2


def a_second_image(ds: Dataset) -> None:
    first, *_, last = (g.DerivationImageSequence[0] for g in ds.PerFrameFunctionalGroupsSequence)
    last.SourceImageSequence.append(deepcopy(first.SourceImageSequence[0]))


# --- descriptions ---------------------------------------------------------------------------------


def described(ds: Dataset) -> list[Dataset]:
    return [item for item in ds.SegmentSequence if item.SegmentNumber]


def exchanged(*keywords: str) -> Callable[[Dataset], None]:
    """Return a corruption that gives the first segment what the last one has, and back."""

    def exchange(ds: Dataset) -> None:
        first, *_, last = described(ds)
        for keyword in keywords:
            one, other = deepcopy(first.get(keyword)), deepcopy(last.get(keyword))
            for item, value in ((first, other), (last, one)):
                if keyword in item:
                    del item[keyword]
                if value is not None:
                    setattr(item, keyword, value)

    exchange.__name__ = f"{' and '.join(keywords)} exchanged"
    return exchange


def left_and_right_exchanged(ds: Dataset) -> None:
    sides = [
        item.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0]
        for item in described(ds)[:2]
    ]
    left, right = (side.CodeValue for side in sides)
    sides[0].CodeValue, sides[1].CodeValue = right, left


def side_of_the_region_exchanged(ds: Dataset) -> None:
    region = described(ds)[2].AnatomicRegionSequence[0]
    region.AnatomicRegionModifierSequence[0].CodeValue = "24028007"


def no_side(ds: Dataset) -> None:
    kind = described(ds)[0].SegmentedPropertyTypeCodeSequence[0]
    del kind.SegmentedPropertyTypeModifierCodeSequence


def no_region(ds: Dataset) -> None:
    del described(ds)[2].AnatomicRegionSequence


def another_organ(ds: Dataset) -> None:
    described(ds)[1].SegmentedPropertyTypeCodeSequence[0].CodeValue = "78961009"  # the spleen


def another_scheme(ds: Dataset) -> None:
    described(ds)[1].SegmentedPropertyTypeCodeSequence[0].CodingSchemeDesignator = "99X"


def one_segment_less(ds: Dataset) -> None:
    ds.SegmentSequence = Items([*ds.SegmentSequence][:-1])


def one_segment_more(ds: Dataset) -> None:
    again = deepcopy(ds.SegmentSequence[-1])
    again.SegmentNumber = 4
    ds.SegmentSequence.append(again)


def one_number_twice(ds: Dataset) -> None:
    described(ds)[1].SegmentNumber = 1


def one_tracking_identifier_for_two(ds: Dataset) -> None:
    first, second, _ = described(ds)
    second.TrackingUID = first.TrackingUID


def no_descriptions(ds: Dataset) -> None:
    del ds.SegmentSequence


def frames_of_another_segment(ds: Dataset) -> None:
    for group in ds.PerFrameFunctionalGroupsSequence:
        item = group.SegmentIdentificationSequence[0]
        item.ReferencedSegmentNumber = {1: 2, 2: 1, 3: 3}[item.ReferencedSegmentNumber]


def a_frame_of_no_segment(ds: Dataset) -> None:
    del ds.PerFrameFunctionalGroupsSequence[0].SegmentIdentificationSequence


EVERYWHERE = [
    *(rows_flipped, columns_flipped, frames_reversed, a_column_to_the_right, a_row_down),
    *(a_frame_on, one_voxel_more, one_voxel_less, a_frame_emptied, another_kind),
    *(fewer_rows, rows_for_columns, fewer_frames, a_frame_cut_off),
    *(moved(z=SPACING[0]), moved(x=SPACING[2]), moved(y=-SPACING[1]), moved(z=-0.2)),
    *(places_reversed, places_and_references_reversed, mirrored_rows, axes_exchanged),
    *(turned_by_half_a_degree, spacing_of_a_thousandth_more, spacings_exchanged, no_spacing),
    *(another_step, no_orientation, no_position, position_that_is_no_number, one_frame_twice),
    one_frame_again,
    *(another_study, another_frame_of_reference, no_frame_of_reference, another_series),
    *(no_series, one_series_more, an_image_unnamed, a_foreign_image_named, no_derivation),
    *(no_derivation_of_one_frame, no_source_images, the_next_images),
    *(a_frame_that_is_not_there, a_second_image),
    *(left_and_right_exchanged, side_of_the_region_exchanged, no_side, no_region),
    *(another_organ, another_scheme, one_segment_less, one_segment_more, one_number_twice),
    *(one_tracking_identifier_for_two, no_descriptions),
    exchanged("SegmentNumber"),
    exchanged("SegmentLabel"),
    exchanged("SegmentedPropertyTypeCodeSequence", "AnatomicRegionSequence"),
    exchanged("SegmentedPropertyCategoryCodeSequence"),
]
IN_SOME = {
    "binary": [frames_of_another_segment, a_frame_of_no_segment, fractions_for_bits],
    "labelmap": [labels_exchanged, labels_raised, other_bits],
    "labelmap+rle": [labels_exchanged, labels_raised],
    "fractional": [shares_halved, shares_a_step_more, shares_all_or_nothing, another_whole],
}
IN_SOME["fractional"] += [no_whole, frames_of_another_segment, a_frame_of_no_segment, other_bits]
IN_SOME["fractional+rle"] = IN_SOME["fractional"][:-1]
CASES = [(form, corrupt) for form in FORMS for corrupt in (*EVERYWHERE, *IN_SOME[form])]


@pytest.mark.parametrize("form", FORMS)
def test_the_object_itself_passes_and_so_does_one_that_was_packed_anew(
    written: dict[str, Written], form: str, tmp_path: Path
) -> None:
    """Else the corruptions below could be refused for how they were written."""
    one = written[form]
    one.judge(one.path)
    ds = dcmread(one.path)
    put(ds, pixels_of(ds))
    ds.save_as(tmp_path / "again.dcm")
    one.judge(tmp_path / "again.dcm")


@pytest.mark.parametrize(
    ("form", "corrupt"), CASES, ids=[f"{form}-{corrupt.__name__}" for form, corrupt in CASES]
)
def test_what_was_corrupted_is_refused_by_code(
    written: dict[str, Written], form: str, corrupt: Callable[[Dataset], None], tmp_path: Path
) -> None:
    one = written[form]
    ds = dcmread(one.path)
    corrupt(ds)
    path = tmp_path / "corrupted.dcm"
    ds.save_as(path)
    with pytest.raises(RadloopError) as refused:
        one.judge(path)
    assert type(refused.value) in (WrongGeometry, WrongLabels)
