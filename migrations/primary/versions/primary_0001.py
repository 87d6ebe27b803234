"""The primary's schema: which replicas follow this database.

Frozen history: what a revision needs stands in it, or in files beside it, and never in the package.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "primary_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "replica",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("slot", sa.Text, nullable=False),
        sa.Column("publication", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("initialised_at", sa.DateTime(timezone=True)),
        sa.Column("secondary_system_identifier", sa.Numeric(20)),
        sa.Column("secondary_database", sa.Text),
        schema="logship",
        comment="one row per replica that logship init made",
    )
    op.create_table(
        "identity_set",
        sa.Column("schemaname", sa.Text, primary_key=True),
        sa.Column("relname", sa.Text, primary_key=True),
        sa.Column("before", sa.Text, nullable=False),
        schema="logship",
        comment="tables that logship init gave REPLICA IDENTITY FULL, and what they had: default or nothing",
    )
    op.execute("revoke all on schema logship from public")
    op.execute("revoke all on all tables in schema logship from public")
    op.execute("comment on schema logship is 'logship: replicas that follow this database'")


def downgrade() -> None:
    op.drop_table("identity_set", schema="logship")
    op.drop_table("replica", schema="logship")
