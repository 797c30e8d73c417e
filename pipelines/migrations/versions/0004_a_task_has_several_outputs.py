"""a task has several outputs."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_task = sa.table("task", sa.column("output", sa.String()), sa.column("outputs", sa.JSON()))


def upgrade() -> None:
    """Apply the step; what was one output is a list of one."""
    with op.batch_alter_table("task", schema=None) as batch_op:
        batch_op.add_column(sa.Column("outputs", sa.JSON(), nullable=False, server_default="[]"))
    for (output,) in op.get_bind().execute(sa.select(_task.c.output).distinct()).all():
        op.execute(_task.update().where(_task.c.output == output).values(outputs=[output]))
    with op.batch_alter_table("task", schema=None) as batch_op:
        batch_op.alter_column("outputs", server_default=None)
        batch_op.drop_column("output")


def downgrade() -> None:
    """Take the step back; of several outputs the first stays."""
    with op.batch_alter_table("task", schema=None) as batch_op:
        batch_op.add_column(sa.Column("output", sa.String(), nullable=False, server_default="seg"))
    with op.batch_alter_table("task", schema=None) as batch_op:
        batch_op.alter_column("output", server_default=None)
        batch_op.drop_column("outputs")
