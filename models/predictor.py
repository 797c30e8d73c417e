"""A bundle at work: images in, an answer on the grid of the first of them out.

What a bundle's transforms see, and where their answer belongs, is :mod:`models.tensors`; what the
answer means is :mod:`models.answers`. This file is the road between them: images onto one grid,
the region where a first model looked, whole volumes or slice by slice, and back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.inferers.inferer import SimpleInferer, SlidingWindowInferer
from monai.utils.module import OptionalImportError
from numpy.typing import NDArray

from dicom.errors import InvalidBundle, MissingInput, MissingPackage, UnsuitableSeries
from models import answers
from models.backends import Chosen
from models.building import Data, build, device_of, innermost
from models.bundle import Bundle
from models.clearing import without_boxes
from models.confidence import Tally
from models.grids import Region, cropped, is_same_grid, laid_back, region_about
from models.memory import memory_errors
from models.networks.onnx import OnnxNetwork
from models.prediction import (
    Answer,
    Boxes,
    Canceled,
    Floats,
    Image,
    Prediction,
    Progress,
    labels_of,
)
from models.registry import Registry
from models.running import Watch, Watched
from models.separable import quick_resampling
from models.sliding import NotOneMap, Skip, Sliding, slide
from models.stitching import is_finite
from models.tasks import Classification, Detection, InstanceSegmentation, Segmentation
from models.tensors import (
    map_on_source_grid,
    on_source_grid,
    plain,
    slice_tensor,
    stand_in,
    volume_tensor,
    with_place,
    world_lps,
)

_AT_HOME = "radloop_at_home"  # says of what is left that the threshold was applied
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
        self._first_number = _number_of_region(bundle, first)
        self._clearer = _checked_clearer(bundle, clearer)
        with memory_errors():
            self._parts = build(bundle, self.device)
        self._network = self._chosen(choices)

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
        choice = self._network.choice if self._network is not None else None
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
        return self._meaning(left, source, shape_kji[::-1])

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
                found.append(self._meaning(left, source, (columns, rows), reference, k))
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
        images = [self._network_image(data) for data in ready]
        raw, mapped = self._looked_at(images, watch)
        return [
            self._postprocessed(data, image, one, mapped, source)
            for data, image, one, source in zip(ready, images, raw, sources, strict=True)
        ]

    def _preprocessed(self, data: Data) -> Data:
        ready = self._parts.preprocess(data)
        if not isinstance(ready, dict):
            raise self._wrong("preprocessing gives no dictionary of images")
        return ready

    def _network_image(self, data: Data) -> torch.Tensor:
        """Return what the network is given: channel first, the spatial axes after it."""
        spatial = 3 if self.bundle.dimensions == "3d" else 2
        missing = [key for key in self.bundle.network_keys if key not in data]
        if missing:
            raise self._wrong(f"preprocessing leaves no {', '.join(missing)}")
        given = [data[key] for key in self.bundle.network_keys]
        for image in given:
            if image.ndim != spatial + 1:
                axes = "three" if spatial == 3 else "two"
                raise self._wrong(f"preprocessing gives {image.ndim} axes, not channel and {axes}")
        return given[0] if len(given) == 1 else torch.cat(given)

    def _chosen(self, folder: Path | None) -> Chosen | None:
        """Return the network run in the fastest way that says the same, for what can be judged."""
        task, network = self.bundle.task, self._parts.network
        if not isinstance(task, Segmentation) or isinstance(network, OnnxNetwork):
            return None
        return Chosen(
            network,
            self.device,
            key=self.bundle.sha256,
            overlapping=task.overlapping,
            folder=folder,
        )

    def _looked_at(self, images: Sequence[torch.Tensor], watch: Watch) -> tuple[list[Any], bool]:
        """Return what the network says of each image, and whether as a map of the largest."""
        network = Watched(self._parts.network, watch, self._network)
        if self._parts.detector is not None:
            return [self._detections(image, network) for image in images], False
        inferer = self._parts.inferer
        if inferer is None:
            raise self._wrong("inferer is missing")
        plainly = isinstance(inferer, SimpleInferer | SlidingWindowInferer)
        together = plainly and len({tuple(image.shape) for image in images}) == 1
        batches = [list(images)] if together else [[image] for image in images]
        found: list[Any] = []
        mapped = False
        for batch in batches:
            network.expect_windows(inferer, batch[0], len(batch))
            plain_ones = [plain(image) for image in batch]
            stack = torch.stack(plain_ones) if len(batch) > 1 else plain_ones[0][None]
            answer = self._slid(stack, network, watch.tally) if plainly else None
            mapped = answer is not None and self._parts.after_argmax is not None
            if answer is None:
                answer = inferer(stack.to(self.device), network)
            found += [self._one(answer, n) for n in range(len(batch))]
            if watch.tally is not None and not mapped:
                for raw in found[-len(batch) :]:
                    if isinstance(raw, torch.Tensor):
                        watch.tally.add_map(raw)
        return found, mapped

    def _slid(
        self, images_bcxyz: torch.Tensor, network: Watched, tally: Tally | None
    ) -> torch.Tensor | None:
        """Return the answer of a sliding window; None for what is left to MONAI's inferer."""
        inferer = self._parts.inferer
        sliding = Sliding.of(inferer, images_bcxyz.dim() - 2)
        if sliding is None or not isinstance(self.bundle.task, Segmentation):
            return None

        def said(windows: torch.Tensor) -> Any:  # noqa: ANN401 - what the network says
            answer = network(windows)
            if isinstance(answer, torch.Tensor) and not is_finite(answer):
                raise UnsuitableSeries("the network answers with values that are no numbers")
            return answer

        stitched_at = torch.device(getattr(inferer, "device", None) or self.device)
        looked_at = torch.device(getattr(inferer, "sw_device", None) or self.device)
        argmax = self._parts.after_argmax is not None
        try:
            return slide(
                images_bcxyz.to(stitched_at),
                said,
                sliding,
                finish="argmax" if argmax else "logits",
                skip=_skip(self.bundle.task),
                to=looked_at,
                tally=tally,
                at_once=network.at_once,
            )
        except NotOneMap:
            return None

    def _one(self, answer: Any, n: int) -> Any:  # noqa: ANN401 - a tensor, or several by name
        """Return the nth of a batch's answers."""
        if isinstance(answer, Mapping):
            if isinstance(self.bundle.task, Detection):
                return answer
            return {name: self._one(part, n) for name, part in answer.items()}
        if isinstance(answer, list | tuple):
            return answer[n] if isinstance(answer[n], Mapping) else self._one(answer[0], n)
        if not is_finite(answer):
            raise UnsuitableSeries("the network answers with values that are no numbers")
        return answer[n]

    def _detections(self, image: torch.Tensor, network: Watched) -> Any:  # noqa: ANN401
        """Return the boxes that a detector finds; a large image window by window."""
        detector: Any = self._parts.detector
        detector.network = network
        window = getattr(detector.inferer, "roi_size", None)
        by_windows = window is not None and int(np.prod(image.shape[1:])) >= int(np.prod(window))
        return detector([plain(image).to(self.device)], use_inferer=by_windows)[0]

    def _postprocessed(
        self,
        data: Data,
        image: torch.Tensor,
        raw: Any,  # noqa: ANN401
        mapped: bool,
        source: MetaTensor,
    ) -> Data:
        """Return what the bundle's postprocessing leaves; a detection's is ours, not its."""
        task, name = self.bundle.task, self.bundle.output_name
        if isinstance(task, Detection):
            return {**data, name: raw, "radloop_image": image}
        if not isinstance(task, Classification):
            raw = self._in_place(raw, image)
        left = {**data, name: raw}
        home = self._parts.home_of_map if mapped else self._parts.home
        found = home.back(left, source, torch.get_num_threads()) if home is not None else None
        if found is not None:
            return {**found, _AT_HOME: True}
        if mapped and self._parts.after_argmax is not None:
            return self._parts.after_argmax({**left, name: raw.float()})  # as AsDiscreted gives it
        ours = isinstance(task, Classification) and task.activation != "none"
        return left if ours or self._parts.postprocess is None else self._parts.postprocess(left)

    def _in_place(self, raw: Any, image: torch.Tensor) -> Any:  # noqa: ANN401
        if isinstance(raw, Mapping):
            return {name: self._in_place(part, image) for name, part in raw.items()}
        if raw.shape[1:] != image.shape[1:]:
            raise self._wrong("network_def gives another grid than it is given")
        try:
            return with_place(raw, image)
        except InvalidBundle as error:
            raise self._wrong(error.message) from None

    # --- what it means --------------------------------------------------------------------------

    def _meaning(
        self,
        left: Data,
        source: MetaTensor,
        spatial: tuple[int, ...],
        reference: Image | None = None,
        k: int = 0,
    ) -> Answer:
        """Return what the postprocessing left as an answer on the source's grid."""
        task = self.bundle.task
        try:
            if isinstance(task, Classification):
                return answers.classified(task, left[self.bundle.output_name])
            if isinstance(task, Detection):
                return self._boxes(task, left, reference, k)
            if isinstance(task, InstanceSegmentation):
                main = task.map_name or self.bundle.output_name
                kinds = task.kinds_name
                numbered = _volume(map_on_source_grid(left[main], source, spatial))
                if self._parts.threshold is not None:
                    numbered = (numbered >= self._parts.threshold).view(torch.uint8)
                return answers.instances(
                    task,
                    numbered,
                    _volume(map_on_source_grid(left[kinds], source, spatial)) if kinds else None,
                )
            answer = _volume(on_source_grid(left[self.bundle.output_name], source, spatial))
            if self._parts.threshold is not None and not left.get(_AT_HOME):
                answer = (answer >= self._parts.threshold).view(torch.uint8)
            return answers.segmented(task, answer)
        except KeyError as error:
            raise self._wrong(f"postprocessing leaves no {error}") from None
        except InvalidBundle as error:
            raise self._wrong(error.message) from None

    def _boxes(self, task: Detection, left: Data, reference: Image | None, k: int) -> Boxes:
        image = left["radloop_image"]
        corners, classes, scores = answers.boxes_of(left[self.bundle.output_name])
        size = np.array(image.shape[1:], dtype=np.float64)
        axes = len(size)
        # Voxel n reaches from n - 0.5 to n + 0.5: so does the image, from its first to its last.
        low = np.clip(corners[:, :axes], -0.5, size - 0.5)
        high = np.clip(corners[:, axes:], -0.5, size - 0.5)
        real = (high > low).all(axis=1)
        places = []
        for a, b in zip(low[real], high[real], strict=True):
            points = np.stack(np.meshgrid(*zip(a, b, strict=True), indexing="ij"), axis=-1)
            points = points.reshape(-1, axes)
            if reference is None:
                places.append(world_lps(points, image))
            else:
                places.append(_slice_places(points, image, reference, k))
        return answers.detected(task, places, classes[real].tolist(), scores[real].tolist())

    def _wrong(self, what: str) -> InvalidBundle:
        return InvalidBundle(f"configs/{self.bundle.configuration.name}: {what}")


