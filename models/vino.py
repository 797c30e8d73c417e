"""OpenVINO without its telemetry.

``import openvino`` brings a converter that tells its makers, over the network and unasked, of each
conversion, where the package ``openvino_telemetry`` can be imported. Nothing that happens to a
study leaves this machine: here it cannot be imported, and the converter takes its own stub.
"""

from __future__ import annotations

import sys
from types import ModuleType

_TELEMETRY = "openvino_telemetry"


def silent_openvino() -> ModuleType:
    """Return the module ``openvino``; the only way to it in radloop.

    Raises
    ------
    ImportError
        When it is not installed, or something else imported its telemetry before.
    """
    if sys.modules.get(_TELEMETRY) is not None:
        raise ImportError("OpenVINO's telemetry is loaded in this process")
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # Python's word for "not importable"
    import openvino

    found: ModuleType = openvino
    return found
