"""From a project to the engine that takes the identity off for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dicom.burned_in import PixelCleaner, PixelPolicy, is_installed
from dicom.deid import Deidentifier, Engine, Heads, Passes, PixelPass
from dicom.errors import BurnedInText, HeadNotDefaced, MissingPackage
from dicom.fast import EngineChoice, engine_for
from dicom.profile import Option
from pipelines.projects import Project

if TYPE_CHECKING:
    from models.deface.series import BrainOf


def open_engine(
    project: Project,
    key: bytes,
    *,
    source: Path | None = None,
    choice: EngineChoice = EngineChoice.AUTO,
    brain: BrainOf | None = None,
    released: frozenset[str] = frozenset(),
) -> Engine:
    """Return a project's engine.

    Parameters
    ----------
    project : Project
        Its profile, its passes over the pixels, its word on heads.
    key : bytes
        32 secret bytes: the project's own (:meth:`pipelines.keyring.KeyRing.pseudonym_key`).
    source : Path or None
        The folder, or file, that the instances come from; a project that defaces needs it, since a
        face is taken off a whole series.
    choice : EngineChoice
        Who does it; what comes out is the same.
    brain : callable or None
        Finds brains; None: the shipped model, loaded into this process when a head comes.
    released : frozenset of str
        Codes of refusals that a person has overruled for what is de-identified now: text in the
        pixels passes unmasked, a head with its face. Its declaration says no more than was done.

    Raises
    ------
    MissingPackage
        When the networks that find text are not installed.
    ValueError
        When a project that defaces is given no source: a bug of the caller.
    """
    passes = _passes(project, source, brain)
    heads = project.heads
    if HeadNotDefaced.code in released:
        heads = Heads.KEEP
        passes = _without(passes, Option.CLEAN_RECOGNIZABLE_VISUAL_FEATURES)
    if BurnedInText.code in released:
        passes = _without(passes, Option.CLEAN_PIXEL_DATA)
    careful = Deidentifier(
        project.profile,
        key,
        passes=passes,
        heads=heads,
        text_is_released=BurnedInText.code in released,
    )
    return engine_for(choice, careful)


def _without(passes: Passes, option: Option) -> Passes:
    """Return the passes with one that leaves every object as it is, and is declared on none."""
    return {**passes, option: lambda _: None} if option in passes else passes


def _passes(project: Project, source: Path | None, brain: BrainOf | None) -> Passes:
    passes: dict[Option, PixelPass] = {}
    if Option.CLEAN_PIXEL_DATA in project.looks_at_pixels:
        if not is_installed():
            raise MissingPackage(f"project {project.name!r} has text searched in pixels")
        policy = PixelPolicy(keep_markers=project.side_markers)
        passes[Option.CLEAN_PIXEL_DATA] = PixelCleaner(policy)
    if Option.CLEAN_RECOGNIZABLE_VISUAL_FEATURES in project.looks_at_pixels:
        from models.deface.series import DefacingPass

        if source is None:
            raise ValueError("a project that defaces is told where its instances come from")
        passes[Option.CLEAN_RECOGNIZABLE_VISUAL_FEATURES] = DefacingPass(source, brain)
    return passes
