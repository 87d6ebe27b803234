"""Types that change without a rewrite, null and not null."""

import sqlalchemy as sa
from alembic import op

revision = "h12"
down_revision = "h11"


def upgrade() -> None:
    op.alter_column("account", "name", type_=sa.String(80), schema="app")
    op.execute("update app.account set name = '' where name is null")
    op.alter_column("account", "name", nullable=False, server_default="", schema="app")


def downgrade() -> None:
    op.alter_column("account", "name", nullable=True, server_default=None, schema="app")
    op.alter_column("account", "name", type_=sa.String(40), schema="app")
