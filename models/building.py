"""What a bundle's configuration stands for: transforms, inferer, network with its weights.

Only for the process that predicts: MONAI and torch are loaded here.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from monai.bundle.config_parser import ConfigParser
from monai.inferers.inferer import Inferer as MonaiInferer
from monai.transforms.compose import Compose
from monai.transforms.post.dictionary import Activationsd, AsDiscreted
from monai.transforms.spatial.array import Spacing
from monai.transforms.spatial.dictionary import Spacingd
from monai.utils.module import OptionalImportError

from dicom.errors import InvalidBundle, MissingDevice, MissingPackage
from models.allowed import (
    LOAD,
    Json,
    allowed_configuration,
    find_class,
    pretrained_arguments,
)
from models.bundle import Bundle
from models.code import OwnCode
from models.confidence import Tally
from models.discrete import quicken
from models.expressions import FEATURE_EXTRACTOR
from models.memory import is_memory_error
from models.networks.onnx import OnnxNetwork
from models.passage import Passage, WayHome, is_argmax, is_softmax
from models.tasks import Segmentation

Data: TypeAlias = dict[str, Any]
Transform: TypeAlias = Callable[[Data], Data]
Network: TypeAlias = Callable[..., torch.Tensor]
Inferer: TypeAlias = Callable[[torch.Tensor, Network], Any]

# Arguments of older bundles that today's classes take no more; the network is the same without.
_GONE = {"SwinUNETR": frozenset({"img_size"})}
_STATES = ("model", "network", "state_dict", "model_state_dict")


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """A bundle's configuration, built.

    Attributes
    ----------
    preprocess, postprocess : callable
        From and to a dictionary of images; postprocess is None where the bundle has none.
    after_argmax : callable or None
        The postprocessing from after its argmax on, where that comes first (a softmax before it
        changes no argmax): for the predictor that takes the argmax while windows are stitched.
    threshold : float or None
        What the postprocessing ended with, and the predictor does instead: from there on, a voxel
        is in the segment. It saves two copies of the whole source grid in float32.
    passage : Passage or None
        The preprocessing in one pass, where it begins as most do.
    home, home_of_map : WayHome or None
        Postprocessing and `after_argmax` in one pass, where they lead home as most do.
    inferer : callable, or None
        Lays the network over an image; None for a detection with a `detector`.
    detector : Module, or None
        MONAI's detector around the network.
    network : Module
        With its weights, on its device, ready to predict.
    own_code : OwnCode or None
        The bundle's own ``scripts``, where its configuration calls them.
    """

    preprocess: Transform
    postprocess: Transform | None
    after_argmax: Transform | None
    threshold: float | None
    passage: Passage | None
    home: WayHome | None
    home_of_map: WayHome | None
    inferer: Inferer | None
    detector: torch.nn.Module | None
    network: torch.nn.Module
    own_code: OwnCode | None

    def tally(self, bundle: Bundle) -> Tally | None:
        """Return what sums up the network's probabilities; None where it gives none of segments.

        It does where the postprocessing takes an argmax of what the network says, after a softmax
        or not, or a threshold of its sigmoid.
        """
        task, name = bundle.task, bundle.output_name
        if not isinstance(task, Segmentation) or task.value_numbers is not None:
            return None
        ways = self.postprocess
        steps = list(ways.transforms) if isinstance(ways, Compose) else []
        sigmoid = any(isinstance(step, Activationsd) and any(step.sigmoid) for step in steps)
        if task.overlapping:
            at = self.threshold if self.threshold is not None else 0.5
            return Tally(task.channel_numbers, at) if sigmoid else None
        largest = any(is_argmax(step, name) for step in steps) and not sigmoid
        return Tally(task.channel_numbers) if largest and len(task.channel_numbers) > 1 else None

    def at_hand(self) -> AbstractContextManager[None]:
        """Let the bundle's own code be imported from inside its functions."""
        return self.own_code.at_hand() if self.own_code is not None else nullcontext()


