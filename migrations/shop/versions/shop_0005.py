"""Prices may have twelve digits"""

import sqlalchemy as sa
from alembic import op

revision = "shop_0005"
down_revision = "shop_0004"


def upgrade() -> None:
    op.alter_column("product", "price", type_=sa.Numeric(12, 2), schema="shop")


def downgrade() -> None:
    op.alter_column("product", "price", type_=sa.Numeric(10, 2), schema="shop")
