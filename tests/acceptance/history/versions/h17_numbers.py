"""A sequence that two tables take from."""

import sqlalchemy as sa
from alembic import op

revision = "h17"
down_revision = "h16"


def upgrade() -> None:
    op.execute("create sequence app.number start 1000 increment 5")
    for name in ("invoice", "credit_note"):
        op.create_table(
            name,
            sa.Column(
                "number", sa.BigInteger, server_default=sa.text("nextval('app.number')"), primary_key=True
            ),
            sa.Column("amount", sa.Numeric(10, 2), nullable=False),
            schema="app",
        )
        op.execute(f"insert into app.{name} (amount) select n from generate_series(1, 20) n")


def downgrade() -> None:
    op.drop_table("credit_note", schema="app")
    op.drop_table("invoice", schema="app")
    op.execute("drop sequence app.number")