def open_predictor(
    bundle: Bundle,
    registry: Callable[[], Registry],
    *,
    device: str = "auto",
    threads: int | None = None,
    at_hand: Mapping[str, Predictor] | None = None,
    choices: Path | None = None,
) -> Predictor:
    """Return a predictor for a bundle, and for those that look first.

    Parameters
    ----------
    registry : callable
        Called where another bundle looks first: where to find that.
    at_hand : Mapping of str to Predictor
        Predictors that are loaded already, by NAME@VERSION.
    choices : Path or None
        As for :class:`Predictor`.

    Raises
    ------
    UnknownBundle, InvalidBundle
        When it, or one that looks first, is not there or broken, or they look in a circle.
    MissingDevice, OutOfMemory
        As for :class:`Predictor`.
    """
    chain = [bundle]
    while (after := chain[-1].after) is not None:
        if after.bundle in (each.identity for each in chain):
            raise InvalidBundle(f"bundle {bundle.identity}: radloop.after leads in a circle")
        chain.append(registry().get(after.bundle))
    first: Predictor | None = None
    for each in reversed(chain[1:]):
        warm = (at_hand or {}).get(each.identity)
        first = warm or Predictor(
            each,
            device=device,
            threads=threads,
            first=first,
            clearer=_clearer_of(each, registry, device=device, at_hand=at_hand),
            choices=choices,
        )
    return Predictor(
        bundle,
        device=device,
        threads=threads,
        first=first,
        clearer=_clearer_of(bundle, registry, device=device, at_hand=at_hand),
        choices=choices,
    )


