"""From a project to the engine that takes the identity off for it."""

from __future__ import annotations

from dicom.burned_in import PixelCleaner, is_installed
from dicom.deid import Deidentifier, Engine, Passes, PixelPass
from dicom.errors import InvalidSettings, MissingPackage
from dicom.fast import EngineChoice, engine_for
from dicom.profile import Option
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
    MissingPackage, InvalidSettings
        When it asks for a pass that this installation does not have.
    """
    careful = Deidentifier(project.profile, key, passes=passes_of(project), heads=project.heads)
    return engine_for(choice, careful)


def passes_of(project: Project) -> Passes:
    """Return the passes over the pixels that a project asks for.

    Raises
    ------
    MissingPackage
        When the networks that find text are not installed.
    InvalidSettings
        When this installation cannot deface.
    """
    passes: dict[Option, PixelPass] = {}
    if Option.CLEAN_PIXEL_DATA in project.looks_at_pixels:
        if not is_installed():
            raise MissingPackage(f"project {project.name!r} has text searched in pixels")
        passes[Option.CLEAN_PIXEL_DATA] = PixelCleaner()
    if Option.CLEAN_RECOGNIZABLE_VISUAL_FEATURES in project.looks_at_pixels:
        raise InvalidSettings(f"project {project.name!r}: this installation cannot deface heads")
    return passes
