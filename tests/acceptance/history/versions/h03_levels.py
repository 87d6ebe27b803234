"""Columns of a table under load, one with a default."""

import sqlalchemy as sa
from alembic import op

revision = "h03"
down_revision = "h02"


def upgrade() -> None:
    op.add_column("pgbench_accounts", sa.Column("note", sa.Text))
    op.add_column("pgbench_accounts", sa.Column("level", sa.Integer, nullable=False, server_default="3"))


def downgrade() -> None:
    op.drop_column("pgbench_accounts", "level")
    op.drop_column("pgbench_accounts", "note")
