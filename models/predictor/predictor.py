"""The road of a prediction: images onto one grid, the region where a first model looked, and back.

What a bundle's transforms see, and where their answer belongs, is :mod:`models.tensors`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.utils.module import OptionalImportError
from numpy.typing import NDArray

from dicom.errors import MissingInput, MissingPackage
from models import answers
from models.building import Data, build, device_of, innermost
from models.bundle import Bundle
from models.clearing import without_boxes
from models.grids import Region, cropped, is_same_grid, laid_back, region_about
from models.memory import memory_errors
from models.prediction import (
    Answer,
    Boxes,
    Canceled,
    Image,
    Prediction,
    Progress,
    labels_of,
)
from models.predictor.beside import check_clearer, number_of_region
from models.predictor.looking import Looking
from models.predictor.meaning import Meaning
from models.running import Watch
from models.separable import quick_resampling
from models.tensors import (
    slice_tensor,
    stand_in,
    volume_tensor,
)

_SLICES_AT_ONCE = 8
_FIRST_SHARE = 0.3  # of the progress, that a cascade's first model is told as


class Predictor:
    """One bundle, loaded on one device, ready for images.

    Parameters
    ----------
    bundle : Bundle
        From :func:`models.bundle.read_bundle` or a registry.
    device : str
        'auto' (the first GPU when there is one), 'cpu', 'cuda:0' ...
    threads : int or None
        CPU threads of torch, for the whole process; None leaves them as they are.
    first : Predictor or None
        That of the bundle that looks first, for a bundle that names one (`bundle.after`).
    clearer : Predictor or None
        That of the bundle whose boxes are painted over before (`bundle.without`).
    choices : Path or None
        Folder where it is kept how networks are run best; None: found out by each process.

    Raises
    ------
    InvalidBundle
        When MONAI cannot build what the configuration says, the weights do not fit, or the bundle
        names another that looks first and `first` is not that.
    MissingDevice
        When the device is not there.
    OutOfMemory
        When the model does not fit into memory.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str = "auto",
        threads: int | None = None,
        first: Predictor | None = None,
        clearer: Predictor | None = None,
        choices: Path | None = None,
    ) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self.bundle = bundle
        self.device = device_of(device)
        self._first = first
        self._first_number = number_of_region(bundle, first.bundle if first else None)
        check_clearer(bundle, clearer.bundle if clearer else None)
        self._clearer = clearer if bundle.without is not None else None
        with memory_errors():
            self._parts = build(bundle, self.device)
        self._looking = Looking(bundle, self._parts, self.device, choices)
        self._meaning = Meaning(bundle, self._parts)

    def predict(
        self,
        voxels_kji: NDArray[np.generic],
        affine_lps: NDArray[np.float64],
        *,
        progress: Progress | None = None,
        canceled: Canceled | None = None,
    ) -> Prediction:
        """Return the answer for one image, of a bundle that needs one.

        Parameters
        ----------
        voxels_kji : ndarray, shape (slices, rows, columns)
            Image in the modality's unit (HU for CT).
        affine_lps : ndarray, float64, shape (4, 4)
            From index (k, j, i, 1) to LPS, mm.
        progress, canceled : callable or None
            As for :meth:`predict_images`, which says what is raised, too.
        """
        image = Image(voxels_kji, affine_lps)
        return self.predict_images(
            {self.bundle.inputs[0].name: image}, progress=progress, canceled=canceled
        )

    def predict_images(
        self,
        images: Mapping[str, Image],
        *,
        progress: Progress | None = None,
        canceled: Canceled | None = None,
    ) -> Prediction:
        """Return the answer for the images that the bundle needs.

        Parameters
        ----------
        images : Mapping of str to Image
            By the names of `bundle.inputs`.
        progress : callable or None
            Told the share that is done, 0 to 1.
        canceled : callable or None
            Asked before each window; True ends the prediction.

        Returns
        -------
        Prediction
            Its labels, masks or instances have the grid of the first input.

        Raises
        ------
        MissingInput
            When one of the images is not there.
        UnsuitableSeries, NoGeometry
            When an image is empty, not finite, or has no usable affine, or when the network answers
            with values that are not finite.
        CannotRegister, RegionNotFound
            When images do not fit together, or a first model found no region.
        Canceled
            When `canceled` said so.
        OutOfMemory
            When memory, of the device or the machine, does not suffice.
        MissingPackage
            When the network needs a package that is not installed.
        InvalidBundle
            When the bundle's transforms do not lead back to an answer on the given grid.
        """
        begun = time.perf_counter()
        watch = Watch(self.device, progress, canceled)
        with torch.inference_mode(), memory_errors(), self._parts.at_hand(), quick_resampling():
            try:
                answer = self._answer(self._cleared(self._placed(images), watch), watch)
            except OptionalImportError as error:  # of MONAI, as late as the network is run
                raise MissingPackage(f"the model needs a package: {innermost(error)}") from error
        watch.part(0.0, 1.0)
        watch.tell(1.0)
        return Prediction(
            answer=answer,
            forward_s=watch.forward_s,
            total_s=time.perf_counter() - begun,
            device=str(self.device),
            bundle_sha256=self.bundle.sha256,
            run_by=self._run_by(),
            choosing_s=watch.choosing_s,
            confidence=watch.tally.result() if watch.tally is not None else None,
        )

    def _run_by(self) -> str:
        """Return how the network was run, and why so."""
        choice = self._looking.choice
        return f"{choice.backend} ({'; '.join(choice.reasons)})" if choice is not None else "torch"

    # --- the images -----------------------------------------------------------------------------

    def _placed(self, images: Mapping[str, Image]) -> dict[str, Image]:
        """Return the bundle's images in its order, on the grid of the first."""
        names = [each.name for each in self.bundle.inputs]
        missing = [name for name in names if name not in images]
        if missing:
            raise MissingInput(f"the model needs an image for {', '.join(missing)}")
        chosen = {name: images[name] for name in names}
        first = chosen[names[0]]
        apart = self.bundle.registration == "always" or not all(
            is_same_grid(image, first)
            and image.frame_of_reference_uid == first.frame_of_reference_uid
            for image in chosen.values()
        )
        if len(names) == 1 or not apart:
            return chosen
        from models.registration import on_common_grid  # SimpleITK is loaded where it is needed

        return on_common_grid(chosen, registration=self.bundle.registration)

    def _cleared(self, images: dict[str, Image], watch: Watch) -> dict[str, Image]:
        """Return the images with what another bundle finds on the first of them painted over."""
        clearer, without = self._clearer, self.bundle.without
        if clearer is None or without is None:
            return images
        watch.part(0.0, 0.0)
        found = clearer._answer({clearer.bundle.inputs[0].name: next(iter(images.values()))}, watch)
        watch.part(0.0, 1.0)
        assert isinstance(found, Boxes)  # a detection's answer
        return {
            name: without_boxes(image, found, margin=without.margin)
            for name, image in images.items()
        }

    def _answer(self, images: dict[str, Image], watch: Watch) -> Answer:
        """Return the answer for images of one grid; in a cascade, for the region of the first."""
        if self._first is None:
            watch.tally = self._parts.tally(self.bundle)
            return self._look(images, watch)
        reference = next(iter(images.values()))
        watch.part(0.0, _FIRST_SHARE)
        region = self._first._region(images, watch, self.bundle, self._first_number)
        watch.part(_FIRST_SHARE, 1.0)
        watch.tally = self._parts.tally(self.bundle)
        found = self._look({name: cropped(image, region) for name, image in images.items()}, watch)
        return laid_back(found, region, reference.shape_kji)

    def _region(
        self, images: dict[str, Image], watch: Watch, wanted_by: Bundle, number: int
    ) -> Region:
        """Return where one segment of this bundle lies, for the bundle that looks there."""
        after = wanted_by.after
        reference = next(iter(images.values()))
        own = {each.name: images.get(each.name, reference) for each in self.bundle.inputs}
        labels_kji = labels_of(self._answer(own, watch))
        spacing = np.linalg.norm(reference.affine_lps[:3, :3], axis=0)
        margin_mm = after.margin_mm if after is not None else 0.0
        return region_about(labels_kji == number, tuple(spacing.tolist()), margin_mm)

    def _look(self, images: dict[str, Image], watch: Watch) -> Answer:
        """Return the bundle's own answer for images of one grid."""
        if self.bundle.dimensions == "3d":
            return self._look_at_volume(images, watch)
        return self._look_at_slices(images, watch)

    # --- whole volumes --------------------------------------------------------------------------

    def _look_at_volume(self, images: dict[str, Image], watch: Watch) -> Answer:
        passed = self._passed(images)
        if passed is None:
            data = self._data(lambda group, colour: volume_tensor(group, colour=colour), images)
            source, ready = next(iter(data.values())), self._preprocessed(data)
        else:
            source, ready = passed
        (left,) = self._run([ready], [source], watch)
        shape_kji = next(iter(images.values())).shape_kji
        return self._meaning.answer(left, source, shape_kji[::-1])

    def _passed(self, images: dict[str, Image]) -> tuple[MetaTensor, Data] | None:
        """Return where the images lie, and what the preprocessing gives, made in one pass."""
        passage, inputs = self._parts.passage, self.bundle.inputs
        plainly = len({each.key for each in inputs}) == len(inputs)
        if passage is None or not plainly or any(each.colour for each in inputs):
            return None
        given = {each.key: (images[each.name], stand_in(images[each.name])) for each in inputs}
        ready = passage.forth(given, torch.get_num_threads())
        return None if ready is None else (given[inputs[0].key][1], ready)

    # --- slice by slice -------------------------------------------------------------------------

    def _look_at_slices(self, images: dict[str, Image], watch: Watch) -> Answer:
        reference = next(iter(images.values()))
        count, rows, columns = reference.shape_kji
        found: list[Answer] = []
        begin, end = watch.bounds()
        for at in range(0, count, _SLICES_AT_ONCE):
            chosen = range(at, min(at + _SLICES_AT_ONCE, count))
            watch.part(
                begin + (end - begin) * chosen.start / count,
                begin + (end - begin) * chosen.stop / count,
            )
            each = [self._slice_data(images, k) for k in chosen]
            sources = [next(iter(data.values())) for data in each]
            ready = [self._preprocessed(data) for data in each]
            each_left = self._run(ready, sources, watch)
            for k, left, source in zip(chosen, each_left, sources, strict=True):
                found.append(self._meaning.answer(left, source, (columns, rows), reference, k))
            watch.tell(1.0)
        return answers.stacked(self.bundle.task, found)

    def _slice_data(self, images: dict[str, Image], k: int) -> Data:
        return self._data(
            lambda group, colour: slice_tensor(
                group, k, neighbours=self.bundle.neighbours, colour=colour
            ),
            images,
        )

    # --- the bundle's own road ------------------------------------------------------------------

    def _data(self, tensor: Any, images: dict[str, Image]) -> Data:  # noqa: ANN401
        """Return what the preprocessing is given: one tensor a key, of all inputs of that key."""
        data: Data = {}
        ordered = sorted(self.bundle.inputs, key=lambda each: self._key_order(each.key))
        for key, group in groupby(ordered, key=lambda each: each.key):
            inputs = list(group)
            colour = any(each.colour for each in inputs)
            data[key] = tensor([images[each.name] for each in inputs], colour)
        return data

    def _key_order(self, key: str) -> int:
        return [each.key for each in self.bundle.inputs].index(key)

    def _run(
        self, ready: Sequence[Data], sources: Sequence[MetaTensor], watch: Watch
    ) -> list[Data]:
        """Return what the bundle leaves of each preprocessed image: looked at, postprocessed."""
        images = [self._looking.image_of(data) for data in ready]
        raw, mapped = self._looking.look(images, watch)
        return [
            self._meaning.postprocessed(data, image, one, mapped, source)
            for data, image, one, source in zip(ready, images, raw, sources, strict=True)
        ]

    def _preprocessed(self, data: Data) -> Data:
        ready = self._parts.preprocess(data)
        if not isinstance(ready, dict):
            raise self.bundle.fault("preprocessing gives no dictionary of images")
        return ready
