"""How many copies, and never fewer than none"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    with op.batch_alter_table("book") as book:
        book.add_column(sa.Column("copies", sa.Integer, nullable=False, server_default="1"))
        book.create_check_constraint("copies_not_negative", "copies >= 0")


def downgrade() -> None:
    with op.batch_alter_table("book") as book:
        book.drop_constraint("copies_not_negative")
        book.drop_column("copies")
