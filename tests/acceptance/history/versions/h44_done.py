"""Words about columns, and the trigger goes off."""

from alembic import op

revision = "h44"
down_revision = "h43"


def upgrade() -> None:
    op.execute("comment on column app.account.email is 'Where to write to'")
    op.execute("alter table pgbench_history disable trigger note_delta")
    op.execute("alter table app.audit rename to trail")


def downgrade() -> None:
    op.execute("alter table app.trail rename to audit")
    op.execute("alter table pgbench_history enable trigger note_delta")
    op.execute("comment on column app.account.email is null")
