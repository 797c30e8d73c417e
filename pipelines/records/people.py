"""Who may come in, and who did what."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from pipelines.records.base import Base


class UserRow(Base):
    """A person who may log in."""

    __tablename__ = "user"

    name: Mapped[str] = mapped_column(primary_key=True)
    password_hash: Mapped[str]  # argon2id
    role: Mapped[str]
    disabled: Mapped[bool]
    created_at: Mapped[datetime]


class SessionRow(Base):
    """A login; the cookie's value is kept as a hash only."""

    __tablename__ = "login_session"

    token_sha256: Mapped[str] = mapped_column(primary_key=True)
    user: Mapped[str] = mapped_column(sa.ForeignKey("user.name"), index=True)
    created_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class TokenRow(Base):
    """An API token of a user; kept as a hash only."""

    __tablename__ = "api_token"

    token_sha256: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    user: Mapped[str] = mapped_column(sa.ForeignKey("user.name"), index=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked: Mapped[bool]
    used_at: Mapped[datetime | None]


class AuditRow(Base):
    """Who did what to which thing, and why; rows are only ever added."""

    __tablename__ = "audit_event"

    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int | None] = mapped_column(unique=True)  # without gaps; None: before the chain
    code: Mapped[str | None]  # HMAC of this event and the code before it
    at: Mapped[datetime] = mapped_column(index=True)
    actor: Mapped[str]
    action: Mapped[str]
    object: Mapped[str]  # a pseudonym, job or route; never an original UID
    outcome: Mapped[str]
    reason: Mapped[str]


class AuditHeadRow(Base):
    """The end of the audit trail's chain: one row."""

    __tablename__ = "audit_head"

    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]
    code: Mapped[str]
