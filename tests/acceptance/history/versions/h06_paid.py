"""A value of an enum, and rows that use it."""

from alembic import op

revision = "h06"
down_revision = "h05"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("alter type app.state add value 'paid' after 'draft'")
    op.execute("update app.document set state = 'paid' where id % 5 = 0")


def downgrade() -> None:
    op.execute("update app.document set state = 'sent' where state = 'paid'")
    op.execute("alter type app.state rename to state_before")
    op.execute("create type app.state as enum ('draft', 'sent')")
    op.execute("alter table app.document alter state drop default")
    op.execute("alter table app.document alter state type app.state using state::text::app.state")
    op.execute("alter table app.document alter state set default 'draft'")
    op.execute("drop type app.state_before")
