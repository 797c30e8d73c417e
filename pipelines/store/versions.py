"""Versions of models: which is current, what was decided about each, and how good it is."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicom.errors import Conflict, NotFound
from pipelines.records import (
    EvaluationRow,
    JobRow,
    ModelDeedRow,
    ModelVersionRow,
    ResultRow,
    TaskRow,
)
from pipelines.store.database import Database

Stage = Literal["candidate", "current", "retired", "withdrawn"]
"""What a version is to the node: routes that name no version get the current one."""

Deed = Literal["signed", "approved", "promoted", "refused", "retired", "withdrawn", "restored"]


@dataclass(frozen=True, slots=True)
class DeedView:
    """Something that was done with a version."""

    model: str
    deed: Deed
    by: str
    at: datetime
    why: str


@dataclass(frozen=True, slots=True)
class VersionView:
    """A version of a model; `predecessor` is what it took the place of."""

    id: str
    name: str
    version: str
    sha256: str
    signature: str
    stage: Stage
    dataset: str | None
    training_id: str | None
    predecessor: str | None
    created_at: datetime
    decided_by: str | None
    decided_at: datetime | None
    why: str
    deeds: tuple[DeedView, ...] = field(default=())

    @property
    def approvals(self) -> frozenset[str]:
        """The people who said yes to it since it was last taken down."""
        found: set[str] = set()
        for deed in self.deeds:
            if deed.deed == "approved":
                found.add(deed.by)
            elif deed.deed in ("retired", "withdrawn", "refused"):
                found.clear()
        return frozenset(found)


@dataclass(frozen=True, slots=True)
class EvaluationView:
    """A version measured; `figures` as :mod:`models.learning.comparing` makes them.

    `accepted` is the policy's word; None where it was not asked.
    """

    id: str
    bundle: str
    bundle_sha256: str
    against: str | None
    dataset: str
    dataset_sha256: str
    split: str
    figures: Mapping[str, Any]
    accepted: bool | None
    verdict: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ResultOf:
    """A result of a version: an object in the archive, on a study."""

    result_id: str
    study_id: str
    job_id: str
    bundle: str
    created_at: datetime


class Versions:
    """The rows of models' versions and their figures."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- looking --------------------------------------------------------------------------------

    def version(self, identity: str) -> VersionView:
        """Return a version by ``NAME@VERSION``, with all that was done with it.

        Raises
        ------
        NotFound
        """
        with self._database.read() as session:
            row = _row(session, identity)
            query = sa.select(ModelDeedRow).where(ModelDeedRow.model == identity)
            deeds = tuple(_deed(one) for one in session.scalars(query.order_by(ModelDeedRow.id)))
            return _view(row, deeds)

    def all(self, *, name: str | None = None) -> list[VersionView]:
        """Return every version without its deeds, by name, the newest first."""
        query = sa.select(ModelVersionRow).order_by(
            ModelVersionRow.name, ModelVersionRow.created_at.desc()
        )
        if name is not None:
            query = query.where(ModelVersionRow.name == name)
        with self._database.read() as session:
            return [_view(row, ()) for row in session.scalars(query)]

    def current(self, name: str) -> VersionView | None:
        """Return the version of a name that is current; None where nothing was decided."""
        return next((one for one in self.all(name=name) if one.stage == "current"), None)

    def stopped(self) -> frozenset[str]:
        """Return the names whose current version was withdrawn, and none was promoted since."""
        has_current = sa.select(ModelVersionRow.name).where(ModelVersionRow.stage == "current")
        query = (
            sa.select(ModelVersionRow.name)
            .join(ModelDeedRow, ModelDeedRow.model == ModelVersionRow.id)
            .where(
                ModelVersionRow.stage == "withdrawn",
                ModelDeedRow.deed.in_(("promoted", "restored")),
                ModelVersionRow.name.not_in(has_current),
            )
        )
        with self._database.read() as session:
            return frozenset(session.scalars(query))

    def results_of(self, identity: str) -> list[ResultOf]:
        """Return the results that a version made, the newest first."""
        query = (
            sa.select(
                ResultRow.id, JobRow.study_id, JobRow.id, TaskRow.bundle, ResultRow.created_at
            )
            .join(TaskRow, TaskRow.id == ResultRow.task_id)
            .join(JobRow, JobRow.id == TaskRow.job_id)
            .where(TaskRow.bundle == identity)
            .order_by(ResultRow.created_at.desc(), ResultRow.id)
        )
        with self._database.read() as session:
            return [ResultOf(*row) for row in session.execute(query)]

    # --- deciding -------------------------------------------------------------------------------

    def sign(
        self,
        identity: str,
        *,
        sha256: str,
        signature: str,
        by: str,
        stage: Stage = "candidate",
        dataset: str | None = None,
        training_id: str | None = None,
    ) -> VersionView:
        """Note a version with its signed hash; the same one again changes nothing.

        Raises
        ------
        Conflict
            When that version is known with another hash: versions are not written over.
        """
        name, _, version = identity.partition("@")
        with self._database.write() as session:
            row = session.get(ModelVersionRow, identity)
            if row is not None and row.sha256 != sha256:
                raise Conflict(f"{identity} is known with another hash")
            if row is None:
                row = ModelVersionRow(
                    id=identity,
                    name=name,
                    version=version,
                    sha256=sha256,
                    signature=signature,
                    stage=stage,
                    dataset=dataset,
                    training_id=training_id,
                    created_at=datetime.now(UTC),
                    why="",
                )
                session.add(row)
                session.flush()
                _note(session, identity, "signed", by, "")
            return _view(row, ())

    def note(self, identity: str, deed: Deed, *, by: str, why: str) -> None:
        """Add what was done with a version, without changing its stage.

        Raises
        ------
        NotFound
        """
        with self._database.write() as session:
            _row(session, identity)
            _note(session, identity, deed, by, why)

    def make_current(self, identity: str, *, by: str, why: str) -> VersionView:
        """Let a version take the place of the one that is current, in one transaction.

        Raises
        ------
        NotFound
        Conflict
            When it was withdrawn.
        """
        with self._database.write() as session:
            row = _row(session, identity)
            if row.stage == "withdrawn":
                raise Conflict(f"{identity} was withdrawn")
            if row.stage == "current":
                return _view(row, ())
            before = _current(session, row.name)
            if before is not None:
                _stage(session, before, "retired", "retired", by, f"{identity} took its place")
                row.predecessor = before.id
            _stage(session, row, "current", "promoted", by, why)
            return _view(row, ())

    def roll_back(self, name: str, *, by: str, why: str) -> VersionView:
        """Withdraw the current version and let the one before it be current again.

        Raises
        ------
        Conflict
            When there is none before it.
        """
        with self._database.write() as session:
            row = _current(session, name)
            if row is None:
                raise Conflict(f"no version of {name} was ever promoted on this node")
            before = None if row.predecessor is None else _row(session, row.predecessor)
            while before is not None and before.stage == "withdrawn":
                before = None if before.predecessor is None else _row(session, before.predecessor)
            if before is None:
                raise Conflict(
                    f"there is no version of {name} before {row.version} to return to: promote "
                    f"another one, or withdraw {row.id}"
                )
            _stage(session, row, "withdrawn", "withdrawn", by, why)
            session.flush()
            _stage(session, before, "current", "restored", by, f"{row.id} was withdrawn: {why}")
            return _view(before, ())

    def withdraw(self, identity: str, *, by: str, why: str) -> None:
        """Let a version never run again; where it is current, none is until one is promoted.

        Raises
        ------
        NotFound
        Conflict
            When it was withdrawn before.
        """
        with self._database.write() as session:
            row = _row(session, identity)
            if row.stage == "withdrawn":
                raise Conflict(f"{identity} was withdrawn already")
            _stage(session, row, "withdrawn", "withdrawn", by, why)

    # --- figures --------------------------------------------------------------------------------

    def keep_evaluation(self, new: EvaluationView) -> None:
        """Keep figures; a second time with the same id nothing more."""
        with self._database.write() as session:
            if session.get(EvaluationRow, new.id) is not None:
                return
            session.add(
                EvaluationRow(
                    id=new.id,
                    bundle=new.bundle,
                    bundle_sha256=new.bundle_sha256,
                    against=new.against,
                    dataset=new.dataset,
                    dataset_sha256=new.dataset_sha256,
                    split=new.split,
                    figures=dict(new.figures),
                    accepted=new.accepted,
                    verdict=new.verdict,
                    created_at=new.created_at,
                )
            )

    def evaluations(self, identity: str) -> list[EvaluationView]:
        """Return a version's figures, the newest first."""
        query = sa.select(EvaluationRow).where(EvaluationRow.bundle == identity)
        with self._database.read() as session:
            rows = session.scalars(query.order_by(EvaluationRow.created_at.desc()))
            return [
                EvaluationView(
                    id=row.id,
                    bundle=row.bundle,
                    bundle_sha256=row.bundle_sha256,
                    against=row.against,
                    dataset=row.dataset,
                    dataset_sha256=row.dataset_sha256,
                    split=row.split,
                    figures=row.figures,
                    accepted=row.accepted,
                    verdict=row.verdict,
                    created_at=row.created_at,
                )
                for row in rows
            ]


