"""What a custodian does: decides on what is held back, and withdraws patients from research.

============  ====================================================================================
`holding`     what may be released and what only deleted, and what each does
`withdrawal`  a patient's withdrawal: asked for, and confirmed
`runs`        the same, carried out by the worker
`stores`      the places that may hold a patient: archive, collections, exports, datasets, models
============  ====================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.custody.holding import RELEASABLE, Desk, is_releasable
from pipelines.custody.withdrawal import Patient, Withdrawing
from pipelines.drawer import Drawer
from pipelines.store import Collections, Database, Held, Jobs, Withdrawals

__all__ = [
    "RELEASABLE",
    "Custody",
    "Desk",
    "Patient",
    "Withdrawing",
    "is_releasable",
]


@dataclass(frozen=True, slots=True)
class Custody:
    """What the custodian's pages work with; it needs no key of the vault."""

    held: Held
    desk: Desk
    withdrawals: Withdrawals
    withdrawing: Withdrawing

    @classmethod
    def of(cls, database: Database, drawer: Drawer) -> Custody:
        """Return it over a database."""
        held, withdrawals = Held(database), Withdrawals(database)
        return cls(
            held,
            Desk(held, Jobs(database), Collections(database), drawer),
            withdrawals,
            Withdrawing(withdrawals, drawer),
        )
