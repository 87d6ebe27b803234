"""An enum with a value less, and one renamed."""

from alembic import op

revision = "h35"
down_revision = "h34"


def upgrade() -> None:
    op.execute("alter type app.state rename value 'sent' to 'posted'")
    op.execute("create type app.kind as enum ('note', 'letter', 'bill')")
    op.execute("alter table app.account add kind app.kind default 'note'")
    op.execute("alter table app.account alter kind drop default")
    op.execute("create type app.kind_of as enum ('note', 'bill')")
    op.execute("alter table app.account alter kind type app.kind_of using kind::text::app.kind_of")
    op.execute("drop type app.kind; alter type app.kind_of rename to kind")


def downgrade() -> None:
    op.drop_column("account", "kind", schema="app")
    op.execute("drop type app.kind")
    op.execute("alter type app.state rename value 'posted' to 'sent'")
