"""Errors of what comes in: files, series and their geometry, and what de-identification refuses."""

from __future__ import annotations

from dicom.errors.families import InputError


class NotDicom(InputError):
    """The bytes are not a DICOM Part 10 file, or end too early."""

    code = "not_dicom"
    advice = "The file is broken or is no DICOM file; send it again from its source."


class NeedsCarefulReading(InputError):
    """The fast engine does not read such a file with certainty; the careful one may."""

    code = "needs_careful_reading"
    advice = "De-identify it with the careful engine, or leave the choice to radloop (auto)."


class NotAnImage(InputError):
    """The series holds no image that a model could read (SR, RTSTRUCT, PR, SEG ...)."""

    code = "not_an_image"
    advice = "The series holds documents or annotations, not images; route image series only."


class TooFewSlices(InputError):
    """The series has fewer slices than the task needs."""

    code = "too_few_slices"
    advice = "Send the whole series, or route it to a model that takes fewer slices."


class MissingSlice(InputError):
    """A gap of about a whole number of steps between two neighbouring slices."""

    code = "missing_slice"
    advice = "One or more slices are missing; send the series again."


class DoubledSlice(InputError):
    """Two instances at one position along the normal."""

    code = "doubled_slice"
    advice = "Two slices share a position and nothing tells them apart; send the series once."


class UnevenSpacing(InputError):
    """Steps between slices vary by more than the tolerance."""

    code = "uneven_spacing"
    advice = "The distances between slices differ; use a reconstruction with even spacing."


class MixedOrientations(InputError):
    """Slices of one series with different ImageOrientationPatient."""

    code = "mixed_orientations"
    advice = "The series mixes planes (a localiser?); route the volume series only."


class MixedSizes(InputError):
    """Slices of one series with different Rows, Columns, PixelSpacing or pixel format."""

    code = "mixed_sizes"
    advice = "Slices differ in size or pixel spacing; split the series at its source."


class GantryTilt(InputError):
    """Slice positions run oblique to the slice normal: a sheared volume."""

    code = "gantry_tilt"
    advice = "The gantry was tilted; send a reconstruction that is corrected for tilt."


class NoGeometry(InputError):
    """Position, orientation or pixel spacing is missing or impossible."""

    code = "no_geometry"
    advice = "The images do not say where they lie in the patient; a volume needs slices that do."


class MixedSeries(InputError):
    """Instances of several series, or frames of reference, where one is needed."""

    code = "mixed_series"
    advice = "The images belong to several series or frames of reference; give one at a time."


class UnreadablePixels(InputError):
    """Pixel data that is missing, truncated or cannot be decoded."""

    code = "unreadable_pixels"
    advice = "The pixel data is damaged or incomplete; send the series again."


class UnsupportedTransferSyntax(InputError):
    """A transfer syntax that no installed decoder reads."""

    code = "unsupported_transfer_syntax"
    advice = "Let the sender use an uncompressed, JPEG, JPEG-LS, JPEG 2000 or RLE transfer syntax."


class UnsupportedPixelFormat(InputError):
    """Colour or bit depth that is not a grey-scale volume."""

    code = "unsupported_pixel_format"
    advice = "Only grey-scale images with one sample per pixel can be made into a volume."


class MultiFrame(InputError):
    """A multi-frame image that does not say where in the patient each of its frames lies."""

    code = "multi_frame"
    advice = "Let the sender use enhanced or classic images, which say where each slice lies."


class SeveralVolumes(InputError):
    """A series that holds several volumes (echoes, phases, b-values), where one is needed."""

    code = "several_volumes"
    advice = "Name one of its volumes; `radloop volume info` lists them."


class Localiser(InputError):
    """Images that only show where others were planned (scout, topogram, survey)."""

    code = "localiser"
    advice = "A localiser shows where other series lie; route those."


class DerivedImages(InputError):
    """Projections, renderings or curved reformats: a voxel is not one place in the patient."""

    code = "derived_images"
    advice = "Route the series that these images were computed from."


class Mosaic(InputError):
    """Many slices as tiles of one image (Siemens mosaic), whose places no public attribute says."""

    code = "mosaic"
    advice = "Let the scanner store one image a slice, or enhanced MR, instead of mosaics."


class TiledImage(InputError):
    """A whole-slide image, whose frames are tiles."""

    code = "tiled_image"
    advice = "Whole-slide images are not read; route radiological or photographic images."


class CannotDeidentify(InputError):
    """De-identification met something that it cannot judge, and stopped."""

    code = "cannot_deidentify"
    advice = "The instance holds something that no rule judges; nothing of it was passed on."


class BurnedInText(CannotDeidentify):
    """The object says that text is burned into its pixels, and nobody has masked it."""

    code = "burned_in_text"
    advice = "Look at the image: release it where the text names nobody, or have text masked."


class CannotDeface(InputError):
    """A volume of a head whose face cannot be taken off so that it surely is gone."""

    code = "cannot_deface"
    advice = "Nothing of it was passed on; faces are taken off T1-weighted MR of a whole head only."


class HeadNotDefaced(InputError):
    """A volume of a head, from which a face could be rendered, where a project takes none."""

    code = "head_not_defaced"
    advice = 'Set the project\'s `heads` to "deface", or to "keep" where faces may go out.'


class PatientWithdrawn(InputError):
    """The patient has withdrawn: nothing more of that person goes into research."""

    code = "patient_withdrawn"
    advice = "Nothing was collected; the clinical study and its result are not concerned."


class Dismissed(InputError):
    """A person decided that what was held back is not to be used."""

    code = "dismissed"
    advice = "The original is whole in the clinical archive; a changed study begins anew."


class ConflictingOptions(InputError):
    """Two options of a de-identification profile exclude each other."""

    code = "conflicting_options"
    advice = "Choose one of the two options for this project."


class IdentityLeft(InputError):
    """The second look found something of a patient in what was de-identified."""

    code = "identity_left"
    advice = "Nothing of it goes on; look at the place that is named, and mend the profile."
