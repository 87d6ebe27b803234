"""A batch: a column renamed, one dropped, a constraint."""

import sqlalchemy as sa
from alembic import op

revision = "h08"
down_revision = "h07"


def upgrade() -> None:
    with op.batch_alter_table("document", schema="app") as document:
        document.alter_column("title", new_column_name="subject")
        document.drop_column("body")
        document.create_check_constraint("subject_is_said", "subject <> ''")


def downgrade() -> None:
    with op.batch_alter_table("document", schema="app") as document:
        document.drop_constraint("subject_is_said")
        document.add_column(sa.Column("body", sa.Text))
        document.alter_column("subject", new_column_name="title")
