"""A domain and a composite type, and columns of them."""

from alembic import op

revision = "h16"
down_revision = "h15"


def upgrade() -> None:
    op.execute("create domain app.postcode as text check (value ~ '^[0-9]{5}$')")
    op.execute("create type app.address as (street text, code app.postcode)")
    op.execute("alter table app.account add home app.address, add code app.postcode")
    op.execute("update app.account set home = row('Street ' || id, '12345')::app.address, code = '54321'")


def downgrade() -> None:
    op.execute("alter table app.account drop home, drop code")
    op.execute("drop type app.address")
    op.execute("drop domain app.postcode")
