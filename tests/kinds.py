"""Phantoms of the nine kinds of task: folders to import, and DICOM to predict on."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import Dataset
from pydicom.uid import ComputedRadiographyImageStorage

from dicom.study import Series
from models.learning.markers import paint_markers
from pipelines.exports.volumes import write_nifti
from tests.series import AXIAL, grid_affine, write_series

SIDE = 40
SLICES = 12
SPACING = (3.0, 1.5, 1.5)
PHOTOGRAPH = "1.2.840.10008.5.1.4.1.1.77.1.4"


def blobs(seed: int, classes: int, *, slices: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return grey values, 0 to 255, and labels: a bright disc or cylinder for each class."""
    draw = np.random.default_rng(seed)
    shape = (slices, SIDE, SIDE)
    image, label = draw.normal(40, 8, shape), np.zeros(shape, np.uint8)
    k, j, i = np.indices(shape)
    for number in range(1, classes + 1):
        middle = SIDE * number / (classes + 1)
        inside = (j - SIDE / 2 - draw.uniform(-4, 4)) ** 2 + (i - middle) ** 2 < 36
        inside &= (k > 1) & (k < slices - 2) if slices > 1 else True
        label[inside] = number
        image[inside] = 90 + 70 * number + draw.normal(0, 8, int(inside.sum()))
    return np.clip(image, 0, 255), label


def write_pairs(folder: Path, classes: int, *, slices: int = 1, colour: bool = False) -> Path:
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    affine = grid_affine(AXIAL, (slices, SIDE, SIDE), SPACING)
    for seed in range(6):
        image, label = blobs(seed, classes, slices=slices)
        if slices > 1:
            write_nifti(folder / "images" / f"p{seed}.nii.gz", image.astype(np.int16), affine)
            write_nifti(folder / "labels" / f"p{seed}.nii.gz", label, affine)
            continue
        pixels = image[0].astype(np.uint8)
        shown = np.stack([pixels] * 3, axis=-1) if colour else pixels
        Image.fromarray(shown).save(folder / "images" / f"p{seed}.png")
        Image.fromarray(label[0]).save(folder / "labels" / f"p{seed}.png")
    return folder


def of_class(seed: int, number: int, *, slices: int = 1) -> np.ndarray:
    """Return an image that its class is seen on: bright above, below, or on a side."""
    draw = np.random.default_rng(100 + seed)
    shape = (slices, SIDE, SIDE)
    _, j, i = np.indices(shape)
    ramp = (j, SIDE - j, i)[number]
    return np.clip(30 + 200 * ramp / SIDE + draw.normal(0, 8, shape), 0, 255)


def write_folders(folder: Path, names: list[str]) -> Path:
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for seed in range(4):
            pixels = of_class(seed, number)[0].astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{name.lower()}{seed}.png")
    return folder


def write_table(folder: Path, names: list[str]) -> Path:
    """Write volumes and the table that says their classes, a quarter of them each split."""
    (folder / "images").mkdir(parents=True)
    affine = grid_affine(AXIAL, (SLICES, SIDE, SIDE), SPACING)
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "class", "patient", "split", "scanner"])
        for number, name in enumerate(names):
            for seed in range(4):
                image = of_class(seed, number, slices=SLICES).astype(np.int16)
                write_nifti(folder / "images" / f"v{number}{seed}.nii.gz", image, affine)
                split = ("train", "train", "validation", "test")[seed]
                table.writerow([f"v{number}{seed}", name, f"p{number}{seed}", split, "A"])
    return folder


def lettered(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a picture with one L, and its box: class, low edges (k, j, i), high edges."""
    draw = np.random.default_rng(200 + seed)
    image = draw.normal(60, 6, (1, 1, SIDE, SIDE)).astype(np.float32)
    while True:
        painted, rows = paint_markers(
            image.copy(), draw, letters={"L": 1}, count=(1, 1), height=(12, 14), others=0.0
        )
        if len(rows) and painted.max() > 100:  # one that is bright
            return np.clip(painted[0], 0, 255), rows


def write_boxes(folder: Path) -> Path:
    (folder / "images").mkdir(parents=True)
    with (folder / "boxes.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "class", "x0", "y0", "x1", "y1"])
        for seed in range(8):
            image, rows = lettered(seed)
            Image.fromarray(image[0].astype(np.uint8)).save(folder / "images" / f"p{seed}.png")
            for _, _, j0, i0, _, j1, i1 in rows.astype(int).tolist():
                table.writerow([f"p{seed}", "L marker", i0, j0, i1 - 1, j1 - 1])
    return folder


# --- DICOM ----------------------------------------------------------------------------------------


def write_volume(folder: Path, voxels: np.ndarray, modality: str, name: str = "a") -> Series:
    def edit(k: int, ds: Dataset) -> None:
        ds.stored = voxels[k].astype(np.int32)

    return write_series(
        folder,
        modality=modality,
        shape_kji=voxels.shape,
        spacing_kji=SPACING,
        name=name,
        edit=edit,
    )


def write_radiograph(folder: Path, pixels: np.ndarray) -> Series:
    def edit(_: int, ds: Dataset) -> None:
        _without_place(ds)
        ds.SOPClassUID, ds.Modality = ComputedRadiographyImageStorage, "CR"
        ds.BodyPartExamined, ds.ViewPosition = "CHEST", ""
        ds.stored = pixels.astype(np.int32)

    shape = (1, *pixels.shape)
    return _as(write_series(folder, modality="CT", shape_kji=shape, edit=edit), "CR")


def write_photograph(folder: Path, pixels: np.ndarray) -> Series:
    def edit(_: int, ds: Dataset) -> None:
        _without_place(ds)
        ds.SOPClassUID, ds.Modality = PHOTOGRAPH, "XC"
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
        ds.PixelData = pixels.astype(np.uint8).tobytes()
        ds["PixelData"].VR = "OB"
        ds.stored = None

    shape = (1, *pixels.shape[:2])
    return _as(write_series(folder, modality="CT", shape_kji=shape, edit=edit), "XC")


def _without_place(ds: Dataset) -> None:
    for keyword in (
        "FrameOfReferenceUID",
        "PositionReferenceIndicator",
        "ImageOrientationPatient",
        "ImagePositionPatient",
        "PixelSpacing",
        "SliceThickness",
        "SpacingBetweenSlices",
        "RescaleSlope",
        "RescaleIntercept",
        "KVP",
        "AcquisitionNumber",
    ):
        if keyword in ds:
            del ds[keyword]


def _as(series: Series, modality: str) -> Series:
    return Series(series.series_uid, modality, series.instances)


Writer = Callable[[Path], Series]
