"""Every image plane of a series: a classic instance, or a frame of an enhanced one, alike.

A plane knows its place and how its values are meant; its pixels stay in the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.uid import UID

from dicom.errors import MultiFrame, NoGeometry, NotAnImage, NotDicom, TiledImage
from dicom.header import Header, read_header
from dicom.part10 import PARSER_ERRORS, quiet_pydicom
from dicom.study import Instance, Series
from dicom.volume.shear import Floats
from dicom.volume.values import SliceSource

PET = (
    "Units",
    "SUVType",
    "CorrectedImage",
    "DecayCorrection",
    "DecayCorrected",
    "DecayCorrectionDateTime",
    "PatientWeight",
    "PatientSize",
    "SeriesDate",
    "SeriesTime",
    "AcquisitionDate",
    "RadiopharmaceuticalInformationSequence",
)
"""What :mod:`dicom.volume.suv` asks for."""

VARIES = (
    "AcquisitionDateTime",
    "AcquisitionNumber",
    "AcquisitionTime",
    "ComplexImageComponent",
    "ContentTime",
    "ConvolutionKernel",
    "DiffusionBValue",
    "DiffusionGradientOrientation",
    "EchoNumbers",
    "EchoTime",
    "EffectiveEchoTime",
    "FlipAngle",
    "FrameReferenceTime",
    "InversionTime",
    "KVP",
    "NominalPercentageOfCardiacPhase",
    "TemporalPositionIdentifier",
    "TriggerTime",
)
"""What :mod:`dicom.volume.split` asks for, of classic images."""

_KEYWORDS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "Modality",
    "ImageType",
    "SeriesDescription",
    "ProtocolName",
    "StudyDescription",
    "BodyPartExamined",
    "Manufacturer",
    "ContrastBolusAgent",
    "ContrastBolusAgentSequence",
    "VolumeBasedCalculationTechnique",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "NominalScannedPixelSpacing",
    "SequenceOfUltrasoundRegions",
    "FrameTime",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "SliceThickness",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "ModalityLUTSequence",
    "TotalPixelMatrixColumns",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    *VARIES,
    *PET,
)

MOST_FRAMES = 200_000
"""More frames than any scanner writes into one instance; a header that claims more is damaged."""


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """One image of a series, and where its attributes stand.

    Parameters
    ----------
    source : SliceSource
        The instance and the frame.
    header : Header
        Of the whole instance.
    groups : tuple of Header
        The functional groups of this frame, those of it alone first, then the shared ones
        (PS3.3 C.7.6.16); none in a classic image.
    """

    source: SliceSource
    header: Header
    groups: tuple[Header, ...] = ()

    @property
    def enhanced(self) -> bool:
        """Whether functional groups describe the frame."""
        return bool(self.groups)

    def where(self, keyword: str) -> Header:
        """Return the frame's own group that has the attribute, else the instance's header."""
        for group in self.groups:
            if keyword in group.ds:
                return group
        return self.header

    def text(self, keyword: str) -> str | None:
        """Return a value as stripped text, None where it is absent or empty."""
        return self.where(keyword).text(keyword)

    def texts(self, keyword: str) -> tuple[str, ...]:
        """Return the parts of a multi-valued attribute."""
        return self.where(keyword).texts(keyword)

    def numbers(self, keyword: str, count: int) -> Floats | None:
        """Return exactly `count` finite numbers, None where there are not."""
        return self.where(keyword).numbers(keyword, count)

    def number(self, keyword: str) -> float | None:
        """Return one finite number, None where there is none."""
        return self.where(keyword).number(keyword)

    def required(self, keyword: str, count: int) -> Floats:
        """Return exactly `count` finite numbers.

        Raises
        ------
        NoGeometry
            When there are not.
        """
        numbers = self.numbers(keyword, count)
        if numbers is None:
            raise NoGeometry(f"{keyword} is missing or impossible")
        return numbers

    @property
    def position(self) -> Floats | None:
        """Centre of the first voxel in LPS, mm."""
        return self.numbers("ImagePositionPatient", 3)

    @property
    def normal(self) -> Floats | None:
        """Unit vector along row direction x column direction; None without a sound pair."""
        cosines = self.numbers("ImageOrientationPatient", 6)
        if cosines is None:
            return None
        with np.errstate(over="ignore", invalid="ignore"):
            normal: Floats = np.cross(cosines[:3], cosines[3:])
            length = float(np.linalg.norm(normal))
        if not 0.8 < length < 1.25:  # no pair of orthogonal unit vectors
            return None
        unit: Floats = normal / length
        return unit


@lru_cache(maxsize=256)
def _name_of(uid: str) -> str:
    with quiet_pydicom():
        return UID(uid).name


def class_of(header: Header) -> str:
    """Return the name of the SOP class, such as ``CT Image Storage`` (PS3.4 B.5)."""
    return _name_of(header.text("SOPClassUID") or "")


def is_image(header: Header) -> bool:
    """Return whether the instance is an image; SEG, SR, PR, RT Dose ... are called otherwise."""
    return "Image Storage" in class_of(header)


def frames_of(header: Header) -> int:
    """Return how many frames the header claims, at least one."""
    return max(1, header.whole("NumberOfFrames") or 1)


@dataclass(frozen=True, slots=True)
class ReadInstance(Instance):
    """An instance with its header, which what takes an instance does not read again."""

    header: Header = field(compare=False, repr=False)

    def at(self, path: Path) -> ReadInstance:
        """Return the same instance in another file."""
        header = replace(self.header, path=path)
        return ReadInstance(self.sop_instance_uid, self.sop_class_uid, path, header)


def read_ahead(instance: Instance) -> ReadInstance:
    """Return an instance with its header.

    Raises
    ------
    NotDicom
        As :func:`read_instance`.
    """
    header = read_instance(instance)
    return ReadInstance(instance.sop_instance_uid, instance.sop_class_uid, instance.path, header)


def read_instance(instance: Instance) -> Header:
    """Read the header of one instance of a series, where it is not at hand.

    Raises
    ------
    NotDicom
        When the file cannot be read, or names no SOP class.
    """
    if isinstance(instance, ReadInstance):
        return instance.header
    header = read_header(instance.path, _KEYWORDS)
    if header.text("SOPClassUID") is None:
        raise NotDicom("a file of the series lacks its SOP class")
    return header


def read_headers(series: Series) -> list[Header]:
    """Read the header of every instance of a series, in its order.

    Raises
    ------
    NotDicom
        As :func:`read_instance`.
    """
    return [read_instance(instance) for instance in series.instances]


def planes_of(series: Series, headers: list[Header]) -> list[Plane]:
    """Return every plane of a series of images.

    Raises
    ------
    NotAnImage
        When an instance is no image.
    MultiFrame
        When an instance of several frames does not describe each of them.
    TiledImage
        When frames are tiles of one slide.
    """
    others = sum(not is_image(header) for header in headers)
    if others:
        raise NotAnImage(f"{others} of {len(headers)} instances are not images")
    planes: list[Plane] = []
    for instance, header in zip(series.instances, headers, strict=True):
        if "TotalPixelMatrixColumns" in header.ds:
            raise TiledImage("the frames are tiles of a slide")
        if "PerFrameFunctionalGroupsSequence" in header.ds:
            planes.extend(_enhanced(instance, header))
        elif frames_of(header) > 1:
            raise MultiFrame("a multi-frame image does not say where each of its frames lies")
        else:
            planes.append(Plane(SliceSource(instance), header))
    return planes


def _enhanced(instance: Instance, header: Header) -> Iterator[Plane]:
    frames = frames_of(header)
    described = header.items("PerFrameFunctionalGroupsSequence")
    if len(described) != frames or frames > MOST_FRAMES:
        raise MultiFrame(f"a multi-frame image of {frames} frames describes {len(described)}")
    shared = [
        group
        for item in header.items("SharedFunctionalGroupsSequence")[:1]
        for group in _groups(header, item)
    ]
    for number, item in enumerate(described, 1):
        groups = (*_groups(header, item), *shared)
        yield Plane(SliceSource(instance, number), header, groups)


def _groups(header: Header, item: Dataset) -> Iterator[Header]:
    """Yield the first item of each functional group macro, and of what is nested in diffusion."""
    with quiet_pydicom():
        try:
            macros = [element.value[0] for element in item if element.VR == "SQ" and element.value]
            nested = [
                macro.DiffusionGradientDirectionSequence[0]
                for macro in macros
                if macro.get("DiffusionGradientDirectionSequence")
            ]
        except PARSER_ERRORS:
            raise MultiFrame("the functional groups of a multi-frame image are damaged") from None
    for group in (*macros, *nested):
        yield replace(header, ds=group)
