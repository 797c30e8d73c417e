"""What a bundle's inference.json may ask for.

A MONAI configuration is a program: ``_target_`` calls anything that can be imported, ``$``
evaluates Python, ``%`` reads files. A bundle from elsewhere could so reach the disk or the network.
This room reads the configuration as text, without torch or MONAI, and lets through only this:

=============  =====================================================================================
Part           Allowed
=============  =====================================================================================
sections       ``preprocessing``, ``network_def``, ``inferer``, ``postprocessing`` and what they
               refer to with ``@``; the rest (datasets, evaluators, imports) is dropped unread
``_target_``   a class of :data:`PACKAGES`, by its own name (``Spacingd``) or its full one, that is
               not :data:`REFUSED`, with no argument ``pretrained...`` that asks for a download
``$``          literals, ``@`` references, arithmetic, comparison, ``x if y else z``, indexing, the
               functions of :data:`FUNCTIONS` and the number types of :data:`NUMBER_TYPES`
``%``          nothing: a macro can read any file
=============  =====================================================================================

``LoadImage(d)`` and ``SaveImage(d)`` steps in lists are taken out: arrays come from memory and go
to memory. :func:`find_class` is the second half, for where MONAI is loaded: it finds the class that
a name means and checks that it really lives in :data:`PACKAGES`.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Collection
from importlib import import_module
from inspect import isclass, signature
from typing import TypeAlias

from dicom.errors import InvalidBundle

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

SECTIONS = ("preprocessing", "network_def", "inferer", "postprocessing")

# A bare name is looked for in this order.
PACKAGES = (
    "monai.transforms",
    "monai.networks.nets",
    "monai.networks.blocks",
    "monai.networks.layers",
    "monai.inferers",
    "torch.nn",
    "models.networks",
)

REFUSED = re.compile(
    r"(Rand)?(LoadImage|SaveImage|WriteFileMapping"  # read and write files
    r"|ZarrAvgMerger|WSISlidingWindowSplitter"  # likewise
    r"|TorchVision|TorchIO|CuCIM|PatchInferer"  # call what a string names
    r"|CellSamWrapper|Transchex|BertPreTrainedModel|TorchVisionFCModel|MILModel"  # fetch weights
    r")(D|d|Dict)?"
)

FUNCTIONS = frozenset({"abs", "bool", "float", "int", "len", "list", "max", "min"})
FUNCTIONS |= {"range", "round", "sorted", "sum", "tuple"}

_TYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
NUMBER_TYPES = frozenset(f"{p}.{name}" for p in ("torch", "np", "numpy") for name in _TYPES)

# Given by the predictor, whatever the bundle says of it.
GIVEN = frozenset({"device"})

_LOAD_OR_SAVE = re.compile(r"(monai\.transforms\.([a-z_]+\.)*)?(LoadImage|SaveImage)(D|d|Dict)?")
_TARGET = re.compile(r"((?:[a-z][a-z0-9_]*\.)*)([A-Z][A-Za-z0-9_]*)")
_REFERENCE = re.compile(r"@(\w+)(?:::\w+)*")
_RELATIVE = re.compile(r"[@%](#|::)")
_CONTROL = frozenset({"_target_", "_disabled_", "_requires_", "_desc_", "_mode_"})
_NODES = (
    *(ast.Expression, ast.Constant, ast.Tuple, ast.List, ast.Dict, ast.Load, ast.Subscript),
    *(ast.Slice, ast.UnaryOp, ast.USub, ast.UAdd, ast.Not, ast.BinOp, ast.Add, ast.Sub, ast.Mult),
    *(ast.Div, ast.FloorDiv, ast.Mod, ast.BoolOp, ast.And, ast.Or, ast.Compare, ast.cmpop),
    *(ast.IfExp, ast.Call, ast.keyword, ast.Name, ast.Attribute),
)
_PLACEHOLDER = "reference_"


def allowed_configuration(text: str) -> dict[str, Json]:
    """Return the part of an inference.json that a prediction runs, when all of it is allowed.

    Parameters
    ----------
    text : str
        The content of configs/inference.json.

    Returns
    -------
    dict of str to Json
        :data:`SECTIONS` as far as they are present and what they refer to, without steps that
        load or save images; ready for ``monai.bundle.ConfigParser``.

    Raises
    ------
    InvalidBundle
        When it is no JSON object, refers to what is not there, or asks for what is not allowed;
        the message names the place and the offender.
    """
    try:
        document: Json = json.loads(text)
        if not isinstance(document, dict):
            raise InvalidBundle("configs/inference.json is not a JSON object")
        return _reachable(document)
    except json.JSONDecodeError as error:
        raise InvalidBundle(
            f"configs/inference.json is not JSON: {error.msg} in line {error.lineno}"
        ) from None
    except RecursionError:
        raise InvalidBundle("configs/inference.json is nested too deeply") from None


def find_class(target: str, arguments: Collection[str] = ()) -> type:
    """Return the class that an allowed ``_target_`` means; imports MONAI.

    Parameters
    ----------
    target : str
        The class's own name or its full one.
    arguments : collection of str
        Names of the arguments that it will be given.

    Raises
    ------
    InvalidBundle
        When there is no such class, the name leads out of :data:`PACKAGES`, or the class downloads
        weights unless an argument that is not among `arguments` tells it not to.
    """
    package, name = _split(target)
    for module in (package,) if package else PACKAGES:
        try:
            found = getattr(import_module(module), name, None)
        except ModuleNotFoundError:
            continue
        if isclass(found) and _within_packages(found.__module__):
            for argument, default in _defaults(found).items():
                if argument.startswith("pretrained") and default and argument not in arguments:
                    raise _refusal(target, f"downloads weights; say {argument}: false")
            return found
    raise InvalidBundle(
        f"configs/inference.json: no class {target} in the installed MONAI or torch"
    )


def _defaults(found: type) -> dict[str, object]:
    """Return the arguments of a class that have a default, with it."""
    try:
        parameters = signature(found).parameters.values()
    except ValueError:  # a class written in C does not say
        return {}
    return {each.name: each.default for each in parameters if each.default is not each.empty}


def _reachable(document: dict[str, Json]) -> dict[str, Json]:
    """Return the sections and what they refer to, each checked."""
    kept: dict[str, Json] = {}
    waiting = [(name, name) for name in SECTIONS if name in document]
    while waiting:
        name, asked_by = waiting.pop()
        if name in kept or name in GIVEN:
            continue
        if name not in document:
            raise InvalidBundle(
                f"configs/inference.json: {asked_by} refers to @{name}, which is absent"
            )
        kept[name] = _without_files(document[name])
        waiting += [(reference, name) for reference in _check(kept[name], name)]
    return kept


def _without_files(value: Json) -> Json:
    """Return `value` without the steps of lists that load or save images."""
    if isinstance(value, dict):
        return {key: _without_files(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_files(item) for item in value if not _loads_or_saves(item)]
    return value


def _loads_or_saves(value: Json) -> bool:
    target = value.get("_target_") if isinstance(value, dict) else None
    return isinstance(target, str) and _LOAD_OR_SAVE.fullmatch(target) is not None


def _check(value: Json, place: str) -> list[str]:
    """Return the names that `value` refers to; refuse what is not allowed."""
    if isinstance(value, str):
        return _check_text(value, place)
    if isinstance(value, list):
        return [name for k, item in enumerate(value) for name in _check(item, f"{place}.{k}")]
    if not isinstance(value, dict):
        return []
    _check_call(value, place)
    return [
        name
        for key, item in value.items()
        if key not in ("_target_", "_mode_", "_desc_")
        for name in _check(item, f"{place}.{key}")
    ]


def _check_call(value: dict[str, Json], place: str) -> None:
    """Refuse control keys and classes that are not allowed."""
    for key in value:
        if key.startswith("_") and key not in _CONTROL:
            raise _refusal(f"{place}.{key}", "this key is not allowed")
    if value.get("_mode_", "default") not in ("default", "callable"):
        raise _refusal(f"{place}._mode_", "only 'default' and 'callable' are allowed")
    if "_target_" not in value:
        return
    target = value["_target_"]
    if not isinstance(target, str):
        raise _refusal(f"{place}._target_", "is not a name")
    try:
        _split(target)
    except InvalidBundle as error:
        raise _refusal(f"{place}._target_", error.message) from None
    for key, item in value.items():
        if key.startswith("pretrained") and item not in (False, None):
            raise _refusal(f"{place}.{key}", "asks for a download of weights")


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


def _check_text(text: str, place: str) -> list[str]:
    """Return the names that a string refers to; refuse macros and expressions not allowed."""
    if text.startswith("%"):
        raise _refusal(place, "macros (%) are not allowed")
    if _RELATIVE.search(text):
        raise _refusal(place, "relative references are not supported; name the item from the top")
    if text.startswith("$"):
        return _check_expression(text[1:], place)
    match = _REFERENCE.fullmatch(text.replace("#", "::"))
    return [match[1]] if match else []


def _check_expression(expression: str, place: str) -> list[str]:
    """Return the names that an expression refers to; refuse all but the small language above."""
    names = [match[1] for match in _REFERENCE.finditer(expression)]
    if "#" in expression:  # MONAI turns it into '::' before it evaluates
        raise _refusal(place, "'#' in an expression is not allowed; write '::'")
    try:
        tree = ast.parse(_REFERENCE.sub(_PLACEHOLDER, expression).strip(), mode="eval")
    except (SyntaxError, ValueError):
        raise _refusal(place, f"${expression} is not an expression") from None
    dotted: set[ast.AST] = set()
    for node in ast.walk(tree):
        if node in dotted:
            continue
        if isinstance(node, ast.Attribute) and ast.unparse(node) in NUMBER_TYPES:
            dotted.add(node.value)
        elif not _node_is_allowed(node):
            raise _refusal(place, f"${expression}: {ast.unparse(node) or node!r} is not allowed")
    return names


def _node_is_allowed(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute):
        return False
    if isinstance(node, ast.Name):
        return node.id in FUNCTIONS or node.id == _PLACEHOLDER
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS
    if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
        # MONAI replaces references inside quotes too, which could end the quotation.
        return isinstance(node.value, str) and _PLACEHOLDER not in node.value
    return isinstance(node, _NODES)


def _refusal(place: str, reason: str) -> InvalidBundle:
    return InvalidBundle(f"configs/inference.json: {place}: {reason}")
