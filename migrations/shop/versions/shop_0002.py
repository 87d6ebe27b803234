"""Products are reviewed, with a grade"""

import sqlalchemy as sa
from alembic import op

revision = "shop_0002"
down_revision = "shop_0001"


_GRADE = sa.Enum("good", "fair", "bad", name="grade", schema="shop")


def upgrade() -> None:
    op.create_table(
        "review",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("product_id", sa.BigInteger, sa.ForeignKey("shop.product.id"), nullable=False),
        sa.Column("customer_id", sa.BigInteger, sa.ForeignKey("shop.customer.id"), nullable=False),
        sa.Column("grade", _GRADE, nullable=False),
        sa.Column("text", sa.Text),
        schema="shop",
    )
    op.create_index("review_of_product", "review", ["product_id"], schema="shop")
    op.execute(
        "insert into shop.review (product_id, customer_id, grade) "
        "select p.id, 1 + p.id % 100, (enum_range(null::shop.grade))[1 + p.id % 3] from shop.product p"
    )


def downgrade() -> None:
    op.drop_table("review", schema="shop")
    _GRADE.drop(op.get_bind())
