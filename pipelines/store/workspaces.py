"""Shared workspaces, and what people write of cases (sealed before it gets here)."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from dicom.errors import Conflict, NotFound
from pipelines.records import (
    CaseCommentRow,
    CaseRow,
    WorkspaceCaseRow,
    WorkspaceMemberRow,
    WorkspaceRow,
)
from pipelines.store.database import Database


@dataclass(frozen=True, slots=True)
class WorkspaceView:
    """A named set of cases, and who shares it."""

    name: str
    made_by: str
    made_at: datetime
    members: tuple[str, ...]
    cases: int


@dataclass(frozen=True, slots=True)
class SealedComment:
    """What somebody wrote of a case, sealed."""

    id: str
    case_id: str
    author: str
    created_at: datetime
    sealed: bytes


class Workspaces:
    """Shared workspaces; only members know of one."""

    def __init__(
        self, database: Database, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._database = database
        self._clock = clock

    def make(self, name: str, *, by: str) -> WorkspaceView:
        """Make a workspace, whose first member is who made it.

        Raises
        ------
        Conflict
            When the name is taken.
        """
        try:
            with self._database.write() as session:
                session.add(WorkspaceRow(name=name, made_by=by, made_at=self._clock()))
                session.flush()
                session.add(WorkspaceMemberRow(workspace=name, user=by))
        except sa.exc.IntegrityError:
            raise Conflict("there is a workspace of that name already") from None
        return self.workspace(name, member=by)

    def of_member(self, user: str) -> list[WorkspaceView]:
        """Return the workspaces that a person shares, by name."""
        mine = sa.select(WorkspaceMemberRow.workspace).where(WorkspaceMemberRow.user == user)
        return self._found(WorkspaceRow.name.in_(mine))

    def workspace(self, name: str, *, member: str) -> WorkspaceView:
        """Return one workspace.

        Raises
        ------
        NotFound
            When there is none of that name, or that person does not share it.
        """
        for found in self._found(WorkspaceRow.name == name):
            if member in found.members:
                return found
        raise NotFound("no such workspace, or you do not share it")

    def set_members(self, name: str, members: Sequence[str]) -> None:
        """Say who shares a workspace.

        Raises
        ------
        Conflict
            When nobody would be left.
        """
        if not members:
            raise Conflict("a workspace has a member at least; delete it instead")
        with self._database.write() as session:
            session.execute(
                sa.delete(WorkspaceMemberRow).where(WorkspaceMemberRow.workspace == name)
            )
            session.add_all(
                WorkspaceMemberRow(workspace=name, user=user) for user in sorted(set(members))
            )

    def put(self, name: str, case_ids: Sequence[str]) -> None:
        """Put cases into a workspace; those that are there stay.

        Raises
        ------
        NotFound
            When there is no such case.
        """
        with self._database.write() as session:
            wanted = set(case_ids)
            known = set(session.scalars(sa.select(CaseRow.id).where(CaseRow.id.in_(wanted))))
            if known != wanted:
                raise NotFound("no such case")
            inside = sa.select(WorkspaceCaseRow.case_id).where(WorkspaceCaseRow.workspace == name)
            there = set(session.scalars(inside))
            session.add_all(
                WorkspaceCaseRow(workspace=name, case_id=case) for case in sorted(wanted - there)
            )

    def take(self, name: str, case_id: str) -> None:
        """Take a case out of a workspace; one that is not in it is no error."""
        with self._database.write() as session:
            session.execute(
                sa.delete(WorkspaceCaseRow).where(
                    WorkspaceCaseRow.workspace == name, WorkspaceCaseRow.case_id == case_id
                )
            )

    def delete(self, name: str) -> None:
        """End a workspace; its cases stay where they are."""
        with self._database.write() as session:
            for table in (WorkspaceCaseRow, WorkspaceMemberRow):
                session.execute(sa.delete(table).where(table.workspace == name))
            session.execute(sa.delete(WorkspaceRow).where(WorkspaceRow.name == name))

    def _found(self, condition: sa.ColumnElement[bool]) -> list[WorkspaceView]:
        with self._database.read() as session:
            rows = list(
                session.scalars(
                    sa.select(WorkspaceRow).where(condition).order_by(WorkspaceRow.name)
                )
            )
            names = [row.name for row in rows]
            members: dict[str, list[str]] = defaultdict(list)
            for one in session.scalars(
                sa.select(WorkspaceMemberRow)
                .where(WorkspaceMemberRow.workspace.in_(names))
                .order_by(WorkspaceMemberRow.user)
            ):
                members[one.workspace].append(one.user)
            counts = {
                row.workspace: row.cases
                for row in session.execute(
                    sa.select(WorkspaceCaseRow.workspace, sa.func.count().label("cases"))
                    .where(WorkspaceCaseRow.workspace.in_(names))
                    .group_by(WorkspaceCaseRow.workspace)
                )
            }
            return [
                WorkspaceView(
                    row.name,
                    row.made_by,
                    row.made_at,
                    tuple(members[row.name]),
                    counts.get(row.name, 0),
                )
                for row in rows
            ]


class CaseComments:
    """What people wrote of cases."""

    def __init__(
        self, database: Database, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._database = database
        self._clock = clock

    def add(self, case_id: str, *, author: str, seal: Callable[[str], bytes]) -> SealedComment:
        """Keep a comment.

        Parameters
        ----------
        seal : callable
            Returns the sealed bytes for the comment's id, to which they are bound.

        Raises
        ------
        NotFound
            When there is no such case.
        """
        comment_id = secrets.token_hex(12)
        with self._database.write() as session:
            if session.get(CaseRow, case_id) is None:
                raise NotFound("no such case")
            row = CaseCommentRow(
                id=comment_id,
                case_id=case_id,
                author=author,
                created_at=self._clock(),
                sealed=seal(comment_id),
            )
            session.add(row)
            session.flush()
            return _comment(row)

    def of_case(self, case_id: str) -> list[SealedComment]:
        """Return the comments on a case, the oldest first."""
        query = sa.select(CaseCommentRow).where(CaseCommentRow.case_id == case_id)
        with self._database.read() as session:
            rows = session.scalars(query.order_by(CaseCommentRow.created_at, CaseCommentRow.id))
            return [_comment(row) for row in rows]


def _comment(row: CaseCommentRow) -> SealedComment:
    return SealedComment(row.id, row.case_id, row.author, row.created_at, row.sealed)
