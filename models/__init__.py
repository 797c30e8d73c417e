"""Bundles, prediction and training: images in, answers out.

From a plain script, without any server::

    from models import load

    result = load("mr_brain").predict("path/to/study", save_path="out/")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.model import learn, load

__all__ = ["learn", "load"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - importing the package alone stays light
    if name in __all__:
        from models import model

        return getattr(model, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
