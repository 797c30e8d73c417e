"""What a bundle's inference.json, or .yaml, may ask for.

A MONAI configuration is a program: ``_target_`` calls anything that can be imported, ``$``
evaluates Python, ``%`` reads files. A bundle from elsewhere could so reach the disk or the network.
This room reads the configuration as text, without torch or MONAI, and lets through only this:

=============  =====================================================================================
Part           Allowed
=============  =====================================================================================
sections       ``preprocessing``, ``network_def``, ``inferer``, ``postprocessing``, for a detection
               ``detector`` and ``detector_ops``, and what they refer to with ``@``; the rest
               (datasets, evaluators, imports) is dropped unread
``_target_``   a class of :data:`PACKAGES`, by its own name (``Spacingd``) or its full one, that is
               not :data:`REFUSED`; or one of the bundle's own ``scripts``, once that is allowed
``$``          the small language of :mod:`models.expressions`; and ``torch.load`` of a file in the
               bundle's ``models/``, read as plain data
``%``          nothing: a macro can read any file
=============  =====================================================================================

Steps in lists that load or save files are taken out: arrays come from memory and go to memory.
Arguments named ``pretrained`` are turned off: the weights are the bundle's own. :func:`find_class`
is the second half, for where MONAI is loaded: it finds the class that a name means and checks that
it really lives in :data:`PACKAGES`.
"""

from __future__ import annotations

import json
import re
from importlib import import_module
from inspect import isclass, signature
from typing import TypeAlias

import yaml

from dicom.errors import InvalidBundle
from models.code import PACKAGE
from models.expressions import REFERENCE, check_expression, loaded_name, plain_text

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

INFERENCE = "configs/inference.json"
SECTIONS = ("preprocessing", "network_def", "inferer", "postprocessing")
DETECTION = ("preprocessing", "network_def", "detector", "detector_ops")
"""Sections of a detection: its boxes are placed by us, not by inferer and postprocessing."""

# A bare name is looked for in this order.
PACKAGES = (
    "monai.transforms",
    "monai.networks.nets",
    "monai.networks.blocks",
    "monai.networks.layers",
    "monai.inferers",
    "monai.apps.detection.networks",
    "monai.apps.detection.utils",
    "monai.apps.detection.transforms.dictionary",
    "monai.apps.pathology.inferers",
    "monai.apps.pathology.transforms",
    "models.networks",
    "models.adapters",
    "torch.nn",
)
_IN_MODULES = {  # classes of the zoo that no package above hands on by name
    "RetinaNetDetector": "monai.apps.detection.networks.retinanet_detector",
    "RetinaNet": "monai.apps.detection.networks.retinanet_network",
    "AnchorGeneratorWithAnchorShape": "monai.apps.detection.utils.anchor_utils",
    "AnchorGenerator": "monai.apps.detection.utils.anchor_utils",
}

REFUSED = re.compile(
    r"(Rand)?(LoadImage|SaveImage|SaveClassification|WriteFileMapping"  # read and write files
    r"|ZarrAvgMerger|WSISlidingWindowSplitter"  # likewise
    r"|TorchVision|TorchIO|CuCIM|PatchInferer"  # call what a string names
    r"|CellSamWrapper|Transchex|BertPreTrainedModel|MILModel"  # fetch weights
    r")(D|d|Dict)?"
)

# Given by the predictor, whatever the bundle says of it.
GIVEN = frozenset({"device"})
LOAD = "radloop_load"
"""What a permitted ``torch.load`` is turned into: a function of the predictor's."""

_FILES = re.compile(
    r"(monai\.transforms\.([a-z_]+\.)*)?(LoadImage|SaveImage|SaveClassification)(D|d|Dict)?"
)
_TARGET = re.compile(r"((?:[a-z][a-z0-9_]*\.)*)([A-Z][A-Za-z0-9_]*)")
_OWN_TARGET = re.compile(rf"{PACKAGE}(\.[A-Za-z_][A-Za-z0-9_]*)+")
_IN_MODELS = re.compile(r"\$\s*@bundle_root\s*\+\s*['\"]/(models/[A-Za-z0-9_][A-Za-z0-9_.-]*)['\"]")
_RELATIVE = re.compile(r"[@%](#|::)")
_CONTROL = frozenset({"_target_", "_disabled_", "_requires_", "_desc_", "_mode_"})


