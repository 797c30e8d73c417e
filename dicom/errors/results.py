"""Errors of what a model or a person made: reports and segmentations that are not right."""

from __future__ import annotations

from dicom.errors.families import InputError


class InvalidReport(InputError):
    """A structured report cannot be written, is none of measurements, or says something else."""

    code = "invalid_report"
    advice = "The report was not passed on; the result's segmentation and the bundle tell why."


class WrongGeometry(InputError):
    """A result does not lie where the model put it: flipped, shifted, or on the wrong side."""

    code = "wrong_geometry"
    advice = "The result was held back: look at the bundle's orientation and the series' geometry."


class WrongLabels(InputError):
    """A result calls its segments something else than what the model found."""

    code = "wrong_labels"
    advice = "The result was held back: its descriptions were exchanged; report it to its makers."


class SourceMismatch(InputError):
    """A result and the study that it shall be pointed back at do not belong together."""

    code = "source_mismatch"
    advice = "The result refers to images that this study does not hold; run the study again."


class InvalidSegmentation(InputError):
    """A DICOM SEG that cannot be read, or labels that cannot be written as one."""

    code = "invalid_segmentation"
    advice = "The segmentation is damaged, or made on other images; make it again on this series."


class ForeignSegmentation(InvalidSegmentation):
    """A DICOM SEG that refers to images, or to a frame of reference, that are not at hand."""

    code = "foreign_segmentation"
    advice = "The segmentation was made on other images; give the series that it was made from."


class OtherGrid(InvalidSegmentation):
    """A DICOM SEG whose voxels do not lie where the voxels of its source series lie."""

    code = "other_grid"
    advice = "The segmentation has another grid than the series; resample it onto the series."


class OverlappingSegments(InvalidSegmentation):
    """Segments that share voxels, where one label map shall hold them all."""

    code = "overlapping_segments"
    advice = "Segments overlap; take them one by one, or store them as BINARY or FRACTIONAL."


class NoMatch(InvalidSegmentation):
    """An object that another system drew, and that fits no series of its study, or several."""

    code = "no_match"
    advice = "Say on which series it was drawn, or dismiss it."


class ImpossibleSize(InvalidSegmentation):
    """A DICOM SEG that claims more frames or voxels than its bytes hold, or than fit anywhere."""

    code = "impossible_size"
    advice = "The segmentation claims a size that it does not have; it is damaged or made to harm."
