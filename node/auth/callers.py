"""Who sends a request, and how far each role reaches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from pipelines.store import Role

ROLES: tuple[Role, ...] = get_args(Role)
CLINICAL_ROLES: tuple[Role, ...] = ("admin", "radiologist")
"""Roles that may see the clinical archive: names, dates, original images."""
IMAGE_ROLES: tuple[Role, ...] = (*CLINICAL_ROLES, "researcher")
"""Roles that may open the viewer and the research archive."""
CUSTODY_ROLES: tuple[Role, ...] = ("admin", "custodian")
"""Roles that answer for what leaves: what is held back, the vault, withdrawal, the trail."""
DATASET_ROLES: tuple[Role, ...] = ("admin", "researcher", "custodian")
"""Roles that collect for projects and export datasets: de-identified data alone."""
LEARNING_ROLES: tuple[Role, ...] = ("admin", "radiologist", "researcher")
"""Roles that make datasets of corrections, and train; what is learnt from is de-identified."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends this request, and by what."""

    name: str
    role: Role
    by: Literal["session", "token"]

    @property
    def is_clinical(self) -> bool:
        """Whether names and the clinical archive are for this person's eyes."""
        return self.role in CLINICAL_ROLES

    @property
    def sees_images(self) -> bool:
        """Whether the viewer is for this person."""
        return self.role in IMAGE_ROLES

    @property
    def is_custodian(self) -> bool:
        """Whether this person answers for what is held back, and for withdrawals."""
        return self.role in CUSTODY_ROLES

    @property
    def makes_datasets(self) -> bool:
        """Whether this person may collect for projects, and export."""
        return self.role in DATASET_ROLES

    @property
    def may_learn(self) -> bool:
        """Whether this person may make datasets of corrections, and train."""
        return self.role in LEARNING_ROLES
