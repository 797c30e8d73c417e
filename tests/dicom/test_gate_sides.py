"""The gate: what is coded left lies on the left, and a limb is not taken for a whole body."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dicom.codes import LEFT, RIGHT, STRUCTURES, Code
from dicom.errors import WrongGeometry
from dicom.folder import read_folder
from dicom.gate import check_sides
from dicom.seg import Masks, Segment
from dicom.volume import Volume, read_volume
from tests.segmentations import segments_of
from tests.series import real_series, write_series

AIR, FLESH, BONE = -1000, 40, 700
TIBIA = Code("12611008", "SCT", "Tibia")


def body(tmp_path: Path, *, cut: bool = False) -> Volume:
    """Return a CT whose body is an ellipse that lies a little to the patient's left."""
    series = write_series(tmp_path, shape_kji=(6, 40, 48), spacing_kji=(5, 8, 8))
    volume = read_volume(series)
    j, i = np.indices((40, 48))
    inside = ((j - 20) / 15) ** 2 + ((i - 27) / (40 if cut else 15)) ** 2 < 1
    voxels_kji = np.where(inside, 40, -1000).astype(np.int16)[None].repeat(6, axis=0)
    return replace(volume, voxels_kji=voxels_kji)


def at_column(column: int) -> Masks:
    mask_kji = np.zeros((6, 40, 48), bool)
    mask_kji[2:4, 18:22, column - 2 : column + 2] = True
    return Masks.of([mask_kji])


def test_a_single_structure_is_judged_by_the_middle_of_the_body(tmp_path: Path) -> None:
    volume = body(tmp_path)
    left, right = segments_of("kidney_left"), segments_of("kidney_right")
    for column, segments in ((36, left), (18, right), (28, left), (26, right), (24, left)):
        check_sides(at_column(column), segments, volume.affine_lps, volume)
    for column, segments in ((18, left), (36, right)):
        with pytest.raises(WrongGeometry):
            check_sides(at_column(column), segments, volume.affine_lps, volume)


def test_an_image_of_a_part_of_the_body_is_not_judged(tmp_path: Path) -> None:
    volume = body(tmp_path, cut=True)
    check_sides(at_column(18), segments_of("kidney_left"), volume.affine_lps, volume)
    check_sides(at_column(18), segments_of("kidney_left"), volume.affine_lps)


def test_a_few_voxels_and_structures_without_a_side_are_not_judged(tmp_path: Path) -> None:
    volume = body(tmp_path)
    check_sides(at_column(18), segments_of("liver"), volume.affine_lps, volume)
    mask_kji = np.zeros((6, 40, 48), bool)
    mask_kji[2, 18, 18:20] = True
    check_sides(Masks.of([mask_kji]), segments_of("kidney_left"), volume.affine_lps, volume)


# --- several of one kind --------------------------------------------------------------------------


def coded(*sides: Code, kind: str = "kidney_left") -> tuple[Segment, ...]:
    structure = STRUCTURES[kind]
    return tuple(
        Segment(n, f"{kind} {n}", structure.category, structure.type, None, side, (1, 2, 3))
        for n, side in enumerate(sides, 1)
    )


def at_columns(*columns: int) -> Masks:
    return Masks.of([at_column(column).whole(1) for column in columns])


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
def test_of_several_segments_of_one_side_each_is_judged(
    tmp_path: Path, order: tuple[int, ...]
) -> None:
    """The wrong one may be the first, the middle or the last."""
    volume = body(tmp_path)
    right_ones, wrong_ones = (38, 33, 30), (38, 33, 16)
    columns = [right_ones[n] for n in order]
    check_sides(at_columns(*columns), coded(LEFT, LEFT, LEFT), volume.affine_lps, volume)
    columns = [wrong_ones[n] for n in order]
    with pytest.raises(WrongGeometry):
        check_sides(at_columns(*columns), coded(LEFT, LEFT, LEFT), volume.affine_lps, volume)


def test_each_left_one_is_held_against_each_right_one(tmp_path: Path) -> None:
    affine_lps = body(tmp_path).affine_lps  # no image: nothing but the segments themselves
    check_sides(at_columns(38, 30, 16, 24), coded(LEFT, LEFT, RIGHT, RIGHT), affine_lps)
    for columns in ((38, 14, 16, 24), (14, 38, 24, 16), (38, 30, 34, 16), (38, 30, 16, 34)):
        with pytest.raises(WrongGeometry):
            check_sides(at_columns(*columns), coded(LEFT, LEFT, RIGHT, RIGHT), affine_lps)


def test_a_patient_who_lies_turned_has_medial_structures_a_little_beyond_each_other(
    tmp_path: Path,
) -> None:
    volume = body(tmp_path)
    masks = [np.zeros(volume.shape_kji, bool) for _ in range(2)]
    masks[0][2:4, 10:14, 24:26] = True  # left, in front, and 8 mm to the right of the other
    masks[1][2:4, 28:32, 25:27] = True
    check_sides(Masks.of(masks), coded(LEFT, RIGHT), volume.affine_lps, volume)
    masks[1] = np.roll(masks[1], -18, axis=1)  # side by side, nothing explains it
    with pytest.raises(WrongGeometry):
        check_sides(Masks.of(masks), coded(LEFT, RIGHT), volume.affine_lps, volume)


# --- limbs ----------------------------------------------------------------------------------------


