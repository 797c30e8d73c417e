"""What a collection's project refuses is held back, too."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the step."""
    with op.batch_alter_table("held", schema=None) as batch_op:
        batch_op.add_column(sa.Column("collection_id", sa.String(), nullable=True))
        batch_op.create_index(batch_op.f("ix_held_collection_id"), ["collection_id"], unique=False)
        batch_op.create_foreign_key(
            batch_op.f("fk_held_collection_id_collection"),
            "collection",
            ["collection_id"],
            ["id"],
        )


def downgrade() -> None:
    """Take the step back."""
    with op.batch_alter_table("held", schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f("fk_held_collection_id_collection"), type_="foreignkey")
        batch_op.drop_index(batch_op.f("ix_held_collection_id"))
        batch_op.drop_column("collection_id")
