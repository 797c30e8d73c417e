"""the vault knows projects."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the step; what is there is the node's own, its patients are filled in by a reseal."""
    with op.batch_alter_table("identity_vault", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column("project", sa.String(), nullable=False, server_default="node")
        )
        batch_op.add_column(sa.Column("patient", sa.String(), nullable=False, server_default=""))
        batch_op.create_index(batch_op.f("ix_identity_vault_patient"), ["patient"], unique=False)


def downgrade() -> None:
    """Take the step back."""
    with op.batch_alter_table("identity_vault", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_identity_vault_patient"))
        batch_op.drop_column("patient")
        batch_op.drop_column("project")
