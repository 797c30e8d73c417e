"""Bundles: the models that are installed."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter, Request

from node.auth import AnyCaller
from node.faults import Fault, fault
from node.parts import parts_of

router = APIRouter(prefix="/api/bundles", tags=["bundles"])


@dataclass(frozen=True, slots=True)
class InstalledBundle:
    """A bundle that is whole; `sha256` says which model made a contour."""

    name: str
    version: str
    title: str
    description: str
    modalities: tuple[str, ...]
    min_slices: int
    orientations: tuple[str, ...] | None
    segments: tuple[str, ...]
    sha256: str


@dataclass(frozen=True, slots=True)
class BundleWithFault:
    """A folder that should be a bundle and is none."""

    folder: str
    fault: Fault


@dataclass(frozen=True, slots=True)
class Bundles:
    """All that are installed, and what is wrong with the others."""

    installed: tuple[InstalledBundle, ...]
    broken: tuple[BundleWithFault, ...]


@router.get("")
def bundles(request: Request, _caller: AnyCaller) -> Bundles:
    """List the installed bundles, and those that do not load with the reason."""
    registry = parts_of(request).registry
    return Bundles(
        installed=tuple(
            InstalledBundle(
                name=bundle.name,
                version=bundle.version,
                title=bundle.title,
                description=bundle.description,
                modalities=bundle.modalities,
                min_slices=bundle.min_slices,
                orientations=bundle.orientations,
                segments=tuple(segment.label for segment in bundle.segments),
                sha256=bundle.sha256,
            )
            for bundle in registry.bundles
        ),
        broken=tuple(
            BundleWithFault(broken.root.name, fault(broken.error)) for broken in registry.broken
        ),
    )
