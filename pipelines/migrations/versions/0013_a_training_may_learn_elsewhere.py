"""A training may learn elsewhere: on this machine, or as a job of a cluster.

Revision ID: 0013
Revises: 0012
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Say where each training learns, and how it stands there."""
    with op.batch_alter_table("training") as table:
        table.add_column(sa.Column("launcher", sa.String, nullable=False, server_default="local"))
        table.add_column(sa.Column("place", sa.String, nullable=False, server_default=""))
    with op.batch_alter_table("training") as table:
        table.alter_column("launcher", server_default=None)
        table.alter_column("place", server_default=None)


def downgrade() -> None:
    """Forget where trainings learn."""
    with op.batch_alter_table("training") as table:
        table.drop_column("place")
        table.drop_column("launcher")