def build(bundle: Bundle, device: torch.device) -> Parts:
    """Return the parts of a bundle, on a device.

    Raises
    ------
    InvalidBundle
        When MONAI cannot build what the configuration says, or the weights do not fit.
    """
    own_code = OwnCode(bundle.root) if bundle.code_sha256 else None
    with own_code.at_hand() if own_code is not None else nullcontext():
        parser = _parser(bundle, device)
        network = _network(bundle, parser, device)
        detector = _detector(bundle, parser, device) if "detector" in parser else None
        preprocess = cast(Transform, _part(bundle, parser, "preprocessing"))
        postprocess, threshold = _postprocess(bundle, parser)
        after_argmax = _after_argmax(bundle, postprocess)
        _check_background(bundle, postprocess)
        passage = Passage.of(preprocess) if bundle.dimensions == "3d" else None
        homes = [
            WayHome.of(passage, preprocess, way, bundle.output_name, threshold)
            if isinstance(bundle.task, Segmentation)
            else None
            for way in (postprocess, after_argmax)
        ]
        return Parts(
            preprocess=preprocess,
            postprocess=postprocess,
            after_argmax=after_argmax,
            threshold=threshold,
            passage=passage,
            home=homes[0],
            home_of_map=homes[1],
            inferer=cast(Inferer, _part(bundle, parser, "inferer"))
            if "inferer" in parser
            else None,
            detector=detector,
            network=network,
            own_code=own_code,
        )


def _postprocess(bundle: Bundle, parser: ConfigParser) -> tuple[Transform | None, float | None]:
    """Return the postprocessing without a threshold at its end, and the threshold."""
    if "postprocessing" not in parser:
        return None, None
    whole = _part(bundle, parser, "postprocessing")
    quicken(whole)
    steps = list(whole.transforms) if isinstance(whole, Compose) else []
    last = steps[-1] if steps else None
    if isinstance(last, AsDiscreted) and tuple(last.keys) == (bundle.output_name,):
        others = (*last.argmax, *last.to_onehot, *last.rounding, last.converter.argmax)
        if not any(others) and last.threshold[0] is not None:
            return cast(Transform, Compose(steps[:-1])), float(last.threshold[0])
    return cast(Transform, whole), None


def _check_background(bundle: Bundle, postprocess: Transform | None) -> None:
    """Refuse windows that are not looked at where their answer, zeros, would not be background."""
    if not isinstance(bundle.task, Segmentation) or bundle.task.background is None:
        return
    name = bundle.output_name
    steps = list(postprocess.transforms) if isinstance(postprocess, Compose) else []
    sigmoid = any(isinstance(step, Activationsd) and any(step.sigmoid) for step in steps)
    if sigmoid or not any(is_argmax(step, name) for step in steps):
        raise wrong(
            bundle,
            "postprocessing",
            "takes no argmax of what the network says; it needs "
            "one where the table says radloop.background",
        )


def _after_argmax(bundle: Bundle, postprocess: Transform | None) -> Transform | None:
    """Return what a postprocessing that begins with an argmax of the answer does after it."""
    steps = list(postprocess.transforms) if isinstance(postprocess, Compose) else []
    if steps and is_softmax(steps[0], bundle.output_name):
        steps = steps[1:]
    if not steps or not is_argmax(steps[0], bundle.output_name):
        return None
    return cast(Transform, Compose(steps[1:]))


def device_of(wish: str) -> torch.device:
    """Return the device that 'auto', 'cpu', 'cuda' or 'cuda:1' means.

    Raises
    ------
    MissingDevice
        When it is not there.
    """
    if wish == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wish)
    except RuntimeError:
        raise MissingDevice(f"{wish!r} is no device: auto, cpu, cuda or cuda:1") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise MissingDevice(f"this machine has {torch.cuda.device_count()} GPUs, not {wish}")
    return device


def wrong(bundle: Bundle, section: str, what: str) -> InvalidBundle:
    """Return the error that names a section of the bundle's configuration."""
    return InvalidBundle(
        f"bundle {bundle.identity}: configs/{bundle.configuration.name}: {section} {what}"
    )


def _parser(bundle: Bundle, device: torch.device) -> ConfigParser:
    """Return MONAI's parser over what is allowed, with classes in place of their names."""
    file = f"configs/{bundle.configuration.name}"
    sections = allowed_configuration(bundle.configuration.read_text("utf-8"), file)
    try:
        configuration = cast(dict[str, Any], _with_classes(sections, bool(bundle.code_sha256)))
    except InvalidBundle as error:
        raise InvalidBundle(f"bundle {bundle.identity}: {file}: {error.message}") from error
    configuration["device"] = device

    def load(file: str) -> object:
        return _plain_data(bundle, file)

    return ConfigParser(configuration, globals={LOAD: load, FEATURE_EXTRACTOR: _feature_extractor})


