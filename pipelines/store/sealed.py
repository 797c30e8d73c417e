"""Sealed identities, as bytes: what is in them, `pipelines.identity` alone can tell."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

from pipelines.identity import SealedRow
from pipelines.records import VaultRow
from pipelines.store.database import Database

_PAGE = 500


class SealedIdentities:
    """The vault's rows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put_sealed(self, row: SealedRow, *, in_place_of: bytes | None) -> bool:
        """Keep a study's sealed identity in place of what was read before.

        Returns
        -------
        bool
            False, with nothing written, when something else is there by now.
        """
        with self._database.write() as session:
            there = session.get(VaultRow, row.study_id, with_for_update=True)
            if (there.sealed if there else None) != in_place_of:
                return False
            if there is not None:
                there.sealed, there.project, there.patient = row.sealed, row.project, row.patient
                return True
            try:
                with session.begin_nested():
                    session.add(
                        VaultRow(
                            study_id=row.study_id,
                            project=row.project,
                            patient=row.patient,
                            sealed=row.sealed,
                        )
                    )
            except sa.exc.IntegrityError:  # another worker was first
                return False
            return True

    def get_sealed(self, study_id: str) -> SealedRow | None:
        """Return a study's sealed identity, or None."""
        with self._database.read() as session:
            row = session.get(VaultRow, study_id)
            return _view(row) if row else None

    def every_sealed(self) -> Iterator[SealedRow]:
        """Yield every row, by study, a page at a time."""
        last = ""
        while True:
            with self._database.read() as session:
                wanted = sa.select(VaultRow).where(VaultRow.study_id > last)
                page = [
                    _view(row)
                    for row in session.scalars(wanted.order_by(VaultRow.study_id).limit(_PAGE))
                ]
            yield from page
            if len(page) < _PAGE:
                return
            last = page[-1].study_id

    def studies_of(self, patient: str) -> list[str]:
        """Return the studies of a pseudonymised patient."""
        with self._database.read() as session:
            wanted = sa.select(VaultRow.study_id).where(VaultRow.patient == patient)
            return list(session.scalars(wanted.order_by(VaultRow.study_id)))

    def projects(self) -> list[str]:
        """Return the projects that identities were sealed for."""
        with self._database.read() as session:
            return list(session.scalars(sa.select(VaultRow.project).distinct()))

    def any(self) -> bool:
        """Whether any identity is sealed: then a new key must never be made up."""
        with self._database.read() as session:
            wanted = sa.select(sa.exists().where(VaultRow.study_id.is_not(None)))
            return bool(session.scalar(wanted))


def _view(row: VaultRow) -> SealedRow:
    return SealedRow(row.study_id, row.project, row.patient, row.sealed)
