"""A view of what was sold, by product"""

from alembic import op

revision = "shop_0008"
down_revision = "shop_0007"


def upgrade() -> None:
    op.execute(
        "create view shop.sold as select l.product_id, sum(l.quantity) as pieces, sum(l.total) as turnover "
        "from shop.purchase_line l group by l.product_id"
    )
    op.execute("comment on view shop.sold is 'Without what was cancelled'")


def downgrade() -> None:
    op.execute("drop view shop.sold")
