"""Loans: a book is lent to one at a time"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TSTZRANGE, ExcludeConstraint

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.execute("create extension if not exists btree_gist")
    op.create_table(
        "loan",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("book_id", sa.Integer, sa.ForeignKey("book.id", ondelete="CASCADE"), nullable=False),
        sa.Column("during", TSTZRANGE, nullable=False),
        ExcludeConstraint(("book_id", "="), ("during", "&&"), name="one_at_a_time", using="gist"),
    )


def downgrade() -> None:
    op.drop_table("loan")
    op.execute("drop extension btree_gist")
