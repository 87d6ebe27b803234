"""A column goes, with what hangs on it."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ENUM

revision = "h34"
down_revision = "h33"


def upgrade() -> None:
    op.execute("alter table app.paper drop state cascade")


def downgrade() -> None:
    op.add_column(
        "paper",
        sa.Column(
            "state",
            ENUM(name="state", schema="app", create_type=False),
            nullable=False,
            server_default="draft",
        ),
        schema="app",
    )
    op.execute("create view app.sent as select d.id, d.subject from app.paper d where d.state = 'sent'")
    op.execute("comment on view app.sent is 'What left the house; ''draft'' did not'")
