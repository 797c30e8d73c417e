"""The small language that a bundle's ``$`` expressions may be written in.

MONAI evaluates them as Python. What is let through is data and arithmetic, the functions and names
below, and ``lambda`` of the same: nothing that opens, imports, calls back or reaches an attribute.
"""

from __future__ import annotations

import ast
import re

from dicom.errors import InvalidBundle

FUNCTIONS = frozenset({"abs", "bool", "float", "int", "len", "list", "max", "min"})
FUNCTIONS |= {"range", "round", "sorted", "sum", "tuple"}

_TYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float", "float16", "float32")
NUMBER_TYPES = frozenset(
    f"{package}.{name}" for package in ("torch", "np", "numpy") for name in (*_TYPES, "float64")
)
_TENSORS: tuple[str, ...] = ("abs", "all", "any", "argmax", "cat", "clamp", "exp", "flip", "floor")
_TENSORS += ("from_numpy",)
_TENSORS += ("isnan", "log", "logical_and", "logical_not", "logical_or", "max", "mean", "min")
_TENSORS += ("nan_to_num", "ones_like", "permute", "round", "sigmoid", "softmax", "sqrt")
_TENSORS += ("squeeze", "stack", "sum", "transpose", "unsqueeze", "where", "zeros_like")
_RESNETS = tuple(f"monai.networks.nets.resnet.resnet{n}" for n in (10, 18, 34, 50, 101, 152, 200))

CALLS = frozenset(f"torch.{name}" for name in _TENSORS) | frozenset(_RESNETS)
"""What may be called by its full name: it makes a tensor of tensors, or a network."""

FEATURE_EXTRACTOR = "radloop_feature_extractor"
OWN_CALLS = {
    "monai.apps.detection.networks.retinanet_network.resnet_fpn_feature_extractor": (
        FEATURE_EXTRACTOR
    )
}
"""What may be called, and stands for a function of ours: MONAI's needs torchvision."""

METHODS = {
    "set_target_keys",
    "set_box_selector_parameters",
    "set_sliding_window_inferer",
}
"""What may be called of a detector that is referred to."""

_KEYS = frozenset(f"monai.utils.CommonKeys.{key}" for key in ("IMAGE", "LABEL", "PRED"))
_DEVICE = re.compile(r"\$\s*torch\.device\([^;]*\)")
_LOAD = re.compile(r"\$\s*torch\.load\(\s*@(\w+)\s*(,[^;]*)?\)")
_HASHES = re.compile(r"@\w+(?:#\w+)+")
REFERENCE = re.compile(r"@(\w+)(?:::\w+)*")
_PLACEHOLDER = "reference_"
_NODES = (
    *(ast.Expression, ast.Constant, ast.Tuple, ast.List, ast.Dict, ast.Load, ast.Subscript),
    *(ast.Slice, ast.UnaryOp, ast.USub, ast.UAdd, ast.Not, ast.BinOp, ast.Add, ast.Sub, ast.Mult),
    *(ast.Div, ast.FloorDiv, ast.Mod, ast.BoolOp, ast.And, ast.Or, ast.Compare, ast.cmpop),
    *(ast.IfExp, ast.keyword, ast.Lambda, ast.arg),
)


def plain_text(text: str) -> str:
    """Return an expression in the way in which it can be checked and run.

    MONAI takes ``@a#b`` for ``@a::b``; a device is always the one that was chosen, ``@device``.
    """
    if _DEVICE.fullmatch(text):
        return "@device"
    return _HASHES.sub(lambda found: found[0].replace("#", "::"), text)


def loaded_name(text: str) -> str | None:
    """Return the name that an expression loads a file by, when that is all that it does."""
    match = _LOAD.fullmatch(text)
    return match[1] if match else None


def check_expression(expression: str) -> tuple[str, list[str]]:
    """Return the expression as it may be run, and the names that it refers to.

    Raises
    ------
    InvalidBundle
        When it says more than the language above can.
    """
    names = [match[1] for match in REFERENCE.finditer(expression)]
    if "#" in expression:  # MONAI turns it into '::' before it evaluates
        raise InvalidBundle("'#' in an expression is not allowed; write '::'")
    try:
        tree = ast.parse(REFERENCE.sub(_PLACEHOLDER, expression).strip(), mode="eval")
    except (SyntaxError, ValueError):
        raise InvalidBundle(f"${expression} is not an expression") from None
    _Checker(expression).visit(tree)
    for name, own in OWN_CALLS.items():
        expression = expression.replace(name, own)
    return expression, names


class _Checker(ast.NodeVisitor):
    """Walks an expression and refuses what is not in the language."""

    def __init__(self, expression: str) -> None:
        self._expression = expression
        self._bound: set[str] = set()

    def generic_visit(self, node: ast.AST) -> None:
        if not isinstance(node, _NODES):
            self._refuse(node)
        super().generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if node.id not in FUNCTIONS | self._bound | {_PLACEHOLDER}:
            self._refuse(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if ast.unparse(node) not in NUMBER_TYPES | _KEYS:
            self._refuse(node)

    def visit_Call(self, node: ast.Call) -> None:
        if not self._may_be_called(node):
            self._refuse(node)
        for argument in (*node.args, *node.keywords):
            self.visit(argument)

    def visit_Constant(self, node: ast.Constant) -> None:
        # MONAI replaces references inside quotes too, which could end the quotation.
        if isinstance(node.value, bytes) or (
            isinstance(node.value, str) and _PLACEHOLDER in node.value
        ):
            self._refuse(node)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        given = node.args
        names = {argument.arg for argument in given.args}
        others = (given.posonlyargs, given.kwonlyargs, given.vararg, given.kwarg, given.defaults)
        if not names or any(others) or names & FUNCTIONS or _PLACEHOLDER in names:
            self._refuse(node)
        before, self._bound = self._bound, self._bound | names
        self.visit(node.body)
        self._bound = before

    def _may_be_called(self, node: ast.Call) -> bool:
        called = node.func
        if isinstance(called, ast.Name):
            return called.id in FUNCTIONS
        if not isinstance(called, ast.Attribute):
            return False
        if isinstance(called.value, ast.Name) and called.value.id == _PLACEHOLDER:
            if called.attr == "to":  # onto the device that was chosen, and no other
                arguments = [ast.unparse(argument) for argument in (*node.args, *node.keywords)]
                return arguments == [_PLACEHOLDER] and "@device" in self._expression
            return called.attr in METHODS
        return ast.unparse(called) in CALLS | OWN_CALLS.keys()

    def _refuse(self, node: ast.AST) -> None:
        raise InvalidBundle(f"${self._expression}: {ast.unparse(node) or node!r} is not allowed")
