"""From what a person hands over (a folder, a file, arrays) to the images that a bundle needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from dicom.errors import InputError, InvalidRequest, MissingInput, NoGeometry, UnsuitableSeries
from dicom.folder import read_folder
from dicom.study import Series, Study
from dicom.volume import Picture, Volume, read_pictures, read_volume
from models.bundle import Bundle
from models.choice import candidates, choose_series
from models.nifti import is_nifti, read_nifti
from models.prediction import Answer, Floats, Image, Instances, Labels, Masks

Array: TypeAlias = NDArray[np.generic]
One: TypeAlias = str | Path | Image | Array | tuple[Array, Floats]
Source: TypeAlias = One | Mapping[str, One]
"""A DICOM folder or file, a NIfTI file, an Image, an array, an array with its affine to LPS; or one
of these for each input by name, for a model that needs several."""


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """The images for one prediction.

    Attributes
    ----------
    name : str
        Running name; no patient's, no file's from DICOM.
    images : dict of str to Image
        By the names of the bundle's inputs.
    volume : Volume or None
        Of the first input, where it came from DICOM: a result refers to it.
    """

    name: str
    images: dict[str, Image]
    volume: Volume | None

    def on_source(self, answer: Answer) -> Answer:
        """Return an answer on the archive's slices, which lie aslant where a tilt was mended."""
        if self.volume is None or self.volume.shear is None:
            return answer
        to_source = self.volume.to_source
        match answer:
            case Labels(labels_kji=labels_kji):
                return Labels(to_source(labels_kji))
            case Masks(numbers=numbers, masks_nkji=masks_nkji):
                return Masks(numbers, np.stack([to_source(mask_kji) for mask_kji in masks_nkji]))
            case Instances(instances_kji=instances_kji, numbers=numbers):
                return Instances(to_source(instances_kji), numbers)
            case _:
                return answer


@dataclass(frozen=True, slots=True)
class Unfit:
    """A series that the bundle is not for, or that is no volume; `error` says why."""

    name: str
    error: InputError


def cases(bundle: Bundle, source: Source) -> Iterator[Case | Unfit]:
    """Yield what a source holds for a bundle: of a DICOM folder, each series that fits.

    Raises
    ------
    NotDicom, UnreadablePixels
        When a file or folder is not what it should be.
    MissingInput, InvalidRequest
        When there are too few images for the bundle, or names that it does not know.
    """
    if isinstance(source, Mapping):
        yield _named(bundle, source)
    elif isinstance(source, str | Path) and not is_nifti(Path(source)):
        yield from _dicom(bundle, Path(source))
    else:
        name, image = _image(source, bundle.inputs[0].colour)
        if len(bundle.inputs) > 1:
            needed = ", ".join(each.name for each in bundle.inputs)
            raise MissingInput(f"the model needs several images: {needed}")
        yield Case(name, {bundle.inputs[0].name: image}, None)


def best_case(bundle: Bundle, source: Source) -> Case:
    """Return the one case of a source, or the best: most slices, then the finest.

    Raises
    ------
    InputError
        When there is none: the reason, or the reasons of all series in one sentence.
    """
    unfit: list[Unfit] = []
    for case in cases(bundle, source):
        if isinstance(case, Case):
            return case
        unfit.append(case)
    if len(unfit) == 1:
        raise unfit[0].error
    reasons = "; ".join(sorted({each.error.message for each in unfit}))
    raise UnsuitableSeries(f"none of {len(unfit)} series fits: {reasons}")


def series_cases(bundle: Bundle, study: Study, *, name: str = "series") -> Iterator[Case | Unfit]:
    """Yield a case for each series of a study that can be the bundle's first input.

    The best comes first; those that do not fit come last, with the reason.
    """
    for number, candidate in enumerate(candidates(bundle, study), start=1):
        try:
            yield read_case(bundle, study, candidate.series, name=f"{name}-{number}")
        except InputError as error:
            yield Unfit(f"{name}-{number}", error)


