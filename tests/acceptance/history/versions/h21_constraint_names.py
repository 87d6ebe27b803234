"""A constraint and a column get other names."""

from alembic import op

revision = "h21"
down_revision = "h20"


def upgrade() -> None:
    op.execute("alter table app.paper rename constraint subject_is_said to paper_has_subject")
    op.alter_column("paper", "account_id", new_column_name="owner_id", schema="app")


def downgrade() -> None:
    op.alter_column("paper", "owner_id", new_column_name="account_id", schema="app")
    op.execute("alter table app.paper rename constraint paper_has_subject to subject_is_said")