def limbs(tmp_path: Path, *centres: int, table: bool = False) -> Volume:
    """Return a CT of lower legs at these columns, each with tibia and fibula, air all around."""
    shape_kji = (12, 60, 100)
    volume = read_volume(write_series(tmp_path, shape_kji=shape_kji, spacing_kji=(5, 4, 4)))
    _, j, i = np.indices(shape_kji)
    voxels_kji = np.full(shape_kji, AIR, np.int16)
    for centre in centres:
        outwards = 1 if centre >= 50 else -1
        voxels_kji[((j - 30) / 14) ** 2 + ((i - centre) / 12) ** 2 < 1] = FLESH
        voxels_kji[((j - 22) / 4) ** 2 + ((i - (centre - 4 * outwards)) / 4) ** 2 < 1] = BONE
        voxels_kji[((j - 27) / 2) ** 2 + ((i - (centre + 6 * outwards)) / 2) ** 2 < 1] = BONE
    if table:
        voxels_kji[:, 50:52, :] = FLESH
    return replace(volume, voxels_kji=voxels_kji)


def tibia(volume: Volume, centre: int, side: Code) -> tuple[Masks, tuple[Segment, ...]]:
    _, j, i = np.indices(volume.shape_kji)
    inside = ((j - 22) / 4) ** 2 + ((i - centre) / 4) ** 2 < 1
    bone = Segment(1, "Tibia", STRUCTURES["bone"].category, TIBIA, None, side, (1, 2, 3))
    return Masks.of([inside]), (bone,)


@pytest.mark.parametrize("table", [False, True], ids=["in air", "on a table"])
@pytest.mark.parametrize("side", [LEFT, RIGHT], ids=["left", "right"])
def test_a_medial_structure_of_a_single_limb_is_not_on_the_wrong_side(
    tmp_path: Path, side: Code, table: bool
) -> None:
    """A left tibia lies on the right half of a left leg's image: that is where it belongs."""
    volume = limbs(tmp_path, 52 if side is LEFT else 48, table=table)
    masks, segments = tibia(volume, 48 if side is LEFT else 52, side)
    check_sides(masks, segments, volume.affine_lps, volume)


def test_with_both_legs_in_the_image_the_middle_between_them_tells(tmp_path: Path) -> None:
    volume = limbs(tmp_path, 22, 78)
    for centre, side in ((74, LEFT), (26, RIGHT)):
        check_sides(*tibia(volume, centre, side), volume.affine_lps, volume)
        wrong = RIGHT if side is LEFT else LEFT
        with pytest.raises(WrongGeometry):
            check_sides(*tibia(volume, centre, wrong), volume.affine_lps, volume)


def test_a_table_and_arms_do_not_hide_the_body(tmp_path: Path) -> None:
    volume = body(tmp_path)
    voxels_kji = volume.voxels_kji.copy()
    voxels_kji[:, 38, :] = FLESH  # from border to border
    voxels_kji[:, 18:22, 2:5] = FLESH
    volume = replace(volume, voxels_kji=voxels_kji)
    check_sides(at_column(36), segments_of("kidney_left"), volume.affine_lps, volume)
    with pytest.raises(WrongGeometry):
        check_sides(at_column(18), segments_of("kidney_left"), volume.affine_lps, volume)


def test_a_head_is_known_by_its_mirror_image(tmp_path: Path) -> None:
    """A structure that is anywhere in the body, in a head that is no wider than a limb."""
    series = real_series("mr/sag_anon_t1_dicom/dicom.tar.xz", tmp_path)
    volume = read_volume(series)
    mask_kji = np.zeros(volume.shape_kji, bool)
    x = volume.affine_lps[0, 3] + volume.affine_lps[0, 0] * np.arange(volume.shape_kji[0])
    mask_kji[(x > 40) & (x < 55), 100:130, 100:130] = True
    check_sides(Masks.of([mask_kji]), coded(LEFT, kind="lesion"), volume.affine_lps, volume)
    with pytest.raises(WrongGeometry):
        check_sides(Masks.of([mask_kji]), coded(RIGHT, kind="lesion"), volume.affine_lps, volume)


def test_a_real_leg_on_a_table_is_no_whole_body(tmp_path: Path) -> None:
    real_series("ct/sts/STS_025.tar.gz", tmp_path)
    every = [series for study in read_folder(tmp_path).studies for series in study.series]
    volume = read_volume(next(series for series in every if series.modality == "CT"))
    bone_kji = volume.voxels_kji > 400
    for side in (LEFT, RIGHT):
        segment = replace(coded(side)[0], type=TIBIA)
        check_sides(Masks.of([bone_kji]), (segment,), volume.affine_lps, volume)


def test_a_real_trunk_tells_sides(tmp_path: Path) -> None:
    volume = read_volume(real_series("ct/chaos_ct_set3/DICOM_anon.tar.xz", tmp_path))
    for column, side, other in ((400, LEFT, RIGHT), (110, RIGHT, LEFT)):
        mask_kji = np.zeros(volume.shape_kji, bool)
        mask_kji[20:30, 240:280, column - 20 : column + 20] = True
        check_sides(Masks.of([mask_kji]), coded(side, kind="femur_left"), volume.affine_lps, volume)
        with pytest.raises(WrongGeometry):
            check_sides(
                Masks.of([mask_kji]), coded(other, kind="femur_left"), volume.affine_lps, volume
            )
