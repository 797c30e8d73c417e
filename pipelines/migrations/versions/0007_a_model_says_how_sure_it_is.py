"""a model says how sure it is."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the step."""
    with op.batch_alter_table("task", schema=None) as batch_op:
        batch_op.add_column(sa.Column("confidence", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Take the step back."""
    with op.batch_alter_table("task", schema=None) as batch_op:
        batch_op.drop_column("confidence")