def _clearer_of(
    bundle: Bundle,
    registry: Callable[[], Registry],
    *,
    device: str,
    at_hand: Mapping[str, Predictor] | None,
) -> Predictor | None:
    """Return the predictor of the bundle whose boxes are painted over; None where there is none."""
    if bundle.without is None:
        return None
    warm = (at_hand or {}).get(bundle.without.bundle)
    return warm or Predictor(registry().get(bundle.without.bundle), device=device)


def _checked_clearer(bundle: Bundle, clearer: Predictor | None) -> Predictor | None:
    """Return what paints over for a bundle, where it names one.

    Raises
    ------
    InvalidBundle
        When it is not what the bundle names, finds no boxes, or needs more than one image.
    """
    if bundle.without is None:
        return None
    wanted = bundle.without.bundle
    if clearer is None or clearer.bundle.identity != wanted:
        raise InvalidBundle(f"bundle {bundle.identity} works with {wanted} only")
    theirs = clearer.bundle
    if not isinstance(theirs.task, Detection) or len(theirs.inputs) != 1 or theirs.without:
        raise InvalidBundle(f"bundle {bundle.identity}: radloop.without: {wanted} finds no boxes")
    return clearer


def _number_of_region(bundle: Bundle, first: Predictor | None) -> int:
    """Return the number of the segment where `bundle` looks, among those of the first model."""
    if bundle.after is None:
        return 0
    if first is None or first.bundle.identity != bundle.after.bundle:
        raise InvalidBundle(f"bundle {bundle.identity} works after {bundle.after.bundle} only")
    for segment in first.bundle.segments:
        if segment.label.casefold() == bundle.after.segment.casefold():
            return segment.number
    raise InvalidBundle(
        f"bundle {bundle.identity}: radloop.after.segment: {bundle.after.bundle} has no "
        f"{bundle.after.segment!r}"
    )