def new_evaluation_id() -> str:
    """Return an id for figures."""
    return secrets.token_hex(12)


def _stage(
    session: Session, row: ModelVersionRow, stage: Stage, deed: Deed, by: str, why: str
) -> None:
    row.stage, row.decided_by, row.decided_at, row.why = stage, by, datetime.now(UTC), why
    _note(session, row.id, deed, by, why)


def _note(session: Session, identity: str, deed: Deed, by: str, why: str) -> None:
    session.add(ModelDeedRow(model=identity, deed=deed, by=by, at=datetime.now(UTC), why=why))


def _current(session: Session, name: str) -> ModelVersionRow | None:
    query = sa.select(ModelVersionRow).where(
        ModelVersionRow.name == name, ModelVersionRow.stage == "current"
    )
    return session.scalar(query.with_for_update())


def _row(session: Session, identity: str) -> ModelVersionRow:
    row = session.get(ModelVersionRow, identity)
    if row is None:
        raise NotFound(f"the node has not signed a model {identity}")
    return row


def _deed(row: ModelDeedRow) -> DeedView:
    return DeedView(
        row.model,
        row.deed,  # type: ignore[arg-type]  # only `Deed`s are written
        row.by,
        row.at,
        row.why,
    )


def _view(row: ModelVersionRow, deeds: tuple[DeedView, ...]) -> VersionView:
    return VersionView(
        id=row.id,
        name=row.name,
        version=row.version,
        sha256=row.sha256,
        signature=row.signature,
        stage=row.stage,  # type: ignore[arg-type]  # only `Stage`s are written
        dataset=row.dataset,
        training_id=row.training_id,
        predecessor=row.predecessor,
        created_at=row.created_at,
        decided_by=row.decided_by,
        decided_at=row.decided_at,
        why=row.why,
        deeds=deeds,
    )
