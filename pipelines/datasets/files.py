"""Images and labels in files that are not DICOM: pictures and NIfTI."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from dicom.errors import InvalidDataset, InvalidSettings, LabelsDoNotMatch
from models.learning.cases import COLOUR
from models.nifti import is_nifti, read_nifti
from pipelines.datasets import Found

PICTURES: Final = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
GREY: Final = ("grey",)
_SAME_PLACE: Final = 1e-3  # of a voxel's size, and mm


def is_image(path: Path) -> bool:
    """Return whether the name is that of an image which is read here."""
    return is_nifti(path) or path.suffix.lower() in PICTURES


def stem(path: Path) -> str:
    """Return a file's name without its ending, ``.nii.gz`` being one."""
    return re.sub(r"(\.nii)?\.[A-Za-z]+$", "", path.name)


def patient_of(name: str, pattern: str) -> str:
    """Return whose a case is: the first group of the pattern in its name, or the name itself.

    Raises
    ------
    InvalidSettings
        When the pattern is none, or has no group.
    InvalidDataset
        When it does not fit the name.
    """
    if not pattern:
        return name
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InvalidSettings(f"the pattern for patients is none: {error}") from None
    if compiled.groups < 1:
        raise InvalidSettings("the pattern for patients has no group")
    found = compiled.search(name)
    if found is None or not found.group(1):
        raise InvalidDataset(f"the pattern for patients does not fit {name}")
    return found.group(1)


def channels_of(path: Path) -> tuple[str, ...]:
    """Return what an image's channels are, from its header alone."""
    if is_nifti(path):
        return GREY
    with _opened(path) as picture:
        return COLOUR if picture.mode in ("RGB", "RGBA", "P", "CMYK", "YCbCr") else GREY


def read_pair(image: Path, label: Path | None, *, patient: str, channels: tuple[str, ...]) -> Found:
    """Read an image and its labels.

    Raises
    ------
    InvalidDataset
        When a file cannot be read.
    LabelsDoNotMatch
        When they lie on two grids.
    """
    return read_case((image,), label, patient=patient, channels=channels, name=stem(image))


def read_case(
    images: tuple[Path, ...],
    label: Path | None,
    *,
    patient: str,
    channels: tuple[str, ...],
    name: str,
) -> Found:
    """Read a case whose channels are files, or one picture in colour."""
    if not is_nifti(images[0]):
        return _picture(images[0], label, patient, channels, name)
    volumes = [read_nifti(path) for path in images]
    first, affine = volumes[0]
    for voxels, other in volumes[1:]:
        _refuse_other_grid(name, first.shape, affine, voxels.shape, other)
    labels = None
    if label is not None:
        labels, other = read_nifti(label)
        _refuse_other_grid(name, first.shape, affine, labels.shape, other)
    k, j, i = (float(np.linalg.norm(affine[:3, axis])) for axis in range(3))
    return Found(
        id=_id(name),
        patient=patient,
        image=np.stack([voxels for voxels, _ in volumes]),
        label=labels,
        affine_lps=affine,
        spacing_kji=(k, j, i),
    )


def label_values(label: Path) -> set[int]:
    """Return the values that a label map holds, as classes.

    Raises
    ------
    InvalidDataset
        When the file cannot be read.
    LabelsDoNotMatch
        When they are no whole numbers.
    """
    values = np.unique(read_nifti(label)[0] if is_nifti(label) else _labels_of(label))
    if not np.array_equal(values, np.round(values)):
        raise LabelsDoNotMatch(f"labels {stem(label)}: they are no whole numbers")
    return {int(value) for value in values}


def _labels_of(label: Path) -> npt.NDArray[Any]:
    with _opened(label) as picture:
        return _as_classes(np.asarray(picture if picture.mode == "P" else _grey(picture)))


def _picture(
    image: Path, label: Path | None, patient: str, channels: tuple[str, ...], name: str
) -> Found:
    with _opened(image) as picture:
        pixels = np.asarray(picture.convert("RGB") if channels == COLOUR else _grey(picture))
    planes = np.moveaxis(pixels, -1, 0) if channels == COLOUR else pixels[None]
    labels = None if label is None else _labels_of(label)[None]
    return Found(id=_id(name), patient=patient, image=planes[:, None], label=labels)


def _grey(picture: Image.Image) -> Image.Image:
    """Return a picture of one channel; 16 bits stay 16 bits."""
    return picture if picture.mode in ("L", "I", "I;16", "F") else picture.convert("L")


def _as_classes(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a mask's values as classes: black and white are 0 and 1, as programs draw masks."""
    found = np.unique(values)
    if found.size <= 2 and found[0] == 0 and found[-1] in (255, 65535):
        return np.asarray(values != 0).astype(np.uint8)
    return values


def _refuse_other_grid(
    name: str,
    shape: tuple[int, ...],
    affine: npt.NDArray[np.float64],
    other_shape: tuple[int, ...],
    other: npt.NDArray[np.float64],
) -> None:
    if shape != other_shape:
        raise LabelsDoNotMatch(f"case {name}: files of {shape} and {other_shape} voxels")
    if not np.allclose(affine, other, atol=_SAME_PLACE):
        raise LabelsDoNotMatch(f"case {name}: its files lie at different places")


def _opened(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise InvalidDataset(f"{path.name} cannot be read as an image") from error


def _id(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "-", name)[:64]
