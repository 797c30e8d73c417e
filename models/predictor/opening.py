"""A predictor with all that its bundle names: those that look first, those whose boxes go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from dicom.errors import InvalidBundle
from models.bundle import Bundle
from models.predictor.predictor import Predictor
from models.registry import Registry


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
