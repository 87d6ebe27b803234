"""How tables are kept, and what the planner knows."""

from alembic import op

revision = "h37"
down_revision = "h36"


def upgrade() -> None:
    op.execute("alter table pgbench_tellers set (fillfactor = 60)")
    op.execute("alter table app.paper alter subject set statistics 200")
    op.execute("create statistics app.together on owner_id, subject from app.paper")


def downgrade() -> None:
    op.execute("drop statistics app.together")
    op.execute("alter table app.paper alter subject set statistics -1")
    op.execute("alter table pgbench_tellers reset (fillfactor)")