def _with_classes(value: Json, own_code: bool) -> object:
    """Return `value` with classes in place of their names: MONAI looks up no name itself."""
    if isinstance(value, list):
        return [_with_classes(item, own_code) for item in value]
    if not isinstance(value, dict):
        return value
    if "_target_" not in value:
        return {key: _with_classes(item, own_code) for key, item in value.items()}
    found = find_class(str(value["_target_"]), own_code=own_code)
    given = {
        key: _with_classes(item, own_code)
        for key, item in value.items()
        if key != "_target_" and key not in _GONE.get(found.__name__, ())
    }
    if issubclass(found, MonaiInferer) and "progress" in given:
        given["progress"] = False  # MONAI's bar, on a terminal; ours is told to the caller
    return {"_target_": found, **pretrained_arguments(found), **_single(found), **given}


def _single(found: type) -> dict[str, Any]:
    """Return what makes resampling work in float32: MONAI's default takes twice the memory."""
    return {"dtype": torch.float32} if found in (Spacing, Spacingd) else {}


def _feature_extractor(*arguments: Any, **named: Any) -> torch.nn.Module:  # noqa: ANN401
    from models.networks.pyramid import resnet_fpn_feature_extractor

    return resnet_fpn_feature_extractor(*arguments, **named)


def _content(bundle: Bundle, parser: ConfigParser, section: str) -> object:
    try:
        content: object = parser.get_parsed_content(section)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        if is_memory_error(error):
            raise
        if _is_missing_package(error):
            raise MissingPackage(
                f"bundle {bundle.identity} needs a package: {innermost(error)}"
            ) from error
        raise wrong(bundle, section, f"cannot be built: {innermost(error)}") from error
    return content


def _is_missing_package(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OptionalImportError):
            return True
        error = error.__cause__
    return False


def _part(bundle: Bundle, parser: ConfigParser, section: str) -> object:
    """Return the object that a section of the configuration stands for."""
    part = _content(bundle, parser, section)
    if not callable(part):
        raise wrong(bundle, section, "is not something to call; it needs a _target_")
    return part


def _network(bundle: Bundle, parser: ConfigParser, device: torch.device) -> torch.nn.Module:
    """Return the network with its weights, ready to predict."""
    file = f"models/{bundle.weights.name}"
    try:
        network: object
        if bundle.weights.suffix == ".ts":
            path = str(bundle.weights)
            network = torch.jit.load(path, device)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        elif bundle.weights.suffix == ".onnx":
            network = OnnxNetwork(bundle.weights, device)
        else:
            network = _part(bundle, parser, "network_def")
            if isinstance(network, torch.nn.Module):
                network.load_state_dict(_state(bundle))
    except (RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        if is_memory_error(error):
            raise
        raise InvalidBundle(
            f"bundle {bundle.identity}: {file} cannot be loaded: {innermost(error)}"
        ) from error
    if not isinstance(network, torch.nn.Module):
        raise wrong(bundle, "network_def", "is not a network")
    return network.to(device).eval()


def _detector(bundle: Bundle, parser: ConfigParser, device: torch.device) -> torch.nn.Module:
    """Return MONAI's detector, set up by the bundle's ``detector_ops``."""
    detector = _part(bundle, parser, "detector")
    if not isinstance(detector, torch.nn.Module):
        raise wrong(bundle, "detector", "is not a detector")
    if "detector_ops" in parser:
        _content(bundle, parser, "detector_ops")
    return detector.to(device).eval()


def _state(bundle: Bundle) -> Mapping[str, torch.Tensor]:
    """Return the state dict of model.pt: bare, or under the name that MONAI's trainers give it."""
    content: object = torch.load(bundle.weights, map_location="cpu", weights_only=True)
    if isinstance(content, dict):
        for name in _STATES:
            if isinstance(content.get(name), dict):
                content = content[name]
                break
    if not isinstance(content, dict) or not content:
        raise ValueError("it holds no state dict")
    return cast(dict[str, torch.Tensor], content)


def _plain_data(bundle: Bundle, file: str) -> object:
    """Return what a file of the bundle's models/ holds: tensors, arrays, numbers; no code runs."""
    arrays: list[Any] = [np.ndarray, np.dtype]
    arrays.append(np.empty(0).__reduce__()[0])  # what numpy's own pickles call
    arrays += [type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "u1", "?")]
    with torch.serialization.safe_globals(arrays):
        content: object = torch.load(bundle.root / file, map_location="cpu", weights_only=True)
    return content


def innermost(error: BaseException) -> str:
    """Return what the first error of a chain said, on one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