def _skip(task: Segmentation) -> Skip | None:
    """Return what says of a window that it is background; None where every one is looked at."""
    level = task.background
    return None if level is None else lambda window: float(window.amax()) <= level


def _volume(answer: torch.Tensor) -> torch.Tensor:
    """Return a picture, (c, i, j), as a volume of one slice; a volume as it is."""
    return answer if answer.ndim == 4 else answer[..., None]


def _slice_places(points_ij: Floats, image: torch.Tensor, reference: Image, k: int) -> Floats:
    """Return points of a preprocessed slice, shape (n, 2), in LPS, on both faces of slice k."""
    if not isinstance(image, MetaTensor):
        raise InvalidBundle("preprocessing loses the image's affine; leave MetaTensor tracking on")
    affine = image.affine.to(torch.float64).cpu().numpy()
    spacing = np.linalg.norm(reference.affine_lps[:3, [2, 1]], axis=0)
    i, j = ((points_ij @ affine[:2, :2].T + affine[:2, -1]) / spacing).T
    faces = [np.stack([np.full_like(i, k + side), j, i], axis=1) for side in (-0.5, 0.5)]
    index_kji = np.concatenate(faces)
    places: Floats = index_kji @ reference.affine_lps[:3, :3].T + reference.affine_lps[:3, 3]
    return places
