"""cases to read, rounds of reading, comments, shared workspaces."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the step."""
    op.create_table(
        "worklist_look",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_worklist_look")),
    )
    op.create_table(
        "workspace",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("made_by", sa.String(), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_workspace")),
    )
    op.create_table(
        "workspace_member",
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("user", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["workspace"], ["workspace.name"], name=op.f("fk_workspace_member_workspace_workspace")
        ),
        sa.PrimaryKeyConstraint("workspace", "user", name=op.f("pk_workspace_member")),
    )
    with op.batch_alter_table("workspace_member", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_workspace_member_user"), ["user"], unique=False)

    op.create_table(
        "worklist_case",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("study_id", sa.String(), nullable=False),
        sa.Column("series_id", sa.String(), nullable=True),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("modalities", sa.String(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("assigned_to", sa.String(), nullable=True),
        sa.Column("holder", sa.String(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("uncertainty", sa.Double(), nullable=True),
        sa.Column("uncertainty_why", sa.String(), nullable=True),
        sa.Column("disagreement", sa.Double(), nullable=True),
        sa.Column("disagreement_why", sa.String(), nullable=True),
        sa.Column("agreement", sa.JSON(), nullable=True),
        sa.Column("dice", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["series_id"], ["series.id"], name=op.f("fk_worklist_case_series_id_series")
        ),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.id"], name=op.f("fk_worklist_case_study_id_study")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_worklist_case")),
    )
    with op.batch_alter_table("worklist_case", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_worklist_case_assigned_to"), ["assigned_to"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_worklist_case_changed_at"), ["changed_at"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_worklist_case_dice"), ["dice"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_worklist_case_disagreement"), ["disagreement"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_worklist_case_holder"), ["holder"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_worklist_case_lease_until"), ["lease_until"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_worklist_case_received_at"), ["received_at"], unique=False
        )
        batch_op.create_index(
            "ix_worklist_case_state_urgency", ["state", "priority", "received_at"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_worklist_case_study_id"), ["study_id"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_worklist_case_uncertainty"), ["uncertainty"], unique=False
        )
        batch_op.create_index("ix_worklist_case_urgency", ["priority", "received_at"], unique=False)

    op.create_table(
        "case_comment",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("case_id", sa.String(), nullable=False),
        sa.Column("author", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["case_id"], ["worklist_case.id"], name=op.f("fk_case_comment_case_id_worklist_case")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_case_comment")),
    )
    with op.batch_alter_table("case_comment", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_case_comment_case_id"), ["case_id"], unique=False)

    op.create_table(
        "reading_round",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("case_id", sa.String(), nullable=False),
        sa.Column("study_id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("opened_by", sa.String(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("read_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("adjudicator", sa.String(), nullable=True),
        sa.Column("settled_by", sa.String(), nullable=True),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("answer_id", sa.String(), nullable=True),
        sa.Column("agreement", sa.JSON(), nullable=True),
        sa.Column("measured_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["case_id"], ["worklist_case.id"], name=op.f("fk_reading_round_case_id_worklist_case")
        ),
        sa.ForeignKeyConstraint(
            ["study_id"], ["study.id"], name=op.f("fk_reading_round_study_id_study")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reading_round")),
    )
    with op.batch_alter_table("reading_round", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_reading_round_case_id"), ["case_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_reading_round_state"), ["state"], unique=False)
        batch_op.create_index(batch_op.f("ix_reading_round_study_id"), ["study_id"], unique=False)

    op.create_table(
        "workspace_case",
        sa.Column("workspace", sa.String(), nullable=False),
        sa.Column("case_id", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["case_id"], ["worklist_case.id"], name=op.f("fk_workspace_case_case_id_worklist_case")
        ),
        sa.ForeignKeyConstraint(
            ["workspace"], ["workspace.name"], name=op.f("fk_workspace_case_workspace_workspace")
        ),
        sa.PrimaryKeyConstraint("workspace", "case_id", name=op.f("pk_workspace_case")),
    )
    with op.batch_alter_table("workspace_case", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_workspace_case_case_id"), ["case_id"], unique=False)

    op.create_table(
        "reading",
        sa.Column("round_id", sa.String(), nullable=False),
        sa.Column("reader", sa.String(), nullable=False),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("verdict", sa.String(), nullable=True),
        sa.Column("answer_id", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["round_id"], ["reading_round.id"], name=op.f("fk_reading_round_id_reading_round")
        ),
        sa.PrimaryKeyConstraint("round_id", "reader", name=op.f("pk_reading")),
    )
    with op.batch_alter_table("correction", schema=None) as batch_op:
        batch_op.create_index("ix_correction_stored_at", ["stored_at"], unique=False)

    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.create_index("ix_job_ended_at", ["ended_at"], unique=False)

    with op.batch_alter_table("study", schema=None) as batch_op:
        batch_op.create_index("ix_study_received_at", ["received_at"], unique=False)


def downgrade() -> None:
    """Take the step back."""
    with op.batch_alter_table("study", schema=None) as batch_op:
        batch_op.drop_index("ix_study_received_at")

    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.drop_index("ix_job_ended_at")

    with op.batch_alter_table("correction", schema=None) as batch_op:
        batch_op.drop_index("ix_correction_stored_at")

    op.drop_table("reading")
    with op.batch_alter_table("workspace_case", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_workspace_case_case_id"))

    op.drop_table("workspace_case")
    with op.batch_alter_table("reading_round", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_reading_round_study_id"))
        batch_op.drop_index(batch_op.f("ix_reading_round_state"))
        batch_op.drop_index(batch_op.f("ix_reading_round_case_id"))

    op.drop_table("reading_round")
    with op.batch_alter_table("case_comment", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_case_comment_case_id"))

    op.drop_table("case_comment")
    with op.batch_alter_table("worklist_case", schema=None) as batch_op:
        batch_op.drop_index("ix_worklist_case_urgency")
        batch_op.drop_index(batch_op.f("ix_worklist_case_uncertainty"))
        batch_op.drop_index(batch_op.f("ix_worklist_case_study_id"))
        batch_op.drop_index("ix_worklist_case_state_urgency")
        batch_op.drop_index(batch_op.f("ix_worklist_case_received_at"))
        batch_op.drop_index(batch_op.f("ix_worklist_case_lease_until"))
        batch_op.drop_index(batch_op.f("ix_worklist_case_holder"))
        batch_op.drop_index(batch_op.f("ix_worklist_case_disagreement"))
        batch_op.drop_index(batch_op.f("ix_worklist_case_dice"))
        batch_op.drop_index(batch_op.f("ix_worklist_case_changed_at"))
        batch_op.drop_index(batch_op.f("ix_worklist_case_assigned_to"))

    op.drop_table("worklist_case")
    with op.batch_alter_table("workspace_member", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_workspace_member_user"))

    op.drop_table("workspace_member")
    op.drop_table("workspace")
    op.drop_table("worklist_look")
