"""One series of DICOM, defaced: where its slices are painted, and the pass that paints them.

The brain comes from the shipped bundle `mr_brain`, so that T1-weighted MR of a head is what can be
defaced; all else is refused. Only painted pixels change: see :mod:`dicom.frames.painting`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.dataelem import DataElement
from pydicom.sequence import Sequence

from dicom.deid.pixels import may_show_a_face
from dicom.errors import CannotDeface, InputError
from dicom.folder import read_folder
from dicom.frames.painting import Canvas, copy_of
from dicom.profile import METHOD_CODES, Option
from dicom.sequence import read_sequence
from dicom.study import Series
from dicom.volume import Volume, read_volume
from models.deface.face import FaceCheck, Mask, face_mask
from models.prediction import Image

BUNDLE: Final = "mr_brain"
BrainOf = Callable[[Image], Mask]
"""Gives the brain of one image, bool, shape (slices, rows, columns)."""

_LONG_ECHO_MS: Final = 60.0  # T2, FLAIR: the network knows T1 only


@dataclass(frozen=True, slots=True, eq=False)
class DefacedSeries:
    """Where the slices of one series are painted; the check holds.

    Attributes
    ----------
    volume : Volume
        As it was.
    gone_kji : ndarray of bool
        The voxels that go, on the volume's grid.
    check : FaceCheck
    """

    volume: Volume
    gone_kji: Mask
    check: FaceCheck
    _masks: Mapping[str, Mapping[int, Mask]]

    def __call__(self, ds: Dataset) -> Dataset | None:
        """Return an instance of the series without the face, None for one of another series.

        Raises
        ------
        CannotDeface
            When the instance belongs to the series, and was not looked at with it.
        UnreadablePixels, UnsupportedPixelFormat, UnsupportedTransferSyntax
            When its pixels cannot be decoded, or not be written again.
        """
        if str(ds.get("SeriesInstanceUID", "")) != self.volume.series_uid:
            return None
        masks = self._masks.get(str(ds.get("SOPInstanceUID", "")))
        if masks is None:
            raise CannotDeface("an image of the series is no slice of its volume")
        canvas = Canvas(ds)
        size = (canvas.form.rows, canvas.form.columns)
        if any(mask.shape != size for mask in masks.values()):
            raise CannotDeface("an image has another size than the volume's slices")
        return canvas.painted(masks.get)


def brain_by_bundle(*, device: str = "auto", threads: int | None = None) -> BrainOf:
    """Return what finds brains, by the shipped bundle; it is loaded once."""
    from models import load

    model = load(BUNDLE, device=device, threads=threads)

    def brain(image: Image) -> Mask:
        return np.asarray(model.predict(image).labels_kji == 1, np.bool_)

    return brain


def deface_series(series: Series, brain: BrainOf) -> DefacedSeries:
    """Return where a series of T1-weighted MR is painted, so that no face can be rendered.

    Parameters
    ----------
    series : Series
        All its instances.
    brain : callable
        From :func:`brain_by_bundle`.

    Raises
    ------
    CannotDeface
        When it is no MR, or none that the network knows, or the check does not hold.
    InputError
        When its slices make no volume; see :func:`dicom.volume.read_volume`.
    """
    if series.modality != "MR":
        raise CannotDeface(f"faces are taken off MR only, not off {series.modality or 'this'}")
    if read_sequence(series).get("EchoTime", 0.0) >= _LONG_ECHO_MS:
        raise CannotDeface("the series is not T1-weighted")
    volume = read_volume(series)
    image = Image(volume.voxels_kji, volume.affine_lps, volume.frame_of_reference_uid)
    gone_kji, check = face_mask(volume.voxels_kji, volume.affine_lps, brain(image))
    masks: dict[str, dict[int, npt.NDArray[np.bool_]]] = {}
    for source, mask_ji in zip(volume.sources, gone_kji, strict=True):
        frames = masks.setdefault(source.instance.sop_instance_uid, {})
        frames[(source.frame_number or 1) - 1] = mask_ji
    return DefacedSeries(volume, gone_kji, check, masks)


class DefacingPass:
    """Takes the faces off the series of a folder, one after the other; a pass of the engine.

    A series is defaced as a whole when its first instance comes. The last one is kept at hand,
    since files of a series mostly come together; one that comes again is done again.

    Parameters
    ----------
    source : Path
        The folder, or file, that the instances come from.
    brain : callable, optional
        From :func:`brain_by_bundle`, which is the default.
    tell : callable, optional
        Told each series that was defaced.
    """

    def __init__(
        self,
        source: Path,
        brain: BrainOf | None = None,
        *,
        tell: Callable[[DefacedSeries], None] | None = None,
    ) -> None:
        self._source = source
        self._brain = brain
        self._tell = tell
        self._known: dict[str, Series] | None = None
        self._last: tuple[str, DefacedSeries | InputError] | None = None

    def __call__(self, ds: Dataset) -> Dataset | None:
        """Return an instance without the face, None where it cannot show one.

        Raises
        ------
        InputError
            As :func:`deface_series` and :class:`DefacedSeries`: the whole series is held back.
        """
        if not may_show_a_face(ds):
            return None
        uid = str(ds.get("SeriesInstanceUID", ""))
        if self._last is None or self._last[0] != uid:
            self._last = (uid, self._defaced(uid))
        defaced = self._last[1]
        if isinstance(defaced, InputError):
            raise type(defaced)(defaced.message)
        return defaced(ds)

    def _defaced(self, uid: str) -> DefacedSeries | InputError:
        if self._known is None:
            studies = read_folder(self._source).studies
            self._known = {one.series_uid: one for study in studies for one in study.series}
        series = self._known.get(uid)
        if series is None:
            return CannotDeface("the series was not there when the folder was read")
        self._brain = self._brain or brain_by_bundle()
        try:
            defaced = deface_series(series, self._brain)
        except InputError as error:
            return error
        if self._tell is not None:
            self._tell(defaced)
        return defaced


def declared(ds: Dataset) -> Dataset:
    """Return a defaced instance that says so (PS3.3 C.7.6.1, PS3.15 E.3.2).

    RecognizableVisualFeatures is NO. The option's code joins the others of an object that is
    de-identified; another one gets it when it is.
    """
    said = copy_of(ds)
    said[0x00280302] = DataElement(0x00280302, "CS", "NO")
    if said.get("PatientIdentityRemoved") != "YES":
        return said
    value, meaning = METHOD_CODES[Option.CLEAN_RECOGNIZABLE_VISUAL_FEATURES]
    items = list(ds.get("DeidentificationMethodCodeSequence") or ())
    if value not in {str(item.get("CodeValue", "")) for item in items}:
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
        items.append(code)
    said[0x00120064] = DataElement(0x00120064, "SQ", Sequence(items))
    return said
