"""Series -> volume: 300 CT slices, plain, JPEG-LS and JPEG 2000, beside readers and the codec.

The slices have the noise of a CT, and headers of 296 elements and 20 KB as a scanner writes them.
All readers run in turns on the same files, from the page cache; the fastest of several rounds
counts. "The codec on all cores" decodes the same frames, already in memory, and keeps nothing: no
reader that uses that codec can be faster.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from os import sched_getaffinity
from pathlib import Path

import highdicom
import imagecodecs
import numpy as np
import SimpleITK
from pydicom import Dataset, config, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import generate_frames
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
)

from benchmarks.table import Row, machine, publish
from dicom.folder import read_folder
from dicom.study import Series
from dicom.uids import derived_uid
from dicom.volume import read_volume

SLICES, SIZE, ELEMENTS, HEADER_BYTES = 300, 512, 296, 20_000
ROUNDS = 2
PYDICOM, READERS, CODEC = 3.0, 6.0, 0.9
SYNTAXES = {
    "plain": ExplicitVRLittleEndian,
    "JPEG-LS": JPEGLSLossless,
    "JPEG 2000": JPEG2000Lossless,
}
DECODERS: dict[UID, Callable[[bytes], object]] = {
    JPEGLSLossless: imagecodecs.jpegls_decode,
    JPEG2000Lossless: imagecodecs.jpeg2k_decode,
}


@dataclass(frozen=True, slots=True)
class Reader:
    """Something that makes a volume of a folder, and how much faster than it we want to be."""

    name: str
    read: Callable[[Path], object]
    target: float


def main() -> None:
    """Measure all of it."""
    about = machine()
    config.settings.reading_validation_mode = config.IGNORE
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="radloop-bench-") as name:
        for what, syntax in SYNTAXES.items():
            folder = Path(name) / what.replace(" ", "-")
            write_series(folder, syntax)
            _check_same(folder, Path(name) / "plain")
            rows.extend(_compare(what, folder, _readers(syntax, folder)))
    publish("volume", rows, about)


def _readers(syntax: UID, folder: Path) -> list[Reader]:
    """Return the peers: of plain files other readers, of compressed ones the codec itself."""
    if syntax in DECODERS:
        return [Reader("the codec on all cores", codec_on_all_cores(syntax, folder), CODEC)]
    return [
        Reader("pydicom loop", pydicom_loop, PYDICOM),
        Reader("SimpleITK ImageSeriesReader", simpleitk_reader, READERS),
        Reader("highdicom volume", highdicom_reader, READERS),
    ]


def _compare(what: str, folder: Path, peers: Sequence[Reader]) -> list[Row]:
    mine = _seconds(our_reader, folder)
    times: dict[str, list[float]] = {peer.name: [] for peer in peers}
    for _ in range(ROUNDS):
        for peer in peers:
            times[peer.name].append(_seconds(peer.read, folder))
            mine = min(mine, _seconds(our_reader, folder))
    rows = []
    for peer in peers:
        theirs = min(times[peer.name])
        ratio = theirs / mine
        rows.append(
            Row(
                f"{SLICES} slices {SIZE}x{SIZE}, {what}",
                "s",
                round(mine, 3),
                peer.name,
                round(theirs, 3),
                round(ratio, 2),
                f">= {peer.target:g}",
                ratio >= peer.target,
            )
        )
    return rows


def _seconds(read: Callable[[Path], object], folder: Path) -> float:
    began = time.perf_counter()
    read(folder)
    return time.perf_counter() - began


# --- readers ------------------------------------------------------------------------------------


def our_reader(folder: Path) -> np.ndarray:
    """Read a series as the node has it: its files known, their order not.

    Sorting by geometry is counted, as it is for all readers; SimpleITK does it with the look at
    the folder that we have behind us here.
    """
    return read_volume(_series_of(folder)).voxels_kji


def pydicom_loop(folder: Path) -> np.ndarray:
    """Read, sort, rescale and stack: what people write by hand."""
    slices = [dcmread(path) for path in folder.iterdir()]
    slices.sort(key=lambda ds: float(ds.ImagePositionPatient[2]))
    return np.stack(
        [
            (ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept)).astype(np.int16)
            for ds in slices
        ]
    )


def simpleitk_reader(folder: Path) -> SimpleITK.Image:
    """Read with SimpleITK, GDCM inside; the image itself, which spares it a copy."""
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


def highdicom_reader(folder: Path) -> np.ndarray:
    """Read with highdicom, which checks the geometry as we do."""
    slices = [dcmread(path) for path in folder.iterdir()]
    return np.asarray(highdicom.get_volume_from_series(slices).array)


def codec_on_all_cores(syntax: UID, folder: Path) -> Callable[[Path], object]:
    """Return a function that decodes all frames with as many threads as there are cores."""
    frames = [next(generate_frames(dcmread(path).PixelData)) for path in folder.iterdir()]
    decode = DECODERS[syntax]

    def run(_: Path) -> None:
        with ThreadPoolExecutor(len(sched_getaffinity(0))) as pool:
            for _ in pool.map(decode, frames):
                pass

    return run


_FOUND: dict[Path, Series] = {}


def _series_of(folder: Path) -> Series:
    if folder not in _FOUND:
        _FOUND[folder] = read_folder(folder).studies[0].series[0]
    return _FOUND[folder]


def _check_same(folder: Path, plain: Path) -> None:
    """Stop when the voxels are not those of the plain files: then the times mean nothing."""
    expected = SimpleITK.GetArrayFromImage(simpleitk_reader(plain))
    if not np.array_equal(our_reader(folder), expected):
        raise SystemExit(f"the readers disagree on {folder.name}")


# --- the series ---------------------------------------------------------------------------------


def write_series(folder: Path, syntax: UID, *, visit: int = 0, slices: int = SLICES) -> None:
    """Write the slices of one CT series; another visit is another study."""
    folder.mkdir()
    fill = _scanner_elements()
    for k in range(slices):
        ds = _slice(k, fill, visit)
        ds.PixelData = _picture(k).tobytes()
        ds["PixelData"].VR = "OW"
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        if syntax != ExplicitVRLittleEndian:
            ds.compress(syntax, generate_instance_uid=False)
        dcmwrite(folder / f"{(k * 7) % slices:04d}.dcm", ds, enforce_file_format=True)
    written = dcmread(folder / "0000.dcm", stop_before_pixels=True)
    size = (folder / "0000.dcm").stat().st_size
    assert len(written) >= ELEMENTS - 1, len(written)
    assert syntax != ExplicitVRLittleEndian or size - 2 * SIZE * SIZE >= HEADER_BYTES, size


@cache
def _picture(k: int) -> np.ndarray:
    """Return a body with lungs, spine and quantum noise, in stored values of 12 bits."""
    rng = np.random.default_rng(k)
    y, x = np.mgrid[:SIZE, :SIZE]
    body = ((x - 256) / 210) ** 2 + ((y - 256) / 150) ** 2 < 1
    lungs = (((abs(x - 256) - 95) / 70) ** 2 + ((y - 235) / 95) ** 2 < 1) & (120 < k < 280)
    spine = (x - 256) ** 2 + (y - 340) ** 2 < 26**2
    values = np.full((SIZE, SIZE), -1000.0)
    values[body] = 40 + 25 * np.sin(x[body] / 23 + k / 9) * np.cos(y[body] / 31)
    values[lungs] = -850
    values[spine] = 450 + 200 * np.sin(k / 3)
    values += rng.normal(0, 1, values.shape) * np.where(body, 18, 6)
    return np.clip(values + 1024, 0, 4095).astype(np.uint16)


def _slice(k: int, fill: Dataset, visit: int) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = derived_uid("instance", "volume", str(k), str(visit))
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.StudyInstanceUID = derived_uid("study", "volume", str(visit))
    ds.SeriesInstanceUID = derived_uid("series", "volume", str(visit))
    ds.FrameOfReferenceUID = derived_uid("frame", "volume", str(visit))
    ds.Modality, ds.PatientName, ds.PatientID = "CT", "Bench^Mark", "B-1"
    ds.StudyDate, ds.StudyTime, ds.StudyID = "20260102", "030405", "1"
    ds.SeriesNumber, ds.InstanceNumber = 1, k + 1
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.ImagePositionPatient = ["-180.0", "-180.0", f"{-300 + 1.25 * k:.2f}"]
    ds.PixelSpacing, ds.SliceThickness = ["0.703125", "0.703125"], "1.25"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows = ds.Columns = SIZE
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "-1024", "1", "HU"
    ds.WindowCenter, ds.WindowWidth, ds.KVP = "40", "400", "120"
    for element in fill:
        if element.tag not in ds:
            ds.add(element)
    return ds


def _scanner_elements() -> Dataset:
    """Return what a scanner adds: acquisition parameters, sequences, private elements."""
    fill = Dataset()
    for name in ("Manufacturer", "ManufacturerModelName", "StationName", "ProtocolName"):
        setattr(fill, name, f"scanner {name}")
    for name in ("ReferencedImageSequence", "SourceImageSequence", "ProcedureCodeSequence"):
        items = []
        for number in range(3):
            item = Dataset()
            item.ReferencedSOPClassUID = CTImageStorage
            item.ReferencedSOPInstanceUID = derived_uid("reference", name, str(number))
            items.append(item)
        setattr(fill, name, items)
    number = 0
    while len(fill) < ELEMENTS - 32:
        group = 0x0019 + 2 * (number // 60)
        if number % 60 == 0:
            fill.add_new((group, 0x0010), "LO", "BENCH SCANNER 01")
        vr, value = (
            ("DS", f"{number * 1.25:.4f}"),
            ("LO", "a value of a scanner's own"),
            ("US", number),
            ("UN", bytes(64 + number % 64 // 2 * 2)),  # PS3.5 7.1.1: lengths are even
            ("FD", number / 7),
        )[number % 5]
        fill.add_new((group, 0x1000 + number % 60), vr, value)
        number += 1
    fill.add_new((0x0029, 0x0010), "LO", "BENCH SCANNER 02")
    fill.add_new((0x0029, 0x1010), "OB", bytes(HEADER_BYTES // 2))
    return fill


if __name__ == "__main__":
    main()
