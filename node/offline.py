"""What works without any server: take the identity off a folder, run a bundle on a folder."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydicom import Dataset

from dicom.deid import Cleaned, Deidentifier, Quarantined
from dicom.errors import InputError, InvalidSettings, UnsuitableSeries
from dicom.folder import read_folder
from dicom.profile import node_profile
from dicom.study import Series
from dicom.uids import KEY_BYTES
from dicom.volume import describe_series, read_volume
from models.bundle import Bundle
from models.nifti import is_nifti, read_nifti, write_labels
from models.prediction import Prediction, Progress
from models.predictor import Predictor
from pipelines.outputs import Made, get_output

_SERIES_NUMBER = 9001

# --- de-identification --------------------------------------------------------------------------


def deidentify(
    source: Path, target: Path, *, key_file: Path | None
) -> Iterator[Cleaned | Quarantined]:
    """De-identify a file or a folder, and yield what became of each file.

    Parameters
    ----------
    key_file : Path or None
        Holds the key of the pseudonyms; made when it is absent. None: a key that is thrown away,
        so that no later run gives the same pseudonyms, and nobody can find the way back.

    Raises
    ------
    InvalidSettings
        When the file holds no such key.
    """
    engine = Deidentifier(node_profile(), _pseudonym_key(key_file))
    return engine.deidentify_folder(source, target)


def _pseudonym_key(path: Path | None) -> bytes:
    if path is None:
        return secrets.token_bytes(KEY_BYTES)
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(KEY_BYTES) + "\n")
    try:
        key = bytes.fromhex(path.read_text())
    except ValueError as error:
        raise InvalidSettings("the key file does not hold hexadecimal digits") from error
    if len(key) != KEY_BYTES:
        raise InvalidSettings(f"the key file holds {len(key)} bytes, not {KEY_BYTES}")
    return key


# --- prediction ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Predicted:
    """One image that a bundle was run on: the files that were written, or why there are none."""

    source: str
    files: tuple[Path, ...]
    prediction: Prediction | None
    millilitres: dict[str, float]
    error: InputError | None = None


def predict(
    bundle: Bundle,
    source: Path,
    target: Path,
    *,
    device: str,
    progress: Callable[[str], Progress],
) -> Iterator[Predicted]:
    """Run a bundle on a NIfTI file, or on every series of a DICOM folder that it suits.

    Labels are written as NIfTI, on the grid of the source; for DICOM also as a Segmentation that
    refers to the series. File names are running numbers.

    Parameters
    ----------
    progress : callable
        Called with the image's name; returns what is told the share that is done.

    Raises
    ------
    NotDicom
        When the folder holds nothing that could be read.
    """
    target.mkdir(parents=True, exist_ok=True)
    predictor = Predictor(bundle, device=device)
    if is_nifti(source):
        yield _predict_nifti(predictor, source, target, progress)
        return
    studies = read_folder(source).studies
    every = [(study.study_uid, series) for study in studies for series in study.series]
    for number, (_, series) in enumerate(every, start=1):
        name = f"series-{number}"
        try:
            yield _predict_series(predictor, series, target, name, progress)
        except InputError as error:
            yield Predicted(name, (), None, {}, error)


def _predict_nifti(
    predictor: Predictor, source: Path, target: Path, progress: Callable[[str], Progress]
) -> Predicted:
    voxels_kji, affine_lps = read_nifti(source)
    prediction = predictor.predict(voxels_kji, affine_lps, progress=progress(source.name))
    path = target / f"{source.name.removesuffix('.gz').removesuffix('.nii')}.labels.nii.gz"
    write_labels(path, prediction.labels_kji, affine_lps)
    return Predicted(source.name, (path,), prediction, {})


def _predict_series(
    predictor: Predictor,
    series: Series,
    target: Path,
    name: str,
    progress: Callable[[str], Progress],
) -> Predicted:
    bundle = predictor.bundle
    unsuitable = bundle.suits(describe_series(series))
    if unsuitable is not None:
        raise UnsuitableSeries(f"the model is not for this series: {unsuitable}")
    volume = read_volume(series, min_slices=bundle.min_slices)
    prediction = predictor.predict(volume.voxels_kji, volume.affine_lps, progress=progress(name))
    encoded = get_output("seg").encode(
        Made(
            labels_kji=prediction.labels_kji,
            source=volume,
            bundle=bundle,
            key=f"{series.series_uid}\n{bundle.sha256}",
            series_number=_SERIES_NUMBER,
            created=datetime.now().astimezone(),
        )
    )
    labels, seg = target / f"{name}.labels.nii.gz", target / f"{name}.seg.dcm"
    write_labels(labels, prediction.labels_kji, volume.affine_lps)
    _save(encoded.ds, seg)
    return Predicted(name, (seg, labels), prediction, dict(encoded.summary))


def _save(ds: Dataset, path: Path) -> None:
    ds.save_as(path, enforce_file_format=True)
