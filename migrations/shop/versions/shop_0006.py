"""The phone number under another name, with a rule"""

from alembic import op

revision = "shop_0006"
down_revision = "shop_0005"


def upgrade() -> None:
    op.alter_column("customer", "phone", new_column_name="telephone", schema="shop")
    op.create_check_constraint(
        "telephone_is_digits",
        "customer",
        "telephone ~ '^[0-9 +]*$'",
        schema="shop",
        postgresql_not_valid=True,
    )
    op.execute("alter table shop.customer validate constraint telephone_is_digits")


def downgrade() -> None:
    op.drop_constraint("telephone_is_digits", "customer", schema="shop")
    op.alter_column("customer", "telephone", new_column_name="phone", schema="shop")
