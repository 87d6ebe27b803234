"""A schema, and its first table."""

import sqlalchemy as sa
from alembic import op

revision = "h01"
down_revision = None


def upgrade() -> None:
    op.execute("create schema app")
    op.create_table(
        "account",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("email", sa.Text, nullable=False, unique=True),
        sa.Column("name", sa.String(40)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        schema="app",
    )


def downgrade() -> None:
    op.drop_table("account", schema="app")
    op.execute("drop schema app")