def allowed_configuration(text: str, file: str = INFERENCE) -> dict[str, Json]:
    """Return the part of a configuration that a prediction runs, when all of it is allowed.

    Parameters
    ----------
    text : str
        The content of configs/inference.json, .yaml or .yml.
    file : str
        Its name: the ending says how it is read.

    Returns
    -------
    dict of str to Json
        The sections as far as they are present and what they refer to, without steps that load or
        save images; ready for ``monai.bundle.ConfigParser``.

    Raises
    ------
    InvalidBundle
        When it is no object of JSON or YAML, refers to what is not there, or asks for what is not
        allowed; the message names the place and the offender.
    """
    try:
        return _reachable(_document(text, file))
    except RecursionError:
        raise InvalidBundle(f"{file} is nested too deeply") from None
    except InvalidBundle as error:
        raise InvalidBundle(f"{file}{error.message}") from None


def calls_own_code(value: Json) -> bool:
    """Return whether a configuration asks for classes of the bundle's own ``scripts``."""
    if isinstance(value, list):
        return any(calls_own_code(item) for item in value)
    if not isinstance(value, dict):
        return False
    target = value.get("_target_")
    own = isinstance(target, str) and _OWN_TARGET.fullmatch(target) is not None
    return own or any(calls_own_code(item) for item in value.values())


def find_class(target: str, *, own_code: bool = False) -> type:
    """Return the class that an allowed ``_target_`` means; imports MONAI.

    Parameters
    ----------
    target : str
        The class's own name or its full one.
    own_code : bool
        Whether the bundle's own ``scripts`` were allowed and are at hand.

    Raises
    ------
    InvalidBundle
        When there is no such class, or the name leads out of :data:`PACKAGES`.
    """
    if own_code and _OWN_TARGET.fullmatch(target):
        return _own_class(target)
    package, name = _split(target)
    for module in (package,) if package else (*PACKAGES, _IN_MODULES.get(name, "")):
        try:
            found = getattr(import_module(module), name, None) if module else None
        except ModuleNotFoundError:
            continue
        if isclass(found) and _within_packages(found.__module__):
            return found
    raise InvalidBundle(f"no class {target} in the installed MONAI or torch")


def pretrained_arguments(found: type) -> dict[str, Json]:
    """Return the arguments that keep a class from fetching weights that it was not asked for."""
    try:
        parameters = signature(found).parameters.values()
    except ValueError:  # a class written in C does not say
        return {}
    wanted = [each for each in parameters if each.name.startswith("pretrained")]
    return {each.name: False for each in wanted if each.default is True}


def _own_class(target: str) -> type:
    module, _, name = target.rpartition(".")
    try:
        found = getattr(import_module(module), name, None)
    except ImportError as error:
        raise InvalidBundle(f"{target} cannot be imported: {error}") from None
    if not isclass(found):
        raise InvalidBundle(f"there is no class {target} in the bundle's code")
    return found


def _document(text: str, file: str) -> dict[str, Json]:
    try:
        if file.endswith(".json"):
            document: Json = json.loads(text)
        else:
            document = yaml.safe_load(text)
    except json.JSONDecodeError as error:
        raise InvalidBundle(f" is not JSON: {error.msg} in line {error.lineno}") from None
    except yaml.YAMLError:
        raise InvalidBundle(" is not YAML") from None
    if not isinstance(document, dict):
        raise InvalidBundle(" is not an object of JSON or YAML")
    return document


def _reachable(document: dict[str, Json]) -> dict[str, Json]:
    """Return the sections and what they refer to, each checked."""
    if "network_def" not in document and isinstance(document.get("network"), dict):
        document = {**document, "network_def": "@network"}
    kept: dict[str, Json] = {}
    sections = DETECTION if "detector" in document else SECTIONS
    waiting = [(name, name) for name in sections if name in document]
    while waiting:
        name, asked_by = waiting.pop()
        if name in kept or name in GIVEN:
            continue
        if name not in document:
            raise InvalidBundle(f": {asked_by} refers to @{name}, which is absent")
        loading = document[name]
        file_name = loaded_name(loading) if isinstance(loading, str) else None
        if file_name is not None:
            kept[name] = f"${LOAD}({_file_in_models(document.get(file_name), name)!r})"
            continue
        references: list[str] = []
        kept[name] = _checked(_without_files(document[name]), name, references)
        waiting += [(reference, name) for reference in references]
    return kept


