"""A default that is another in each session: the rows have the primary's."""

import sqlalchemy as sa
from alembic import op

revision = "h42"
down_revision = "h41"


def upgrade() -> None:
    op.add_column(
        "account",
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.func.now()),
        schema="app",
    )


def downgrade() -> None:
    op.drop_column("account", "seen_at", schema="app")
