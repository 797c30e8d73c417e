"""people ask for datasets; a day of training is counted; what a model is shown is kept in short."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the step."""
    op.create_table(
        "freezing",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("picked", sa.JSON(), nullable=False),
        sa.Column("validation", sa.Double(), nullable=False),
        sa.Column("test", sa.Double(), nullable=False),
        sa.Column("then", sa.JSON(), nullable=True),
        sa.Column("asked_by", sa.String(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("handed_over", sa.Boolean(), nullable=False),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("dataset", sa.String(), nullable=True),
        sa.Column("training_id", sa.String(), nullable=True),
        sa.Column("left_out", sa.JSON(), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error_code", sa.String(), nullable=True),
        sa.Column("error_message", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["training_id"], ["training.id"], name=op.f("fk_freezing_training_id_training")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_freezing")),
    )
    with op.batch_alter_table("freezing", schema=None) as batch_op:
        for name in ("asked_at", "name", "state"):
            batch_op.create_index(batch_op.f(f"ix_freezing_{name}"), [name], unique=False)
    op.create_table(
        "training_span",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("training_id", sa.String(), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["training_id"], ["training.id"], name=op.f("fk_training_span_training_id_training")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_training_span")),
    )
    with op.batch_alter_table("training_span", schema=None) as batch_op:
        for name in ("ended_at", "training_id"):
            batch_op.create_index(batch_op.f(f"ix_training_span_{name}"), [name], unique=False)
    with op.batch_alter_table("task", schema=None) as batch_op:
        batch_op.add_column(sa.Column("greys", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Take the step back."""
    with op.batch_alter_table("task", schema=None) as batch_op:
        batch_op.drop_column("greys")
    op.drop_table("training_span")
    op.drop_table("freezing")
