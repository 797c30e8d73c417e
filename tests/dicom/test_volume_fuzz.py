"""Damaged and hostile image headers end in values or in coded errors, within bounded memory."""

from __future__ import annotations

import io
import tracemalloc
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import config, dcmread
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

from dicom.errors import RadloopError
from dicom.study import Instance, Series
from dicom.volume import (
    Mending,
    describe_series,
    read_grids,
    read_pictures,
    read_volume,
    read_volumes,
)
from dicom.volume.report import report_series
from tests.dicom.test_volume_split import echoes, several
from tests.enhanced import Frame, write_enhanced
from tests.examples import examples
from tests.series import write_series

LIMIT_BYTES = 300 << 20
"""`dicom.frames` makes arrays of up to 256 MiB without asking the files."""

FUZZ = examples(30)

VALUES = [
    *("", "0", "-1", "1", "1e308", "-1e308", "nan", "inf", "1e-320", "abc", "65535"),
    *("2147483647", "-2147483648", r"0.1\0.1", r"1\2", r"1\0\0\0\1\0", r"1\1\1\1\1\1", "\\\\\\"),
]
ODD = st.one_of(
    st.sampled_from(VALUES),
    st.text(st.characters(codec="ascii", min_codepoint=32), max_size=16),
)
TEXTS = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "RescaleSlope",
    "RescaleIntercept",
    "NumberOfFrames",
    "EchoTime",
    "TemporalPositionIdentifier",
    "AcquisitionTime",
    "TriggerTime",
    "ImageType",
    "PhotometricInterpretation",
    "SOPClassUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "Modality",
    "SeriesDescription",
    "PatientWeight",
    "Units",
)
SHORTS = (
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PlanarConfiguration",
)


def look_at(series: Series) -> None:
    """Read a series in every way; anything but a value or a coded error fails."""
    everything = frozenset(Mending)
    ways = (
        read_volume,
        lambda s: read_volume(s, mend=everything),
        lambda s: read_volumes(s, mend=everything),
        read_grids,
        read_pictures,
        describe_series,
    )
    tracemalloc.start()
    try:
        for read in ways:
            try:
                read(series)
            except RadloopError as error:
                assert error.code
                assert "Person" not in error.message
        report = report_series(series)
        assert report.error is not None or report.volumes or report.pictures
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < LIMIT_BYTES


def with_bytes(series: Series, number: int, content: bytes, folder: Path) -> Series:
    """Return the series with other bytes in one of its files."""
    path = folder / "changed.dcm"
    path.write_bytes(content)
    old = series.instances[number]
    new = Instance(old.sop_instance_uid, old.sop_class_uid, path)
    instances = (*series.instances[:number], new, *series.instances[number + 1 :])
    return Series(series.series_uid, series.modality, instances)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Series]:
    folder = tmp_path_factory.mktemp("fuzz")
    frames = [
        Frame(k, groups={"MREchoSequence": {"EffectiveEchoTime": echo}})
        for k in range(3)
        for echo in (4.6, 9.2)
    ]
    return {
        "classic": write_series(folder / "a", shape_kji=(4, 5, 6)),
        "PET": write_series(folder / "b", shape_kji=(4, 5, 6), modality="PT"),
        "RLE": write_series(folder / "c", shape_kji=(3, 8, 8), transfer_syntax=RLELossless),
        "echoes": several(folder / "d", 2, echoes),
        "enhanced": write_enhanced(folder / "e", modality="MR", shape_kji=(3, 5, 6), frames=frames),
    }


KINDS = st.sampled_from(["classic", "PET", "RLE", "echoes", "enhanced"])


@FUZZ
@given(
    kind=KINDS,
    attributes=st.dictionaries(st.sampled_from(TEXTS), ODD, min_size=1, max_size=3),
    shorts=st.dictionaries(st.sampled_from(SHORTS), st.integers(0, 65535), max_size=2),
    every=st.booleans(),
)
def test_hostile_values(
    made: dict[str, Series],
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
    attributes: dict[str, str],
    shorts: dict[str, int],
    every: bool,
) -> None:
    series, folder = made[kind], tmp_path_factory.mktemp("hostile")
    for number in range(len(series.instances) if every else 1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds = dcmread(series.instances[number].path)
            for target in _places(ds):
                _set(target, attributes, shorts)
            content = _bytes_of(ds)
        (folder / str(number)).mkdir()
        series = with_bytes(series, number, content, folder / str(number))
    look_at(series)


def _places(ds: Dataset) -> list[Dataset]:
    """Return where attributes are set: the image, or the groups of an enhanced one's frame."""
    if "PerFrameFunctionalGroupsSequence" not in ds:
        return [ds]
    frame = ds.PerFrameFunctionalGroupsSequence[0]
    return [ds, *(element.value[0] for element in frame if element.VR == "SQ" and element.value)]


def _set(ds: Dataset, attributes: dict[str, str], shorts: dict[str, int]) -> None:
    before = config.settings.reading_validation_mode, config.settings.writing_validation_mode
    config.settings.reading_validation_mode = config.IGNORE
    config.settings.writing_validation_mode = config.IGNORE
    try:
        for keyword, text in attributes.items():
            ds.add_new(keyword, "LO", text)  # any text fits in the bytes of a LO
        for keyword, number in shorts.items():
            ds.add_new(keyword, "US", number)
    finally:
        config.settings.reading_validation_mode, config.settings.writing_validation_mode = before


def _bytes_of(ds: Dataset) -> bytes:
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@FUZZ
@given(
    kind=KINDS,
    changes=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=6)),
        min_size=1,
        max_size=6,
    ),
    kept=st.one_of(st.just(1.0), st.floats(0, 1)),
)
def test_damaged_bytes(
    made: dict[str, Series],
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
    changes: list[tuple[float, bytes]],
    kept: float,
) -> None:
    series = made[kind]
    content = bytearray(series.instances[0].path.read_bytes())
    for share, written in changes:
        at = 132 + int(share * (len(content) - 140))
        content[at : at + len(written)] = written
    cut = bytes(content[: int(kept * len(content))])
    look_at(with_bytes(series, 0, cut, tmp_path_factory.mktemp("damaged")))


@pytest.mark.parametrize("frames", [2**31 - 1, 10**6, 70_000])
@pytest.mark.parametrize("kind", ["classic", "RLE", "enhanced"])
def test_a_claim_of_endless_frames_takes_no_memory(
    made: dict[str, Series], tmp_path: Path, kind: str, frames: int
) -> None:
    ds = dcmread(made[kind].instances[0].path)
    ds.NumberOfFrames, ds.Rows, ds.Columns = frames, 65_535, 65_535
    look_at(with_bytes(made[kind], 0, _bytes_of(ds), tmp_path))
