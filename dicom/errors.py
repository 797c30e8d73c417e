"""Every error of radloop, in three families by who acts next.

========================  =====================================  ==============
Family                    Who acts                               Retried
========================  =====================================  ==============
:class:`InputError`       a person mends the study or setting    never
:class:`PeerError`        another system has to answer again     with back-off
:class:`ResourceError`    this machine lacks something           later
========================  =====================================  ==============

Each class has a stable ``code`` (shown on the job, in the API and in ``docs/errors.md``) and an
``advice`` in plain words. Messages carry counts, codes and pseudonymised UIDs; never a patient's
name, id, date or an original UID. All are picklable: they cross the process boundary of the
predictor and the rows of the durable engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar


class RadloopError(Exception):
    """Something that a person can be told about, by code.

    Parameters
    ----------
    message : str
        What happened, in one plain sentence without PHI.
    """

    code: ClassVar[str] = ""
    advice: ClassVar[str] = ""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or self.advice)

    @property
    def message(self) -> str:
        """The sentence that a person reads."""
        return str(self.args[0])


class InputError(RadloopError):
    """A person must mend the study, the bundle or the setting; never retried."""


class PeerError(RadloopError):
    """Another system failed or did not answer; retried with back-off."""


class ResourceError(RadloopError):
    """Memory, disk, a process or a program is lacking on this machine; tried again later."""


# --- studies, series, instances -----------------------------------------------------------------


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


class CannotDeface(InputError):
    """A volume of a head whose face cannot be taken off so that it surely is gone."""

    code = "cannot_deface"
    advice = "Nothing of it was passed on; faces are taken off T1-weighted MR of a whole head only."


class HeadNotDefaced(InputError):
    """A volume of a head, from which a face could be rendered, where a project takes none."""

    code = "head_not_defaced"
    advice = 'Set the project\'s `heads` to "deface", or to "keep" where faces may go out.'


class ConflictingOptions(InputError):
    """Two options of a de-identification profile exclude each other."""

    code = "conflicting_options"
    advice = "Choose one of the two options for this project."


class IdentityLeft(InputError):
    """The second look found something of a patient in what was de-identified."""

    code = "identity_left"
    advice = "Nothing of it goes on; look at the place that is named, and mend the profile."


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


# --- bundles, settings, names -------------------------------------------------------------------


class InvalidBundle(InputError):
    """A model bundle that cannot be read, lacks a file or describes itself wrongly."""

    code = "invalid_bundle"
    advice = "Mend or reinstall the bundle; `radloop check` names what is wrong."


class UnknownBundle(InputError):
    """No bundle of that name and version is installed."""

    code = "unknown_bundle"
    advice = "Install the bundle under models/bundles, or mend its name in the route."


class CannotImport(InputError):
    """A model from elsewhere that cannot be made into a bundle."""

    code = "cannot_import"
    advice = "Nothing was installed; mend what is named, and import it again."


class WrongHash(CannotImport):
    """A file of a model is not the one that its list of hashes names."""

    code = "wrong_hash"
    advice = "The model was damaged or changed on its way; get it again from its source."


class MissingCodes(CannotImport):
    """Labels of a model for which no DICOM code is known."""

    code = "missing_codes"
    advice = "Give the named labels codes, with --codes FILE; docs/importing-models.md shows how."


class UnknownLicence(CannotImport):
    """A model that does not say under which licence it may be used."""

    code = "unknown_licence"
    advice = "Find out what its authors allow, and say it with --license."


class CodeRefused(CannotImport):
    """A model that brings code of its own, which nobody has allowed."""

    code = "code_refused"
    advice = "Read the named files; --allow-code imports the model with them."


class UnsuitableSeries(InputError):
    """A series that the bundle's metadata rules out (modality, channels, size)."""

    code = "unsuitable_series"
    advice = "The model was not made for this kind of series; mend the route."


class MissingInput(InputError):
    """A study without a series for one of the images that a model needs."""

    code = "missing_input"
    advice = "The model needs several series; send the named one, or mend how the bundle knows it."


class RegionNotFound(InputError):
    """The first model of a cascade found nothing where the second should look."""

    code = "region_not_found"
    advice = "Look at the series: the organ that the model looks into is absent, or was missed."


