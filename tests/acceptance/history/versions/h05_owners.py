"""A data migration from a table under load."""

from alembic import op

revision = "h05"
down_revision = "h04"


def upgrade() -> None:
    op.execute(
        "insert into app.account (email, name) "
        "select 't' || tid || '@example.com', 'Teller ' || tid from pgbench_tellers order by tid"
    )
    op.execute("update app.document set account_id = 1 + id % 10, state = 'sent' where id % 2 = 0")
    op.execute("update pgbench_accounts set note = 'first hundred' where aid <= 100")


def downgrade() -> None:
    op.execute("update pgbench_accounts set note = null where note is not null")
    op.execute("update app.document set account_id = null, state = 'draft'")
    op.execute("delete from app.account")
