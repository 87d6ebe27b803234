"""Columns of a table under load swap their names."""

from alembic import op

revision = "h43"
down_revision = "h42"


def upgrade() -> None:
    op.execute("alter table pgbench_accounts rename note to remark")
    op.execute("alter table pgbench_accounts rename level to note")
    op.execute("alter table pgbench_accounts rename remark to level")
    op.execute("update pgbench_accounts set level = 'l' || note where aid % 1000 = 0")


def downgrade() -> None:
    op.execute("alter table pgbench_accounts rename level to remark")
    op.execute("alter table pgbench_accounts rename note to level")
    op.execute("alter table pgbench_accounts rename remark to note")
