"""A table that refers to another, an index, rows in bulk."""

import sqlalchemy as sa
from alembic import op

revision = "h02"
down_revision = "h01"


def upgrade() -> None:
    document = op.create_table(
        "document",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("account_id", sa.BigInteger, sa.ForeignKey("app.account.id"), nullable=True),
        sa.Column("title", sa.String(60), nullable=False),
        sa.Column("body", sa.Text),
        schema="app",
    )
    op.create_index("document_by_account", "document", ["account_id"], schema="app")
    op.bulk_insert(document, [{"title": f"Document {number}", "body": "…"} for number in range(50)])


def downgrade() -> None:
    op.drop_table("document", schema="app")
