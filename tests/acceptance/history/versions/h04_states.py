"""An enum, and a column of it."""

import sqlalchemy as sa
from alembic import op

revision = "h04"
down_revision = "h03"


def upgrade() -> None:
    state = sa.Enum("draft", "sent", name="state", schema="app")
    state.create(op.get_bind())
    op.add_column("document", sa.Column("state", state, nullable=False, server_default="draft"), schema="app")


def downgrade() -> None:
    op.drop_column("document", "state", schema="app")
    op.execute("drop type app.state")
