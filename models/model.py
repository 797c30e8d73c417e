"""A model in three lines, without any server.

::

    from models import learn, load

    result = load("mr_brain").predict("path/to/study", save_path="out/")
    model = learn("chest_lungs", "datasets/lungs@1", minutes=30)

torch is loaded by the first prediction, not by `load`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dicom.errors import InputError, MissingDevice
from models.bundle import Bundle, read_bundle
from models.prediction import Floats, Image, Prediction, Progress
from models.registry import SHIPPED, Registry
from models.saving import findings_of, millilitres, save
from models.sources import Case, Source, Unfit, best_case, cases

if TYPE_CHECKING:
    from models.learning.cases import Split
    from models.learning.evaluating import Evaluation
    from models.predictor import Predictor


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Result:
    """What a model answered for one image.

    Attributes
    ----------
    name : str
        Running name of the image; the files begin with it.
    prediction : Prediction
        The answer, and how it came about.
    image : Image
        The first image that the model was given: the grid of the answer.
    files : tuple of Path
        What was written.
    millilitres : dict of str to float
        Volume of each segment, by label.
    findings : tuple of dict
        Of a classification or detection: label, code, and probability, or score and corners.
    """

    name: str
    prediction: Prediction
    image: Image
    files: tuple[Path, ...]
    millilitres: dict[str, float]
    findings: tuple[dict[str, object], ...]

    def __repr__(self) -> str:
        """Return it for a person: what was found; the voxels are `labels_kji`."""
        found = [f"{label} {ml:g} ml" for label, ml in self.millilitres.items()]
        found += [
            f"{one['label']} {one.get('probability', one.get('score')):.2f}"
            for one in self.findings
        ]
        return f"<Result {self.name}: {', '.join(found) or 'nothing found'}>"

    @property
    def labels_kji(self) -> NDArray[np.uint8]:
        """Segment number per voxel, shape (slices, rows, columns); 0 is background."""
        return self.prediction.labels_kji

    @property
    def affine_lps(self) -> Floats:
        """From index (k, j, i, 1) to LPS, mm."""
        return self.image.affine_lps


@dataclass(frozen=True, slots=True)
class Check:
    """What a model needs, and whether it is there.

    Attributes
    ----------
    device : str
        Where it would run: ``cuda:0``, ``cpu``; empty where the wished one is absent.
    device_name : str
        The GPU's name, or how many threads of the CPU.
    needs : tuple of str
        One sentence for each input.
    fits : bool or None
        Whether the given source holds what it needs; None where none was given.
    reasons : tuple of str
        Why not, with the code of each reason.
    """

    device: str
    device_name: str
    needs: tuple[str, ...]
    fits: bool | None
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        """Return it for a person."""
        lines = [f"runs on {self.device or 'no device'} ({self.device_name})", *self.needs]
        if self.fits is not None:
            lines.append("the images fit" if self.fits else "the images do not fit:")
        return "\n".join([*lines, *self.reasons])


class Model:
    """A bundle that can be asked; made by :func:`load`."""

    def __init__(
        self, bundle: Bundle, registry: Callable[[], Registry], *, device: str, threads: int | None
    ) -> None:
        self.bundle = bundle
        self._registry = registry
        self._device = device
        self._threads = threads
        self._predictor: Predictor | None = None

    def __repr__(self) -> str:
        return f"<Model {self.bundle.identity}>"

    def check(self, source: Source | None = None) -> Check:
        """Say what device and images the model needs, and whether a source holds them.

        Nothing is predicted; of DICOM, the images are read.
        """
        device, name, reasons = self._found_device()
        fits: bool | None = None
        if source is not None:
            try:
                best_case(self.bundle, source)
                fits = True
            except InputError as error:
                fits = False
                reasons.append(f"{error.message} ({error.code})")
        needs = tuple(_need(self.bundle, n) for n in range(len(self.bundle.inputs)))
        return Check(device, name, needs, fits, tuple(reasons))

    def predict(
        self,
        source: Source,
        *,
        save_path: str | Path | None = None,
        progress: Progress | None = None,
    ) -> Result:
        """Return the answer for one image.

        Parameters
        ----------
        source : path, Image, array, (array, affine), or one of these for each input by name
            A DICOM folder: the series that fits is found; of several, the one with most slices. A
            NIfTI file; an array of axes (k, j, i), with its affine to LPS or as voxels of 1 mm.
        save_path : str, Path or None
            Folder for the files: a SEG for DICOM, NIfTI labels, JSON of findings; made when absent.
        progress : callable or None
            Told the share that is done, 0 to 1.

        Raises
        ------
        InputError
            When no series fits: the reason. See :meth:`models.predictor.Predictor.predict_images`
            for all else.
        """
        return self._result(best_case(self.bundle, source), save_path, progress)

    def predict_each(
        self,
        source: Source,
        *,
        save_path: str | Path | None = None,
        progress: Callable[[str], Progress] | None = None,
    ) -> Iterator[Result | Unfit]:
        """Yield the answer for every series that fits, and the reason for every other one.

        Parameters
        ----------
        progress : callable or None
            Called with the image's name; returns what is told the share that is done.
        """
        for case in cases(self.bundle, source):
            if isinstance(case, Unfit):
                yield case
                continue
            try:
                yield self._result(case, save_path, progress(case.name) if progress else None)
            except InputError as error:
                yield Unfit(case.name, error)

    def train(
        self,
        dataset: str | Path,
        *,
        minutes: float = 30,
        folder: str | Path = "trained",
        version: str | None = None,
        changes: Mapping[str, Any] | None = None,
        augment: str | Path | None = None,
        seed: int = 0,
    ) -> Model:
        """Learn further from a dataset, beginning with the model's weights; return the new one.

        Parameters
        ----------
        dataset : path
            A frozen dataset's folder: `radloop datasets import` makes one.
        minutes : float
            About how long.
        folder : path
            Where the new bundle, and the training's checkpoints, are kept; a training that was
            interrupted goes on from there.
        version : str or None
            Of the new bundle; None: the one after this.
        changes : mapping or None
            Fields of the plan, in place of those that are planned: ``{"batch": 4}``.
        augment : path or None
            An augmentation graph; a shipped one by name, such as ``general``.
        seed : int
            The same one gives the same weights.

        Raises
        ------
        InvalidPlan
            When the bundle does not say how it was trained, so that its weights fit no plan.
        InvalidDataset, CannotTrain, TrainingDiverged, OutOfMemory
        """
        from models.learning.lessons import train_further

        bundle = train_further(
            self.bundle,
            Path(dataset),
            folder=Path(folder),
            version=version,
            minutes=minutes,
            changes=changes or {},
            augment=augment,
            seed=seed,
            device=self._device,
            threads=self._threads,
        )
        return Model(bundle, self._registry, device=self._device, threads=self._threads)

    def evaluate(self, dataset: str | Path, *, split: Split = "test") -> Evaluation:
        """Return the model's figures on a dataset's split, on the images' own grid.

        Parameters
        ----------
        dataset : path
            A frozen dataset's folder.
        split : str
            `test` is what no training reads.

        Raises
        ------
        InvalidDataset
            When the split holds no case, or the model has not the dataset's classes.
        """
        from models.learning.cases import read_dataset
        from models.learning.evaluating import evaluate

        return evaluate(self._loaded(), read_dataset(Path(dataset)), split=split)

    def _result(
        self, case: Case, save_path: str | Path | None, progress: Progress | None
    ) -> Result:
        prediction = self._loaded().predict_images(case.images, progress=progress)
        files = save(self.bundle, case, prediction, Path(save_path)) if save_path else ()
        return Result(
            name=case.name,
            prediction=prediction,
            image=next(iter(case.images.values())),
            files=files,
            millilitres=millilitres(self.bundle, case, prediction),
            findings=tuple(findings_of(self.bundle, prediction)["findings"]),
        )

    def _loaded(self) -> Predictor:
        if self._predictor is None:
            # Before torch: threads that wait sleep, which on a busy machine halves the time.
            os.environ.setdefault("OMP_WAIT_POLICY", "passive")
            from models.predictor import open_predictor

            self._predictor = open_predictor(
                self.bundle, self._registry, device=self._device, threads=self._threads
            )
        return self._predictor

    def _found_device(self) -> tuple[str, str, list[str]]:
        import torch

        from models.building import device_of

        try:
            device = device_of(self._device)
        except MissingDevice as error:
            return "", error.message, [f"{error.message} ({error.code})"]
        if device.type == "cuda":
            return str(device), torch.cuda.get_device_name(device), []
        return str(device), f"{self._threads or torch.get_num_threads()} threads", []


def learn(
    recipe: str,
    dataset: str | Path,
    *,
    minutes: float = 30,
    folder: str | Path = "trained",
    name: str | None = None,
    version: str = "0.1.0",
    changes: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
) -> Model:
    """Learn from a dataset by a recipe, from the beginning; return the model.

    Parameters
    ----------
    recipe : str
        Its name; `radloop recipes` lists them. Of a cascade both models learn, half the time each.
    dataset : path
        A frozen dataset's folder: `radloop datasets import` makes one.
    minutes : float
        About how long.
    folder : path
        Where bundles and checkpoints are kept; a training that was interrupted goes on from there.
    name, version : str
        Of the bundle; None: the recipe's name.
    changes : mapping or None
        Fields of the plan, in place of the recipe's: ``{"batch": 4}``.
    seed : int
        The same one gives the same weights.

    Raises
    ------
    NotFound, InvalidRecipe
        When there is no such recipe, or the dataset is not one that it is for.
    InvalidPlan, InvalidDataset, CannotTrain, TrainingDiverged, OutOfMemory
    """
    from models.learning.lessons import learn_by_recipe
    from models.learning.recipe import get_recipe

    bundle = learn_by_recipe(
        get_recipe(recipe),
        Path(dataset),
        folder=Path(folder),
        name=name or recipe,
        version=version,
        minutes=minutes,
        changes=changes or {},
        seed=seed,
        device=device,
        threads=threads,
    )
    return load(bundle.root, folders=(SHIPPED, folder), device=device, threads=threads)


def load(
    name: str | Path,
    *,
    folders: Sequence[str | Path] = (SHIPPED,),
    device: str = "auto",
    threads: int | None = None,
    allow_code: Collection[str] = (),
) -> Model:
    """Return a model, ready to be asked.

    Parameters
    ----------
    name : str or Path
        NAME or NAME@VERSION among the bundles of `folders`, or a bundle's own folder.
    folders : sequence of path
        Folders of bundles; the shipped ones by default.
    device : str
        'auto', 'cpu', 'cuda', 'cuda:1'.
    threads : int or None
        CPU threads of torch.
    allow_code : collection of str
        Hashes of bundles' own code that may run; see docs/models.md.

    Raises
    ------
    UnknownBundle, InvalidBundle, WrongHash, CodeRefused
        When there is no such bundle, or it is broken, or its code was not allowed.
    """
    roots = tuple(Path(folder) for folder in folders)

    def registry() -> Registry:
        return Registry(roots)

    folder = Path(name)
    is_folder = (folder / "configs").is_dir()
    bundle = (
        read_bundle(folder, allow_code=allow_code)
        if is_folder
        else Registry(roots, allow_code=allow_code).get(str(name))
    )
    return Model(bundle, registry, device=device, threads=threads)


def _need(bundle: Bundle, number: int) -> str:
    """Return what one input is, in a sentence."""
    wanted = bundle.inputs[number]
    modality = " or ".join(wanted.wanted.modalities or bundle.modalities)
    words = [f"{wanted.name}: {'colour ' if wanted.colour else ''}{modality}"]
    if bundle.min_slices > 1:
        words.append(f"at least {bundle.min_slices} slices")
    if bundle.orientations:
        words.append(" or ".join(bundle.orientations))
    if wanted.wanted.description:
        words.append(f"described as {wanted.wanted.description}")
    return ", ".join(words)
