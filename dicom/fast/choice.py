"""Which engine does it: fast, careful, or the one where the other will not do."""

from __future__ import annotations

from enum import Enum
from typing import BinaryIO

from dicom.deid import Clean, Deidentifier, Engine
from dicom.errors import NeedsCarefulReading
from dicom.fast.engine import FastDeidentifier


class EngineChoice(Enum):
    """Who de-identifies; what comes out is the same."""

    AUTO = "auto"
    FAST = "fast"
    CAREFUL = "careful"


class EitherEngine(Engine):
    """The fast engine, and the careful one for what it cannot read with certainty.

    Parameters
    ----------
    careful : Deidentifier
        Whose decisions both make.
    """

    def __init__(self, careful: Deidentifier) -> None:
        self._careful = careful
        self._fast = FastDeidentifier(careful)

    def clean(self, file: BinaryIO) -> Clean:
        """Return a file's instance without its identity; nothing is written."""
        try:
            return self._fast.clean(file)
        except NeedsCarefulReading:
            file.seek(0)
            return self._careful.clean(file)


def engine_for(choice: EngineChoice, careful: Deidentifier) -> Engine:
    """Return the engine that was chosen, with the profile, key and passes of the careful one."""
    if choice is EngineChoice.CAREFUL:
        return careful
    return FastDeidentifier(careful) if choice is EngineChoice.FAST else EitherEngine(careful)