def _file_in_models(path: Json, place: str) -> str:
    match = _IN_MODELS.fullmatch(path) if isinstance(path, str) else None
    if match is None:
        raise _refusal(place, "may load a file of the bundle's models/ only")
    return match[1]


def _without_files(value: Json) -> Json:
    """Return `value` without the steps of lists that load or save files."""
    if isinstance(value, dict):
        return {key: _without_files(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_files(item) for item in value if not _loads_or_saves(item)]
    return value


def _loads_or_saves(value: Json) -> bool:
    target = value.get("_target_") if isinstance(value, dict) else None
    return isinstance(target, str) and _FILES.fullmatch(target) is not None


def _checked(value: Json, place: str, references: list[str]) -> Json:
    """Return `value` as it may be run, and note what it refers to; refuse what is not allowed."""
    if isinstance(value, str):
        return _checked_text(plain_text(value), place, references)
    if isinstance(value, list):
        return [_checked(item, f"{place}.{k}", references) for k, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    _check_call(value, place)
    kept: dict[str, Json] = {}
    for key, item in value.items():
        if key in ("_target_", "_mode_", "_desc_"):
            kept[key] = item
        elif "_target_" in value and key.startswith("pretrained") and item is True:
            kept[key] = False
        else:
            kept[key] = _checked(item, f"{place}.{key}", references)
    return kept


def _check_call(value: dict[str, Json], place: str) -> None:
    """Refuse control keys and classes that are not allowed."""
    for key in value:
        if not isinstance(key, str):
            raise _refusal(place, "has a key that is no text")
        if key.startswith("_") and key not in _CONTROL:
            raise _refusal(f"{place}.{key}", "this key is not allowed")
    if value.get("_mode_", "default") not in ("default", "callable"):
        raise _refusal(f"{place}._mode_", "only 'default' and 'callable' are allowed")
    if "_target_" not in value:
        return
    target = value["_target_"]
    if not isinstance(target, str):
        raise _refusal(f"{place}._target_", "is not a name")
    if _OWN_TARGET.fullmatch(target):
        return
    try:
        _split(target)
    except InvalidBundle as error:
        raise _refusal(f"{place}._target_", error.message) from None
    for key, item in value.items():
        if key.startswith("pretrained") and item not in (False, True, None):
            raise _refusal(f"{place}.{key}", "asks for weights that are not the bundle's")


def _split(target: str) -> tuple[str, str]:
    """Return (module, class name) of an allowed ``_target_``; the module of a bare name is ''."""
    match = _TARGET.fullmatch(target)
    if match is None:
        raise InvalidBundle(f"{target!r} is not the name of a class")
    module, name = match[1].rstrip("."), match[2]
    if module and not _within_packages(module):
        raise InvalidBundle(f"{target!r} is not of {', '.join(PACKAGES)}")
    if REFUSED.fullmatch(name):
        raise InvalidBundle(
            f"{target!r} is refused: it reads files, downloads or calls other packages"
        )
    return module, name


def _within_packages(module: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in PACKAGES)


def _checked_text(text: str, place: str, references: list[str]) -> str:
    """Return a string as it may be run; refuse macros and expressions not allowed."""
    if text.startswith("%"):
        raise _refusal(place, "macros (%) are not allowed")
    if _RELATIVE.search(text):
        raise _refusal(place, "relative references are not supported; name the item from the top")
    if text.startswith("$"):
        try:
            expression, names = check_expression(text[1:])
        except InvalidBundle as error:
            raise _refusal(place, error.message) from None
        references += names
        return f"${expression}"
    match = REFERENCE.fullmatch(text.replace("#", "::"))
    if match:
        references.append(match[1])
    return text


def _refusal(place: str, reason: str) -> InvalidBundle:
    return InvalidBundle(f": {place}: {reason}")
