"""A table without key, and what stands for one."""

from alembic import op

revision = "h31"
down_revision = "h30"


def upgrade() -> None:
    op.execute("create table app.log (at integer not null, said text)")
    op.execute("alter table app.log replica identity full")
    op.execute("insert into app.log select n, 'said ' || n from generate_series(1, 30) n")
    op.execute("update app.log set said = said || '!' where at > 10")
    op.create_index("log_at", "log", ["at"], unique=True, schema="app")
    op.execute("alter table app.log replica identity using index log_at")
    op.execute("delete from app.log where at < 5")


def downgrade() -> None:
    op.drop_table("log", schema="app")
