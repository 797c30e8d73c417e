"""corrections, assessments, drafts, what comes from elsewhere, and runs that people ask for."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the step."""
    op.create_table(
        "draft",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("user", sa.String(), nullable=False),
        sa.Column("study_key", sa.String(), nullable=False),
        sa.Column("series_key", sa.String(), nullable=False),
        sa.Column("predecessor_key", sa.String(), nullable=False),
        sa.Column("saved_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("saving_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_draft")),
        sa.UniqueConstraint(
            "user",
            "series_key",
            "predecessor_key",
            name=op.f("uq_draft_user_series_key_predecessor_key"),
        ),
    )
    with op.batch_alter_table("draft", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_draft_saving_since"), ["saving_since"], unique=False)
        batch_op.create_index(batch_op.f("ix_draft_study_key"), ["study_key"], unique=False)
        batch_op.create_index(batch_op.f("ix_draft_user"), ["user"], unique=False)
    op.create_table(
        "asked_run",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("series_id", sa.String(), nullable=False),
        sa.Column("bundle", sa.String(), nullable=False),
        sa.Column("region", sa.JSON(), nullable=True),
        sa.Column("asked_by", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_asked_run_job_id_job")),
        sa.ForeignKeyConstraint(
            ["series_id"], ["series.id"], name=op.f("fk_asked_run_series_id_series")
        ),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_asked_run")),
    )
    op.create_table(
        "correction",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("series_uid", sa.String(), nullable=False),
        sa.Column("orthanc_id", sa.String(), nullable=True),
        sa.Column("study_id", sa.String(), nullable=False),
        sa.Column("series_id", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("predecessor_id", sa.String(), nullable=True),
        sa.Column("result_id", sa.String(), nullable=True),
        sa.Column("bundle", sa.String(), nullable=True),
        sa.Column("author", sa.String(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("series_number", sa.Integer(), nullable=False),
        sa.Column("stale", sa.Boolean(), nullable=False),
        sa.Column("segments", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("stored_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("active_s", sa.Double(), nullable=True),
        sa.Column("idle_s", sa.Double(), nullable=True),
        sa.Column("strokes", sa.Integer(), nullable=True),
        sa.Column("measured_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("changed_voxels", sa.Integer(), nullable=True),
        sa.Column("added_path_mm", sa.Double(), nullable=True),
        sa.Column("surface_dice", sa.Double(), nullable=True),
        sa.Column("tolerance_mm", sa.Double(), nullable=True),
        sa.Column("compared", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(
            ["series_id"], ["series.id"], name=op.f("fk_correction_series_id_series")
        ),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.id"], name=op.f("fk_correction_study_id_study")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_correction")),
    )
    with op.batch_alter_table("correction", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_correction_author"), ["author"], unique=False)
        batch_op.create_index(batch_op.f("ix_correction_bundle"), ["bundle"], unique=False)
        batch_op.create_index(batch_op.f("ix_correction_orthanc_id"), ["orthanc_id"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_correction_predecessor_id"), ["predecessor_id"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_correction_result_id"), ["result_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_correction_series_id"), ["series_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_correction_series_uid"), ["series_uid"], unique=False)
        batch_op.create_index(batch_op.f("ix_correction_state"), ["state"], unique=False)
        batch_op.create_index(batch_op.f("ix_correction_study_id"), ["study_id"], unique=False)
    op.create_table(
        "assessment",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("study_id", sa.String(), nullable=False),
        sa.Column("result_id", sa.String(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("comment", sa.LargeBinary(), nullable=True),
        sa.Column("correction_id", sa.String(), nullable=True),
        sa.Column("author", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["correction_id"],
            ["correction.id"],
            name=op.f("fk_assessment_correction_id_correction"),
        ),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.id"], name=op.f("fk_assessment_study_id_study")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_assessment")),
    )
    with op.batch_alter_table("assessment", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_assessment_author"), ["author"], unique=False)
        batch_op.create_index(batch_op.f("ix_assessment_created_at"), ["created_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_assessment_result_id"), ["result_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_assessment_study_id"), ["study_id"], unique=False)
    op.create_table(
        "seen_elsewhere",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("orthanc_id", sa.String(), nullable=False),
        sa.Column("study_id", sa.String(), nullable=False),
        sa.Column("series_id", sa.String(), nullable=False),
        sa.Column("modality", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason_code", sa.String(), nullable=True),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("correction_id", sa.String(), nullable=True),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("settled_by", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["correction_id"],
            ["correction.id"],
            name=op.f("fk_seen_elsewhere_correction_id_correction"),
        ),
        sa.ForeignKeyConstraint(
            ["series_id"], ["series.id"], name=op.f("fk_seen_elsewhere_series_id_series")
        ),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.id"], name=op.f("fk_seen_elsewhere_study_id_study")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_seen_elsewhere")),
        sa.UniqueConstraint("orthanc_id", name=op.f("uq_seen_elsewhere_orthanc_id")),
    )
    with op.batch_alter_table("seen_elsewhere", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_seen_elsewhere_series_id"), ["series_id"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_seen_elsewhere_state"), ["state"], unique=False)
        batch_op.create_index(batch_op.f("ix_seen_elsewhere_study_id"), ["study_id"], unique=False)


def downgrade() -> None:
    """Take the step back."""
    with op.batch_alter_table("seen_elsewhere", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_seen_elsewhere_study_id"))
        batch_op.drop_index(batch_op.f("ix_seen_elsewhere_state"))
        batch_op.drop_index(batch_op.f("ix_seen_elsewhere_series_id"))
    op.drop_table("seen_elsewhere")
    with op.batch_alter_table("assessment", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_assessment_study_id"))
        batch_op.drop_index(batch_op.f("ix_assessment_result_id"))
        batch_op.drop_index(batch_op.f("ix_assessment_created_at"))
        batch_op.drop_index(batch_op.f("ix_assessment_author"))
    op.drop_table("assessment")
    with op.batch_alter_table("correction", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_correction_study_id"))
        batch_op.drop_index(batch_op.f("ix_correction_state"))
        batch_op.drop_index(batch_op.f("ix_correction_series_uid"))
        batch_op.drop_index(batch_op.f("ix_correction_series_id"))
        batch_op.drop_index(batch_op.f("ix_correction_result_id"))
        batch_op.drop_index(batch_op.f("ix_correction_predecessor_id"))
        batch_op.drop_index(batch_op.f("ix_correction_orthanc_id"))
        batch_op.drop_index(batch_op.f("ix_correction_bundle"))
        batch_op.drop_index(batch_op.f("ix_correction_author"))
    op.drop_table("correction")
    op.drop_table("asked_run")
    with op.batch_alter_table("draft", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_draft_user"))
        batch_op.drop_index(batch_op.f("ix_draft_study_key"))
        batch_op.drop_index(batch_op.f("ix_draft_saving_since"))
    op.drop_table("draft")
