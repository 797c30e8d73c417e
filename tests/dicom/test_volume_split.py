"""Series of several volumes: which volume a slice belongs to, and what the volumes are called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicom import errors
from dicom.study import Series
from dicom.volume import read_grid, read_grids, read_volume, read_volumes
from tests.enhanced import Frame, write_enhanced
from tests.series import AXIAL, ds_text, grid_affine, picture_on, write_series

SHAPE = (5, 8, 9)
SPACING = (3.0, 1.5, 1.25)
PICTURE = picture_on(grid_affine(AXIAL, SHAPE, SPACING), SHAPE)


def several(folder: Path, count: int, tell: Callable[[int, int, Dataset], None]) -> Series:
    """Write `count` volumes as one classic MR series; volume v has values raised by 1000 v.

    `tell` gets volume, slice and dataset, and writes down what tells the volumes apart.
    """
    written = []
    for volume in range(count):

        def edit(k: int, ds: Dataset, volume: int = volume) -> None:
            ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3.3", "1.2.3.4"
            ds.FrameOfReferenceUID = "1.2.3.5"
            ds.stored = ds.stored + 1000 * volume
            ds.InstanceNumber = 1 + k * count + volume
            tell(volume, k, ds)

        written.append(
            write_series(
                folder / str(volume),
                modality="MR",
                shape_kji=SHAPE,
                spacing_kji=SPACING,
                name=f"v{volume}",
                edit=edit,
            )
        )
    mixed = [
        instance for row in zip(*(s.instances for s in written), strict=True) for instance in row
    ]
    return Series("1.2.3.4", "MR", tuple(mixed))


def echoes(volume: int, k: int, ds: Dataset) -> None:
    ds.EchoTime, ds.EchoNumbers = ["4.6", "9.2", "13.8"][volume], volume + 1


def echo_numbers(volume: int, k: int, ds: Dataset) -> None:
    ds.EchoNumbers = volume + 1


def b_values(volume: int, k: int, ds: Dataset) -> None:
    ds.DiffusionBValue = [0.0, 500.0, 1000.0][volume]


def directions(volume: int, k: int, ds: Dataset) -> None:
    ds.DiffusionBValue = 0.0 if volume == 0 else 1000.0
    if volume:
        ds.DiffusionGradientOrientation = [[], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]][volume]


def components(volume: int, k: int, ds: Dataset) -> None:
    ds.ImageType = ["ORIGINAL", "PRIMARY", ["M", "P", "R", "I"][volume]]


def dixon(volume: int, k: int, ds: Dataset) -> None:
    ds.ImageType = ["DERIVED", "PRIMARY", "DIXON", ["WATER", "FAT"][volume]]


def positions_in_time(volume: int, k: int, ds: Dataset) -> None:
    ds.TemporalPositionIdentifier = volume + 1


def trigger_times(volume: int, k: int, ds: Dataset) -> None:
    ds.TriggerTime = ds_text(100.0 * volume + 3 * k)  # each slice its own


def acquisition_times(volume: int, k: int, ds: Dataset) -> None:
    ds.AcquisitionTime = f"1200{10 * volume + k:02d}.5"


def content_times(volume: int, k: int, ds: Dataset) -> None:
    ds.ContentTime = f"1300{10 * volume + k:02d}"


def phases(volume: int, k: int, ds: Dataset) -> None:
    ds.NominalPercentageOfCardiacPhase = [35.0, 75.0][volume]


def inversions(volume: int, k: int, ds: Dataset) -> None:
    ds.InversionTime = ["100", "900"][volume]


def echoes_of_components(volume: int, k: int, ds: Dataset) -> None:
    ds.EchoTime = ["4.6", "9.2"][volume // 2]
    ds.ImageType = ["ORIGINAL", "PRIMARY", "MP"[volume % 2], "ND"]


SPLITS: dict[str, tuple[int, Callable[[int, int, Dataset], None], list[str]]] = {
    "echo time": (3, echoes, ["TE 4.6 ms", "TE 9.2 ms", "TE 13.8 ms"]),
    "echo number": (2, echo_numbers, ["echo 1", "echo 2"]),
    "b-value": (3, b_values, ["b 0", "b 500", "b 1000"]),
    "cardiac phase": (2, phases, ["phase 35 %", "phase 75 %"]),
    "inversion": (2, inversions, ["TI 100 ms", "TI 900 ms"]),
    "temporal position": (2, positions_in_time, ["time 1", "time 2"]),
    "trigger time": (3, trigger_times, ["time 1", "time 2", "time 3"]),
    "acquisition time": (2, acquisition_times, ["time 1", "time 2"]),
    "content time": (2, content_times, ["time 1", "time 2"]),
    "echo and component": (
        4,
        echoes_of_components,
        ["TE 4.6 ms, magnitude", "TE 4.6 ms, phase", "TE 9.2 ms, magnitude", "TE 9.2 ms, phase"],
    ),
}


@pytest.mark.parametrize(("count", "tell", "names"), SPLITS.values(), ids=SPLITS.keys())
def test_a_series_is_split_by_what_varies(
    tmp_path: Path, count: int, tell: Callable, names: list[str]
) -> None:
    series = several(tmp_path, count, tell)
    volumes = read_volumes(series)
    assert [named.name for named in volumes] == names
    assert [named.name for named in read_grids(series)] == names
    for number, named in enumerate(volumes):
        np.testing.assert_array_equal(named.volume.voxels_kji, PICTURE + 1000 * number)
        alone = read_volume(series, name=named.name)
        np.testing.assert_array_equal(alone.voxels_kji, named.volume.voxels_kji)
        assert read_grid(series, name=named.name).sources == named.volume.sources


@pytest.mark.parametrize(
    ("tell", "raised"),
    [
        (components, {"magnitude": 0, "phase": 1000, "real": 2000, "imaginary": 3000}),
        (dixon, {"water": 0, "fat": 1000}),
        (directions, {"b 0": 0, "b 1000, direction 1": 1000, "b 1000, direction 2": 2000}),
    ],
    ids=["components", "dixon", "directions"],
)
def test_names_belong_to_their_values(
    tmp_path: Path, tell: Callable, raised: dict[str, int]
) -> None:
    volumes = read_volumes(several(tmp_path, len(raised), tell))
    assert {named.name for named in volumes} == set(raised)
    for named in volumes:
        np.testing.assert_array_equal(named.volume.voxels_kji, PICTURE + raised[named.name])


def test_one_of_several_has_to_be_named(tmp_path: Path) -> None:
    series = several(tmp_path, 2, echoes)
    with pytest.raises(errors.SeveralVolumes, match=r"TE 4\.6 ms; TE 9\.2 ms"):
        read_volume(series)
    with pytest.raises(errors.SeveralVolumes, match="none has the name"):
        read_grid(series, name="TE 5 ms")


def test_a_series_of_one_volume_has_one_without_a_name(tmp_path: Path) -> None:
    def unlike(k: int, ds: Dataset) -> None:  # what varies with the slice splits nothing
        ds.AcquisitionTime, ds.AcquisitionNumber, ds.EchoTime = f"1200{k:02d}", k, str(k % 2 + 1)

    (named,) = read_volumes(write_series(tmp_path, modality="MR", edit=unlike))
    assert (named.name, named.varies) == ("", ())
    assert named.volume.shape_kji[0] == 12


def test_what_varies_with_the_slice_alone_parts_no_volume(tmp_path: Path) -> None:
    def interleaved(volume: int, k: int, ds: Dataset) -> None:
        ds.FlipAngle = ["10", "20"][k % 2]
        positions_in_time(volume, k, ds)

    volumes = read_volumes(several(tmp_path, 2, interleaved))
    assert [named.name for named in volumes] == ["time 1", "time 2"]
    assert volumes[1].volume.shape_kji == SHAPE


def test_a_volume_that_lacks_a_slice_is_said_to_lack_it(tmp_path: Path) -> None:
    series = several(tmp_path, 2, echoes)
    short = Series(series.series_uid, "MR", series.instances[:6] + series.instances[7:])
    with pytest.raises(errors.MissingSlice, match=r"^1 slices"):
        read_volumes(short)


def test_what_nothing_tells_apart_is_doubled(tmp_path: Path) -> None:
    series = several(tmp_path, 2, lambda volume, k, ds: None)
    with pytest.raises(errors.DoubledSlice, match=r"^5 of 10"):
        read_volumes(series)


def test_enhanced_frames_are_split_the_same_way(tmp_path: Path) -> None:
    frames = [
        Frame(
            k,
            raised=1000 * volume,
            groups={
                "MREchoSequence": {"EffectiveEchoTime": [4.6, 9.2][volume % 2]},
                "FrameContentSequence": {"TemporalPositionIndex": volume // 2 + 1},
            },
        )
        for k in range(SHAPE[0])
        for volume in (3, 0, 2, 1)
    ]
    series = write_enhanced(
        tmp_path, modality="MR", shape_kji=SHAPE, spacing_kji=SPACING, frames=frames
    )
    volumes = read_volumes(series)
    assert [named.name for named in volumes] == [
        "TE 4.6 ms, time 1",
        "TE 4.6 ms, time 2",
        "TE 9.2 ms, time 1",
        "TE 9.2 ms, time 2",
    ]
    for named, raised in zip(volumes, (0, 2000, 1000, 3000), strict=True):
        np.testing.assert_array_equal(named.volume.voxels_kji, PICTURE + raised)
        for k, source in enumerate(named.volume.sources):
            frame = frames[(source.frame_number or 0) - 1]
            assert (frame.k, frame.raised) == (k, raised)


def test_enhanced_diffusion_and_components(tmp_path: Path) -> None:
    frames = [
        Frame(
            k,
            raised=1000 * volume,
            groups={
                "MRDiffusionSequence": {"DiffusionBValue": [0.0, 800.0][volume // 2]},
                "MRImageFrameTypeSequence": {
                    "FrameType": ["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"],
                    "ComplexImageComponent": ["MAGNITUDE", "PHASE"][volume % 2],
                },
            },
        )
        for volume in range(4)
        for k in range(SHAPE[0])
    ]
    series = write_enhanced(
        tmp_path, modality="MR", shape_kji=SHAPE, spacing_kji=SPACING, frames=frames
    )
    raised = {named.name: named.volume.voxels_kji[0, 0, 0] for named in read_volumes(series)}
    first = PICTURE[0, 0, 0]
    assert raised == {
        "b 0, magnitude": first,
        "b 0, phase": first + 1000,
        "b 800, magnitude": first + 2000,
        "b 800, phase": first + 3000,
    }
