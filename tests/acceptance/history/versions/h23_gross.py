"""A generated column, where there are rows."""

import sqlalchemy as sa
from alembic import op

revision = "h23"
down_revision = "h22"


def upgrade() -> None:
    op.add_column(
        "invoice",
        sa.Column("gross", sa.Numeric(12, 4), sa.Computed("amount * 1.19", persisted=True)),
        schema="app",
    )
    op.execute("update app.invoice set amount = amount + 1 where number % 2 = 0")


def downgrade() -> None:
    op.drop_column("invoice", "gross", schema="app")
