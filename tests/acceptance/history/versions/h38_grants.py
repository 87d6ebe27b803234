"""Rights, and those of tables to come."""

from alembic import op

revision = "h38"
down_revision = "h37"


def upgrade() -> None:
    op.execute("grant usage on schema app to public")
    op.execute("grant select on app.account, app.invoice to public")
    op.execute("alter default privileges in schema app grant select on tables to public")
    op.execute("create table app.open (id integer primary key)")
    op.execute("revoke select on app.invoice from public")


def downgrade() -> None:
    op.drop_table("open", schema="app")
    op.execute("alter default privileges in schema app revoke select on tables from public")
    op.execute("revoke select on app.account from public")
    op.execute("revoke usage on schema app from public")
