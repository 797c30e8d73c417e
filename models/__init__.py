"""Bundles, prediction and training: images in, answers out.

From a plain script, without any server::

    from models import load

    result = load("mr_brain").predict("path/to/study", save_path="out/")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.model import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - importing the package alone stays light
    if name == "load":
        from models.model import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
