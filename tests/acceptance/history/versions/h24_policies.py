"""Row security, and a policy."""

from alembic import op

revision = "h24"
down_revision = "h23"


def upgrade() -> None:
    op.execute("alter table app.invoice enable row level security")
    op.execute("create policy small on app.invoice for select using (amount < 1000)")
    op.execute("alter policy small on app.invoice using (amount < 500)")


def downgrade() -> None:
    op.execute("drop policy small on app.invoice")
    op.execute("alter table app.invoice disable row level security")
