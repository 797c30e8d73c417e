"""The two networks that find and read text: PaddleOCR's, from the wheel of rapidocr.

Only the wheel's ONNX files are used, found without importing it: its code would load OpenCV and may
fetch further models from the network; what it does before and after the networks is done here in
numpy. A file that is not the one whose recall was measured is refused.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from dicom.errors import MissingPackage

Floats = npt.NDArray[np.float32]
Run = Callable[[Floats], Floats]
Name = Literal["finder", "reader"]

_PACKAGE: Final = "rapidocr"
_FILES: Final[dict[Name, tuple[str, str]]] = {  # and the sha256 of each
    "finder": (
        "PP-OCRv6_det_small.onnx",
        "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f",
    ),
    "reader": (
        "PP-OCRv6_rec_small.onnx",
        "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884",
    ),
}


@cache
def _file(name: Name) -> Path:
    spec = find_spec(_PACKAGE)
    folders = list(spec.submodule_search_locations or []) if spec else []
    if not folders:
        raise MissingPackage(f"text in pixels needs {_PACKAGE}; it is not installed")
    file_name, sha256 = _FILES[name]
    path = Path(folders[0]) / "models" / file_name
    try:
        content = path.read_bytes()
    except OSError:
        raise MissingPackage(f"{_PACKAGE} lacks a file of its own; install it again") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise MissingPackage(f"{_PACKAGE} brings another network than the one that was measured")
    return path


def is_installed() -> bool:
    """Return whether the networks and what runs them are there."""
    return find_spec(_PACKAGE) is not None and find_spec("onnxruntime") is not None


def open_network(name: Name, *, threads: int | None = None) -> tuple[Run, dict[str, str]]:
    """Return what runs a network on an array of shape (n, 3, rows, columns), and its facts.

    Parameters
    ----------
    name : str
        ``finder`` or ``reader``.
    threads : int, optional
        As many as there are cores that this process may use by default.

    Raises
    ------
    MissingPackage
        When onnxruntime or the networks are not installed, or are not those that were measured.
    """
    path = _file(name)
    try:
        import onnxruntime  # loaded by the first search alone
    except ModuleNotFoundError:
        raise MissingPackage("text in pixels needs onnxruntime; it is not installed") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    # Threads that wait shall sleep: others work on the same cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    asked, told = session.get_inputs()[0].name, session.get_outputs()[0].name

    def run(image_ncji: Floats) -> Floats:
        return np.asarray(session.run([told], {asked: image_ncji})[0], np.float32)

    return run, dict(session.get_modelmeta().custom_metadata_map)
