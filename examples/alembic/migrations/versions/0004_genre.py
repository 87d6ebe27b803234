"""Genres"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


GENRE = sa.Enum("novel", "poetry", name="genre")


def upgrade() -> None:
    GENRE.create(op.get_bind())
    op.add_column("book", sa.Column("genre", GENRE, nullable=False, server_default="novel"))
    op.execute("update book set genre = 'poetry' where title ilike '%poems%'")


def downgrade() -> None:
    op.drop_column("book", "genre")
    GENRE.drop(op.get_bind())
