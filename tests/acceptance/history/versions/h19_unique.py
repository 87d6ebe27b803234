"""Unique constraints: deferrable, and with one null at most."""

from alembic import op

revision = "h19"
down_revision = "h18"


def upgrade() -> None:
    op.create_unique_constraint(
        "one_subject", "document", ["subject"], schema="app", deferrable=True, initially="DEFERRED"
    )
    op.execute("alter table app.account add nickname text")
    op.execute("update app.account set nickname = 'n' || id")
    op.execute("alter table app.account add constraint one_nickname unique nulls not distinct (nickname)")


def downgrade() -> None:
    op.drop_constraint("one_nickname", "account", schema="app")
    op.drop_column("account", "nickname", schema="app")
    op.drop_constraint("one_subject", "document", schema="app")
