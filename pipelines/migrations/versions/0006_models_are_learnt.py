"""datasets, trainings, versions of models, their figures and alarms."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the step."""
    op.create_table(
        "dataset",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("rule", sa.JSON(), nullable=True),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dataset")),
    )
    with op.batch_alter_table("dataset", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_dataset_name"), ["name"], unique=False)

    op.create_table(
        "evaluation",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("bundle", sa.String(), nullable=False),
        sa.Column("bundle_sha256", sa.String(), nullable=False),
        sa.Column("against", sa.String(), nullable=True),
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("dataset_sha256", sa.String(), nullable=False),
        sa.Column("split", sa.String(), nullable=False),
        sa.Column("figures", sa.JSON(), nullable=False),
        sa.Column("accepted", sa.Boolean(), nullable=True),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evaluation")),
    )
    with op.batch_alter_table("evaluation", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_evaluation_bundle"), ["bundle"], unique=False)

    op.create_table(
        "learning_rule",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("looked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("training_id", sa.String(), nullable=True),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_learning_rule")),
    )
    op.create_table(
        "model_alarm",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("bundle", sa.String(), nullable=False),
        sa.Column("scanner", sa.String(), nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("raised_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("settled_by", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_alarm")),
    )
    with op.batch_alter_table("model_alarm", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_model_alarm_bundle"), ["bundle"], unique=False)
        batch_op.create_index(batch_op.f("ix_model_alarm_raised_at"), ["raised_at"], unique=False)

    op.create_table(
        "dataset_case",
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("case", sa.String(), nullable=False),
        sa.Column("patient", sa.String(), nullable=False),
        sa.Column("split", sa.String(), nullable=False),
        sa.Column("study_id", sa.String(), nullable=True),
        sa.Column("series_id", sa.String(), nullable=True),
        sa.Column("label_ids", sa.JSON(), nullable=False),
        sa.Column("authors", sa.JSON(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("fused", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset"], ["dataset.id"], name=op.f("fk_dataset_case_dataset_dataset")
        ),
        sa.PrimaryKeyConstraint("dataset", "case", name=op.f("pk_dataset_case")),
    )
    with op.batch_alter_table("dataset_case", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_dataset_case_patient"), ["patient"], unique=False)
        batch_op.create_index(batch_op.f("ix_dataset_case_study_id"), ["study_id"], unique=False)

    op.create_table(
        "training",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("dataset", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("plan", sa.JSON(), nullable=False),
        sa.Column("graph", sa.JSON(), nullable=True),
        sa.Column("start_from", sa.String(), nullable=True),
        sa.Column("minutes", sa.Double(), nullable=True),
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("at_once", sa.Boolean(), nullable=False),
        sa.Column("rule", sa.String(), nullable=True),
        sa.Column("asked_by", sa.String(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("step", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("handed_over", sa.Boolean(), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("progress", sa.Double(), nullable=False),
        sa.Column("used_s", sa.Double(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("error_code", sa.String(), nullable=True),
        sa.Column("error_message", sa.String(), nullable=True),
        sa.Column("candidate", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["dataset"], ["dataset.id"], name=op.f("fk_training_dataset_dataset")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_training")),
    )
    with op.batch_alter_table("training", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_training_asked_at"), ["asked_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_training_changed_at"), ["changed_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_training_dataset"), ["dataset"], unique=False)
        batch_op.create_index(batch_op.f("ix_training_name"), ["name"], unique=False)
        batch_op.create_index(batch_op.f("ix_training_state"), ["state"], unique=False)

    op.create_table(
        "model_version",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("signature", sa.String(), nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("dataset", sa.String(), nullable=True),
        sa.Column("training_id", sa.String(), nullable=True),
        sa.Column("predecessor", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_by", sa.String(), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("why", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["training_id"], ["training.id"], name=op.f("fk_model_version_training_id_training")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_version")),
    )
    with op.batch_alter_table("model_version", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_model_version_name"), ["name"], unique=False)
        batch_op.create_index(batch_op.f("ix_model_version_stage"), ["stage"], unique=False)

    op.create_table(
        "training_epoch",
        sa.Column("training_id", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("loss", sa.Double(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("classes", sa.JSON(), nullable=False),
        sa.Column("rate", sa.Double(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("waited_s", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["training_id"], ["training.id"], name=op.f("fk_training_epoch_training_id_training")
        ),
        sa.PrimaryKeyConstraint("training_id", "number", name=op.f("pk_training_epoch")),
    )
    op.create_table(
        "model_deed",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("deed", sa.String(), nullable=False),
        sa.Column("by", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("why", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model"], ["model_version.id"], name=op.f("fk_model_deed_model_model_version")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_deed")),
    )
    with op.batch_alter_table("model_deed", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_model_deed_model"), ["model"], unique=False)


def downgrade() -> None:
    """Take the step back."""
    with op.batch_alter_table("model_deed", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_model_deed_model"))

    op.drop_table("model_deed")
    op.drop_table("training_epoch")
    with op.batch_alter_table("model_version", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_model_version_stage"))
        batch_op.drop_index(batch_op.f("ix_model_version_name"))

    op.drop_table("model_version")
    with op.batch_alter_table("training", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_training_state"))
        batch_op.drop_index(batch_op.f("ix_training_name"))
        batch_op.drop_index(batch_op.f("ix_training_dataset"))
        batch_op.drop_index(batch_op.f("ix_training_changed_at"))
        batch_op.drop_index(batch_op.f("ix_training_asked_at"))

    op.drop_table("training")
    with op.batch_alter_table("dataset_case", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_dataset_case_study_id"))
        batch_op.drop_index(batch_op.f("ix_dataset_case_patient"))

    op.drop_table("dataset_case")
    with op.batch_alter_table("model_alarm", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_model_alarm_raised_at"))
        batch_op.drop_index(batch_op.f("ix_model_alarm_bundle"))

    op.drop_table("model_alarm")
    op.drop_table("learning_rule")
    with op.batch_alter_table("evaluation", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_evaluation_bundle"))

    op.drop_table("evaluation")
    with op.batch_alter_table("dataset", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_dataset_name"))

    op.drop_table("dataset")
