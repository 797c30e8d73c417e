"""From a project to the engine that takes the identity off for it."""

from __future__ import annotations

from dicom.deid import Deidentifier, Engine
from dicom.errors import InvalidSettings
from dicom.fast import EngineChoice, engine_for
from pipelines.projects import Project


def open_engine(
    project: Project, key: bytes, *, choice: EngineChoice = EngineChoice.AUTO
) -> Engine:
    """Return a project's engine.

    Parameters
    ----------
    project : Project
        Its profile, its passes over the pixels, its word on heads.
    key : bytes
        32 secret bytes: the project's own (:meth:`pipelines.keyring.KeyRing.pseudonym_key`).
    choice : EngineChoice
        Who does it; what comes out is the same.

    Raises
    ------
    InvalidSettings
        When it asks for a pass that this installation does not have.
    """
    if project.looks_at_pixels:
        names = ", ".join(sorted(option.value for option in project.looks_at_pixels))
        raise InvalidSettings(f"project {project.name!r}: this installation has no {names}")
    return engine_for(choice, Deidentifier(project.profile, key, heads=project.heads))
