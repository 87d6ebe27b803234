"""An index that blocks nobody."""

from alembic import op

revision = "h07"
down_revision = "h06"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.create_index(
            "accounts_by_level", "pgbench_accounts", ["level", "aid"], postgresql_concurrently=True
        )


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index("accounts_by_level", "pgbench_accounts", postgresql_concurrently=True)
