"""Inheritance."""

from alembic import op

revision = "h36"
down_revision = "h35"


def upgrade() -> None:
    op.execute("create table app.thing (id integer primary key, name text)")
    op.execute("create table app.vehicle (wheels integer, primary key (id)) inherits (app.thing)")
    op.execute("insert into app.vehicle values (1, 'bicycle', 2)")
    op.execute("alter table app.thing add weight integer default 5")
    op.execute("insert into app.thing values (2, 'stone', 9)")


def downgrade() -> None:
    op.execute("drop table app.thing cascade")
