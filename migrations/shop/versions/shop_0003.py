"""Points for what was bought so far"""

from alembic import op

revision = "shop_0003"
down_revision = "shop_0002"


def upgrade() -> None:
    op.execute(
        "update shop.customer c set points = b.bought from (select p.customer_id, count(*) as bought "
        "from shop.purchase p group by p.customer_id) b where b.customer_id = c.id"
    )


def downgrade() -> None:
    op.execute("update shop.customer set points = 0 where points <> 0")
