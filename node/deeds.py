"""A deed that the rows take or refuse: said in words, noted on the trail, and the worker told."""

from __future__ import annotations

from fastapi import BackgroundTasks

from dicom.errors import Conflict
from node.audit import Action
from node.auth import Caller
from node.parts import FrontParts


def noted(
    parts: FrontParts,
    caller: Caller,
    action: Action,
    *,
    of: str,
    is_taken: bool = True,
    refusal: str = "",
    bell: BackgroundTasks | None = None,
    reason: str = "",
) -> None:
    """Note a deed that the rows took, and wake the worker up after the answer.

    Parameters
    ----------
    of : str
        What it was done to.
    is_taken : bool
        Whether the rows took it.
    refusal : str
        What is said where they did not.
    bell : BackgroundTasks or None
        Where there is something for the worker to do.

    Raises
    ------
    Conflict
        When they did not: nothing is noted.
    """
    if not is_taken:
        raise Conflict(refusal)
    parts.audit.note(action, actor=caller.name, object=of, reason=reason)
    if bell is not None:
        bell.add_task(parts.bell.ring)
