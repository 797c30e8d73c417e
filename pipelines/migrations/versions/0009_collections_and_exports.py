"""what is collected for projects, and the datasets made of it."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the step."""
    op.create_table(
        "collection",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("wanted", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("handed_over", sa.Boolean(), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("error_code", sa.String(), nullable=True),
        sa.Column("error_message", sa.String(), nullable=True),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_collection")),
    )
    with op.batch_alter_table("collection", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_collection_created_at"), ["created_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_collection_project"), ["project"], unique=False)
        batch_op.create_index(batch_op.f("ix_collection_state"), ["state"], unique=False)

    op.create_table(
        "collected",
        sa.Column("collection_id", sa.String(), nullable=False),
        sa.Column("series_id", sa.String(), nullable=False),
        sa.Column("study_id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.Column("study", sa.String(), nullable=True),
        sa.Column("patient", sa.String(), nullable=True),
        sa.Column("orthanc_id", sa.String(), nullable=True),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("reason_code", sa.String(), nullable=True),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("left_out", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["collection_id"], ["collection.id"], name=op.f("fk_collected_collection_id_collection")
        ),
        sa.PrimaryKeyConstraint("collection_id", "series_id", name=op.f("pk_collected")),
    )
    with op.batch_alter_table("collected", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_collected_patient"), ["patient"], unique=False)
        batch_op.create_index(batch_op.f("ix_collected_study"), ["study"], unique=False)
        batch_op.create_index(batch_op.f("ix_collected_study_id"), ["study_id"], unique=False)

    op.create_table(
        "export",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("collection_id", sa.String(), nullable=True),
        sa.Column("wanted", sa.JSON(), nullable=False),
        sa.Column("formats", sa.JSON(), nullable=False),
        sa.Column("validation", sa.Double(), nullable=False),
        sa.Column("test", sa.Double(), nullable=False),
        sa.Column("seed", sa.String(), nullable=False),
        sa.Column("zipped", sa.Boolean(), nullable=False),
        sa.Column("licence", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("handed_over", sa.Boolean(), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("error_code", sa.String(), nullable=True),
        sa.Column("error_message", sa.String(), nullable=True),
        sa.Column("manifest_sha256", sa.String(), nullable=True),
        sa.Column("files", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("card", sa.JSON(), nullable=True),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deleted_by", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["collection_id"], ["collection.id"], name=op.f("fk_export_collection_id_collection")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_export")),
    )
    with op.batch_alter_table("export", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_export_created_at"), ["created_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_export_project"), ["project"], unique=False)
        batch_op.create_index(batch_op.f("ix_export_state"), ["state"], unique=False)

    op.create_table(
        "exported",
        sa.Column("export_id", sa.String(), nullable=False),
        sa.Column("study", sa.String(), nullable=False),
        sa.Column("patient", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["export_id"], ["export.id"], name=op.f("fk_exported_export_id_export")
        ),
        sa.PrimaryKeyConstraint("export_id", "study", name=op.f("pk_exported")),
    )
    with op.batch_alter_table("exported", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_exported_patient"), ["patient"], unique=False)


def downgrade() -> None:
    """Take the step back."""
    with op.batch_alter_table("exported", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_exported_patient"))

    op.drop_table("exported")
    with op.batch_alter_table("export", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_export_state"))
        batch_op.drop_index(batch_op.f("ix_export_project"))
        batch_op.drop_index(batch_op.f("ix_export_created_at"))

    op.drop_table("export")
    with op.batch_alter_table("collected", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_collected_study_id"))
        batch_op.drop_index(batch_op.f("ix_collected_study"))
        batch_op.drop_index(batch_op.f("ix_collected_patient"))

    op.drop_table("collected")
    with op.batch_alter_table("collection", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_collection_state"))
        batch_op.drop_index(batch_op.f("ix_collection_project"))
        batch_op.drop_index(batch_op.f("ix_collection_created_at"))

    op.drop_table("collection")