class CannotRegister(InputError):
    """Two images that could not be brought onto one another."""

    code = "cannot_register"
    advice = "The images overlap too little or show different parts; look at both series."


class InvalidSettings(InputError):
    """radloop.toml or a RADLOOP_ variable is misspelt or impossible."""

    code = "invalid_settings"
    advice = "Mend the named setting; `radloop check` shows all of them."


class NotFound(InputError):
    """A study, series, job or user of that identifier is not here."""

    code = "not_found"
    advice = "Check the identifier; `radloop jobs` and the studies page list what is here."


class WrongPassword(InputError):
    """User name and password do not fit."""

    code = "wrong_password"
    advice = "User name or password is wrong."


class LoginNeeded(InputError):
    """Nobody is logged in, or the login or token has ended."""

    code = "login_needed"
    advice = "Log in again, or send a valid API token."


class NotAllowed(InputError):
    """The role of this user does not reach that far."""

    code = "not_allowed"
    advice = "Your role does not allow this; ask an administrator of the node."


class CrossSite(InputError):
    """A write that did not come from one of the node's own pages."""

    code = "cross_site"
    advice = "Use the node's own pages, or an API token; check front.public_url behind a proxy."


class TooManyTries(InputError):
    """Too many wrong passwords in a row from one place."""

    code = "too_many_tries"
    advice = "Wait a little before the next try; every wrong password doubles the wait."
    wait_s: int = 0

    @classmethod
    def wait(cls, seconds: int) -> TooManyTries:
        """Return the error with the seconds until the next try."""
        error = cls(f"too many wrong passwords; try again in {seconds} s")
        error.wait_s = seconds
        return error


class InvalidRequest(InputError):
    """A request with a missing, misspelt or impossible value."""

    code = "invalid_request"
    advice = "Mend the named value; /api/docs describes each request."


class Conflict(InputError):
    """What is asked for does not fit what is there (a job that has ended, a name that is taken)."""

    code = "conflict"
    advice = "Look at the present state, and decide again."


class TooLarge(InvalidRequest):
    """The body of a request is larger than the node takes at once."""

    code = "too_large"
    advice = "Send the study in several requests, or by C-STORE."


class InvalidLabels(InvalidRequest):
    """Labels that a viewer sent, and that do not hold what their head announces."""

    code = "invalid_labels"
    advice = "Nothing was stored; reload the viewer, and open the draft that it kept."


class NotTakenIn(Conflict):
    """A study of the archive that the node has not read yet."""

    code = "not_taken_in"
    advice = "The study has just arrived; wait some seconds, and try again. The draft is kept."


class UnsafeSegmentation(Conflict):
    """A segmentation that the viewer exported by itself: it can hold other voxels than painted."""

    code = "unsafe_segmentation"
    advice = "Nothing was stored; the segmentation is still open in the viewer as you edited it."


class VaultLocked(InputError):
    """The identity vault's key is absent or not the one that its rows were sealed with."""

    code = "vault_locked"
    advice = "Put the key file that belongs to this database back into the secrets folder."


class DrawerLocked(InputError):
    """A draft or a comment was sealed with another key than the node has now."""

    code = "drawer_locked"
    advice = "The node's audit key was changed; put the old one back, or delete the draft."


class AuditBroken(InputError):
    """An event of the audit trail was changed, removed or slipped in."""

    code = "audit_broken"
    advice = "Somebody wrote to the database by another way; compare with a backup."


class NoRoute(InputError):
    """No route matched a series; nothing was asked of it."""

    code = "no_route"
    advice = "No rule wants this series; that is right, or a [[route]] has to be mended."


class Canceled(InputError):
    """A person canceled the job; what it had begun is dropped."""

    code = "canceled"
    advice = "The job was canceled by a person; start it again when it is wanted."


class InternalError(InputError):
    """A fault of radloop itself; the traceback is in the log under the job's id."""

    code = "internal_error"
    advice = "radloop made a mistake; please report it with the log lines of this job."


# --- datasets, training ---------------------------------------------------------------------------


class InvalidDataset(InputError):
    """A dataset is not whole, or says something that cannot be."""

    code = "invalid_dataset"
    advice = "Import or freeze the dataset again; the message names what is wrong."


class PatientInTwoSplits(InvalidDataset):
    """A patient's cases are in more than one split: what is tested would have been learnt from."""

    code = "patient_in_two_splits"
    advice = "Split by patient; give all cases of a patient the same pseudonym and split."


