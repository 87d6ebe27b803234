"""Several statements in one string."""

from alembic import op

revision = "h27"
down_revision = "h26"


def upgrade() -> None:
    op.execute(
        "create table app.once (id integer primary key, v text); insert into app.once values (1, 'a;b'); "
        "alter table app.once add w integer default 7; insert into app.once values (2, '--', 8); "
        "create index on app.once (w); comment on column app.once.w is 'with ; in it'"
    )


def downgrade() -> None:
    op.execute("alter table app.once drop w; drop table app.once")
