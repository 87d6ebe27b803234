"""Customers have a phone number, and points"""

import sqlalchemy as sa
from alembic import op

revision = "shop_0001"
down_revision = None


def upgrade() -> None:
    op.add_column("customer", sa.Column("phone", sa.String(20)), schema="shop")
    op.add_column(
        "customer", sa.Column("points", sa.Integer, nullable=False, server_default="0"), schema="shop"
    )


def downgrade() -> None:
    op.drop_column("customer", "points", schema="shop")
    op.drop_column("customer", "phone", schema="shop")