class LabelsDoNotMatch(InvalidDataset):
    """Labels lie on another grid than their image, or hold values that nothing describes."""

    code = "labels_do_not_match"
    advice = "Bring labels and image onto one grid, and describe every value that occurs."


class InvalidGraph(InputError):
    """An augmentation graph that cannot be carried out; the message names the node and field."""

    code = "invalid_graph"
    advice = "Mend the node that the message names; docs/training.md describes every kind."


class CannotTrain(InputError):
    """Nothing can be learnt from the dataset as it is."""

    code = "cannot_train"
    advice = "Add cases: the message says what there are too few of."


class InvalidPlan(InputError):
    """A training plan whose parts do not fit each other, the data or the device."""

    code = "invalid_plan"
    advice = "Change the field that the message names, or let the node plan it."


class TrainingDiverged(InputError):
    """The loss is not a number any more; the last good checkpoint stays."""

    code = "training_diverged"
    advice = "Lower the learning rate, or look for constant or broken images in the dataset."


# --- peers --------------------------------------------------------------------------------------


class PeerUnreachable(PeerError):
    """No connection: host down, port closed, TLS refused, time-out."""

    code = "peer_unreachable"
    advice = "The other system did not answer; it is tried again with back-off."


class PeerRefused(PeerError):
    """The peer answered, and said no (association rejected, HTTP 4xx/5xx, failure status)."""

    code = "peer_refused"
    advice = "The other system refused; check AE titles, permissions and its log."


class DownloadFailed(PeerError):
    """A model could not be fetched from where it is published."""

    code = "download_failed"
    advice = "Check the name and the network, or fetch the model elsewhere and import its folder."


class ArchiveMismatch(PeerError):
    """The archive does not hold, or does not return, what it announced."""

    code = "archive_mismatch"
    advice = "The archive's content changed while it was read; the study is read again."


# --- this machine -------------------------------------------------------------------------------


class PredictorDied(ResourceError):
    """The child process that runs models ended (killed, out of memory, segmentation fault)."""

    code = "predictor_died"
    advice = "The model's process died, most often for lack of memory; it is started again."


class PredictorTimeout(ResourceError):
    """A prediction did not end in its time."""

    code = "predictor_timeout"
    advice = "The model took too long on this machine; raise predictor.timeout_s or use a GPU."


class OutOfMemory(ResourceError):
    """A prediction needs more memory, of the GPU or of the machine, than is free."""

    code = "out_of_memory"
    advice = "Not enough memory for this volume; free some, or use a larger machine or GPU."


class MissingDevice(ResourceError):
    """The GPU that the settings name is not there, or was lost."""

    code = "missing_device"
    advice = "Check the GPU and its driver (`nvidia-smi`), or set predictor.device to auto or cpu."


class DiskFull(ResourceError):
    """No room left where radloop keeps its data."""

    code = "disk_full"
    advice = "Free disk space under the data folder; work goes on by itself."


class MissingProgram(ResourceError):
    """A program that radloop starts (Orthanc, ...) is not installed."""

    code = "missing_program"
    advice = "Install the named program; `make install` does it on Debian."


class MissingPackage(ResourceError):
    """A Python package that only some models need is not installed."""

    code = "missing_package"
    advice = "Install the named extra into radloop's environment, and try again."


class ProgramFailed(ResourceError):
    """A program that radloop starts ended again and again before it was ready."""

    code = "program_failed"
    advice = "Look into the program's log file under logs/ in the data folder."


class PortTaken(ResourceError):
    """A TCP port that radloop shall listen on is used by another program."""

    code = "port_taken"
    advice = "Stop the other program, or choose another port in radloop.toml."


def every_error() -> Iterator[type[RadloopError]]:
    """Yield every concrete error class that has a code, in order of definition."""
    waiting: list[type[RadloopError]] = [InputError, PeerError, ResourceError]
    while waiting:
        error = waiting.pop(0)
        if error.code:
            yield error
        waiting.extend(error.__subclasses__())


def error_of(code: str, message: str) -> RadloopError:
    """Return the error that `code` names, for one that crossed a process or a database.

    Raises
    ------
    KeyError
        When no error class has that code: a bug, not bad input.
    """
    return {error.code: error for error in every_error()}[code](message)
