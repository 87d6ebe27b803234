"""Purchases are found by day, without blocking who buys"""

from alembic import op

revision = "shop_0007"
down_revision = "shop_0006"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.create_index(
            "purchase_by_time", "purchase", ["placed_at"], schema="shop", postgresql_concurrently=True
        )


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index("purchase_by_time", "purchase", schema="shop", postgresql_concurrently=True)
