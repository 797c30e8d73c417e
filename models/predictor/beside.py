"""The bundles that a bundle names beside itself: one that looks first, one whose boxes go."""

from __future__ import annotations

from dicom.errors import InvalidBundle
from models.bundle import Bundle
from models.tasks import Detection


def check_clearer(bundle: Bundle, clearer: Bundle | None) -> None:
    """Make sure that what paints over for a bundle is what it names, where it names one.

    Raises
    ------
    InvalidBundle
        When it is not what the bundle names, finds no boxes, or needs more than one image.
    """
    if bundle.without is None:
        return
    wanted = bundle.without.bundle
    if clearer is None or clearer.identity != wanted:
        raise InvalidBundle(f"bundle {bundle.identity} works with {wanted} only")
    if not isinstance(clearer.task, Detection) or len(clearer.inputs) != 1 or clearer.without:
        raise InvalidBundle(f"bundle {bundle.identity}: radloop.without: {wanted} finds no boxes")


def number_of_region(bundle: Bundle, first: Bundle | None) -> int:
    """Return the number of the segment where `bundle` looks, among those of the first model.

    Raises
    ------
    InvalidBundle
        When `first` is not the bundle that is named, or has no such segment.
    """
    if bundle.after is None:
        return 0
    if first is None or first.identity != bundle.after.bundle:
        raise InvalidBundle(f"bundle {bundle.identity} works after {bundle.after.bundle} only")
    for segment in first.segments:
        if segment.label.casefold() == bundle.after.segment.casefold():
            return segment.number
    raise InvalidBundle(
        f"bundle {bundle.identity}: radloop.after.segment: {bundle.after.bundle} has no "
        f"{bundle.after.segment!r}"
    )
