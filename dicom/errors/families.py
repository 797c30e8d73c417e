"""The three families, by who acts next."""

from __future__ import annotations

from typing import ClassVar


class RadloopError(Exception):
    """Something that a person can be told about, by code.

    Parameters
    ----------
    message : str
        What happened, in one plain sentence without PHI.
    """

    code: ClassVar[str] = ""
    advice: ClassVar[str] = ""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or self.advice)

    @property
    def message(self) -> str:
        """The sentence that a person reads."""
        return str(self.args[0])


class InputError(RadloopError):
    """A person must mend the study, the bundle or the setting; never retried."""


class PeerError(RadloopError):
    """Another system failed or did not answer; retried with back-off."""


class ResourceError(RadloopError):
    """Memory, disk, a process or a program is lacking on this machine; tried again later."""
