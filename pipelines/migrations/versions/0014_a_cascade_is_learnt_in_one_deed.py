"""A cascade is learnt in one deed: a training knows what is learnt after it.

Revision ID: 0014
Revises: 0013
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Say what follows a training, and which one did."""
    with op.batch_alter_table("training") as table:
        table.add_column(sa.Column("then", sa.JSON, nullable=True))
        table.add_column(sa.Column("followed_by", sa.String, nullable=True))


def downgrade() -> None:
    """Forget what follows trainings."""
    with op.batch_alter_table("training") as table:
        table.drop_column("followed_by")
        table.drop_column("then")
