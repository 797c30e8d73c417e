"""What this door remembers, in memory: who was given what, uploaded files, batches under way."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastapi import Request

from node.monailabel.access import Grants
from node.monailabel.batches import Batches
from node.monailabel.labels import Handed
from node.monailabel.uploads import Uploads


@dataclass(frozen=True, slots=True)
class ClientState:
    """One for the application."""

    grants: Grants = field(default_factory=Grants)
    handed: Handed = field(default_factory=Handed)
    uploads: Uploads = field(default_factory=Uploads)
    batches: Batches = field(default_factory=Batches)


def state_of(request: Request) -> ClientState:
    """Return the application's."""
    state: ClientState = request.app.state.monailabel
    return state
