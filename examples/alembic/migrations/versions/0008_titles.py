"""Books are found by title, without blocking who lends one"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.create_index("book_by_title", "book", [sa.text("lower(title)")], postgresql_concurrently=True)


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index("book_by_title", "book", postgresql_concurrently=True)
