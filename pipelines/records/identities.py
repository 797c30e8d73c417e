"""Sealed identities."""

from __future__ import annotations

from sqlalchemy.orm import Mapped, mapped_column

from pipelines.records.base import Base


class VaultRow(Base):
    """A study's sealed identity; opened by `pipelines.identity` alone."""

    __tablename__ = "identity_vault"

    study_id: Mapped[str] = mapped_column(primary_key=True)
    project: Mapped[str] = mapped_column(server_default="node")
    patient: Mapped[str] = mapped_column(server_default="", index=True)  # a pseudonym
    sealed: Mapped[bytes]