def read_case(bundle: Bundle, study: Study, first: Series, *, name: str = "series") -> Case:
    """Return what a bundle is given of a study, one of its series being the first input.

    Raises
    ------
    UnsuitableSeries, MissingInput
        When the bundle is not for `first`, or the study lacks a further series that it needs.
    InputError
        When a series makes no volume; see :func:`dicom.volume.read_volume`.
    """
    chosen = choose_series(bundle, study, first)
    images: dict[str, Image] = {}
    volumes: list[Volume | None] = []
    for each, series in chosen.items():
        images[each], volume = _read(bundle, series)
        volumes.append(volume)
    return Case(name, images, volumes[0])


def _read(bundle: Bundle, series: Series) -> tuple[Image, Volume | None]:
    """Return one series as the bundle is given it, mended as its metadata allows.

    A model that looks at slices is given pictures too (projections, ultrasound, photographs), which
    have no place in the patient: then there is no volume.
    """
    try:
        volume = read_volume(series, min_slices=bundle.min_slices, mend=bundle.mending)
    except NoGeometry:
        if bundle.dimensions == "3d":
            raise
        return _stacked(read_pictures(series)), None
    image = Image(volume.voxels_kji, volume.affine_lps, volume.frame_of_reference_uid)
    return image, volume


def _stacked(pictures: Sequence[Picture]) -> Image:
    """Return pictures of one size as slices: in mm, rows down along +y, columns along +x."""
    if len({picture.pixels_fji.shape[1:] for picture in pictures}) > 1:
        raise UnsuitableSeries("the pictures of the series differ in size; give one at a time")
    pixels = np.concatenate([picture.pixels_fji for picture in pictures])
    return Image(pixels, pictures[0].affine_image)


def _dicom(bundle: Bundle, source: Path) -> Iterator[Case | Unfit]:
    studies = read_folder(source).studies
    for number, study in enumerate(studies, start=1):
        prefix = "series" if len(studies) == 1 else f"study-{number}-series"
        yield from series_cases(bundle, study, name=prefix)


def _named(bundle: Bundle, source: Mapping[str, One]) -> Case:
    known = {each.name: each for each in bundle.inputs}
    unknown = sorted(set(source) - set(known))
    missing = [name for name in known if name not in source]
    if unknown:
        raise InvalidRequest(f"the model has no input {', '.join(unknown)}")
    if missing:
        raise MissingInput(f"the model needs an image for {', '.join(missing)}")
    images: dict[str, Image] = {}
    volumes: list[Volume | None] = []
    for name, wanted in known.items():
        one = source[name]
        volume = None
        if isinstance(one, str | Path) and not is_nifti(Path(one)):
            images[name], volume = _read(bundle, _only_series(Path(one), name))
        else:
            _, images[name] = _image(one, wanted.colour)
        volumes.append(volume)
    return Case("images", images, volumes[0])


def _only_series(folder: Path, name: str) -> Series:
    every = [series for study in read_folder(folder).studies for series in study.series]
    if len(every) != 1:
        raise InvalidRequest(f"the folder for {name} holds {len(every)} series, not one")
    return every[0]


def _image(one: One, colour: bool) -> tuple[str, Image]:
    """Return a name for one image, and the image; an array without a place is one of 1 mm."""
    if isinstance(one, Image):
        return "image", one
    if isinstance(one, str | Path):
        path = Path(one)
        voxels_kji, affine_lps = read_nifti(path)
        name = path.name.lower().removesuffix(".gz").removesuffix(".nii")
        return path.name[: len(name)], Image(voxels_kji, affine_lps)
    voxels, affine_lps = one if isinstance(one, tuple) else (one, np.eye(4))
    if voxels.ndim == 2 or (voxels.ndim == 3 and colour and voxels.shape[-1] == 3):
        voxels = voxels[None]  # one picture
    return "array", Image(voxels, affine_lps)
