"""A table made of a query."""

from alembic import op

revision = "h14"
down_revision = "h13"


def upgrade() -> None:
    op.execute(
        "create table app.total as select bid, count(*) as accounts from pgbench_accounts group by bid"
    )
    op.create_primary_key("total_pkey", "total", ["bid"], schema="app")


def downgrade() -> None:
    op.drop_table("total", schema="app")
