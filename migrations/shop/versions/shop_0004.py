"""A purchase can be returned"""

from alembic import op

revision = "shop_0004"
down_revision = "shop_0003"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("alter type shop.status add value 'returned'")
    op.execute(
        "update shop.purchase set status = 'returned' "
        "where id in (select p.id from shop.purchase p order by p.id limit 5)"
    )


def downgrade() -> None:
    """The value stays: an enum loses none."""
    op.execute("update shop.purchase set status = 'shipped' where status = 'returned'")
