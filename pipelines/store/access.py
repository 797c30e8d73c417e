"""Users, logins, tokens, and the workers' heartbeats."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicom.errors import NotFound
from pipelines.records import SessionRow, TokenRow, UserRow, WorkerRow
from pipelines.store.database import Database

Role = Literal["admin", "radiologist", "researcher", "custodian"]
"""What a person may do; docs/operations.md has the table."""


@dataclass(frozen=True, slots=True)
class User:
    """A person who may log in."""

    name: str
    role: Role
    password_hash: str
    disabled: bool


@dataclass(frozen=True, slots=True)
class Token:
    """An API token, without its secret."""

    token_sha256: str
    name: str
    user: str
    created_at: datetime
    expires_at: datetime | None
    revoked: bool
    used_at: datetime | None


class Access:
    """Who may do what."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- users ---------------------------------------------------------------------------------

    def put_user(self, name: str, *, role: Role, password_hash: str) -> None:
        """Add a user, or give an existing one a new role and password; ends old logins."""
        with self._database.write() as session:
            row = session.get(UserRow, name)
            if row is None:
                session.add(
                    UserRow(
                        name=name,
                        role=role,
                        password_hash=password_hash,
                        disabled=False,
                        created_at=datetime.now(UTC),
                    )
                )
                return
            row.role, row.password_hash, row.disabled = role, password_hash, False
            session.execute(sa.delete(SessionRow).where(SessionRow.user == name))

    def rehash(self, name: str, password_hash: str) -> None:
        """Keep the same password under today's hash parameters; logins go on."""
        with self._database.write() as session:
            session.execute(
                sa.update(UserRow).where(UserRow.name == name).values(password_hash=password_hash)
            )

    def disable_user(self, name: str) -> None:
        """Refuse a user from now on: logins and tokens end at once.

        Raises
        ------
        NotFound
        """
        with self._database.write() as session:
            row = session.get(UserRow, name)
            if row is None:
                raise NotFound("no such user")
            row.disabled = True
            session.execute(sa.delete(SessionRow).where(SessionRow.user == name))

    def user(self, name: str) -> User | None:
        """Return a user, or None."""
        with self._database.read() as session:
            row = session.get(UserRow, name)
            return _user(row) if row else None

    def users(self) -> list[User]:
        """Return every user, by name."""
        with self._database.read() as session:
            return [
                _user(row) for row in session.scalars(sa.select(UserRow).order_by(UserRow.name))
            ]

    # --- logins --------------------------------------------------------------------------------

    def open_session(self, token_sha256: str, user: str, *, lifetime: timedelta) -> None:
        """Keep a new login; expired ones are swept away."""
        now = datetime.now(UTC)
        with self._database.write() as session:
            session.execute(sa.delete(SessionRow).where(SessionRow.expires_at <= now))
            session.add(
                SessionRow(
                    token_sha256=token_sha256,
                    user=user,
                    created_at=now,
                    seen_at=now,
                    expires_at=now + lifetime,
                )
            )

    def session_user(
        self, token_sha256: str, *, idle: timedelta, note_use: bool = True
    ) -> User | None:
        """Return whose login that is; None when unknown, expired, idle too long or disabled.

        Without `note_use` the look does not count as use: an open page that only listens must not
        keep a login alive.
        """
        now = datetime.now(UTC)
        with self._database.read() as session:
            # One question: it comes before every slice that a viewer asks for.
            found = session.execute(
                sa.select(SessionRow.expires_at, SessionRow.seen_at, UserRow)
                .join(UserRow, UserRow.name == SessionRow.user)
                .where(SessionRow.token_sha256 == token_sha256, ~UserRow.disabled)
            ).one_or_none()
            if found is None or found.expires_at <= now or found.seen_at + idle <= now:
                return None
            user = _user(found.UserRow)
            stale = note_use and now - found.seen_at > timedelta(minutes=1)
        if stale:
            with self._database.write() as session:
                session.execute(
                    sa.update(SessionRow)
                    .where(SessionRow.token_sha256 == token_sha256)
                    .values(seen_at=now)
                )
        return user

    def close_session(self, token_sha256: str) -> None:
        """End a login."""
        with self._database.write() as session:
            session.execute(sa.delete(SessionRow).where(SessionRow.token_sha256 == token_sha256))

    # --- tokens --------------------------------------------------------------------------------

    def add_token(
        self, token_sha256: str, *, name: str, user: str, expires_at: datetime | None
    ) -> None:
        """Keep a new API token.

        Raises
        ------
        NotFound
            When there is no such user.
        """
        with self._database.write() as session:
            if session.get(UserRow, user) is None:
                raise NotFound("no such user")
            session.add(
                TokenRow(
                    token_sha256=token_sha256,
                    name=name,
                    user=user,
                    created_at=datetime.now(UTC),
                    expires_at=expires_at,
                    revoked=False,
                )
            )

    def token_user(self, token_sha256: str) -> User | None:
        """Return whose token that is; None when unknown, expired, revoked or disabled."""
        now = datetime.now(UTC)
        with self._database.read() as session:
            row = session.get(TokenRow, token_sha256)
            if row is None or row.revoked or (row.expires_at and row.expires_at <= now):
                return None
            user = _active_user(session, row.user)
            stale = row.used_at is None or now - row.used_at > timedelta(minutes=1)
        if user is not None and stale:
            with self._database.write() as session:
                session.execute(
                    sa.update(TokenRow)
                    .where(TokenRow.token_sha256 == token_sha256)
                    .values(used_at=now)
                )
        return user

    def tokens(self) -> list[Token]:
        """Return every token, without secrets."""
        with self._database.read() as session:
            rows = session.scalars(sa.select(TokenRow).order_by(TokenRow.created_at))
            return [
                Token(
                    token_sha256=row.token_sha256,
                    name=row.name,
                    user=row.user,
                    created_at=row.created_at,
                    expires_at=row.expires_at,
                    revoked=row.revoked,
                    used_at=row.used_at,
                )
                for row in rows
            ]

    def revoke_token(self, name: str) -> int:
        """Revoke every token of that name; return how many there were."""
        with self._database.write() as session:
            names = list(session.scalars(sa.select(TokenRow).where(TokenRow.name == name)))
            for row in names:
                row.revoked = True
            return len(names)

    # --- workers -------------------------------------------------------------------------------

    def beat(self, executor_id: str) -> None:
        """Note that a worker is alive."""
        now = datetime.now(UTC)
        with self._database.write() as session:
            row = session.get(WorkerRow, executor_id)
            if row is None:
                session.add(WorkerRow(executor_id=executor_id, started_at=now, seen_at=now))
            else:
                row.seen_at = now

    def workers_seen(self, *, within: timedelta) -> list[str]:
        """Return the workers that were alive within that time."""
        horizon = datetime.now(UTC) - within
        with self._database.read() as session:
            return list(
                session.scalars(
                    sa.select(WorkerRow.executor_id).where(WorkerRow.seen_at >= horizon)
                )
            )

    def forget_worker(self, executor_id: str) -> None:
        """Drop a worker that ended in order."""
        with self._database.write() as session:
            session.execute(sa.delete(WorkerRow).where(WorkerRow.executor_id == executor_id))


def _active_user(session: Session, name: str) -> User | None:
    row = session.get(UserRow, name)
    return _user(row) if row and not row.disabled else None


def _user(row: UserRow) -> User:
    if row.role not in get_args(Role):
        raise ValueError("a user with an unknown role")
    return User(
        name=row.name,
        role=row.role,  # type: ignore[arg-type]  # checked above; mypy does not narrow str
        password_hash=row.password_hash,
        disabled=row.disabled,
    )
