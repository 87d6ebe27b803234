"""When a book came: for those that are there, the moment of this revision"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("book", sa.Column("added_at", sa.DateTime, nullable=False, server_default=sa.func.now()))


def downgrade() -> None:
    op.drop_column("book", "added_at")
