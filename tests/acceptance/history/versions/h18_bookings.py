"""A range type, and bookings that exclude one another."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import INT4RANGE, ExcludeConstraint

revision = "h18"
down_revision = "h17"


def upgrade() -> None:
    op.create_table(
        "booking",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("during", INT4RANGE, nullable=False),
        ExcludeConstraint(("during", "&&"), name="one_at_a_time", using="gist"),
        schema="app",
    )
    op.execute(
        "insert into app.booking (during) select int4range(n * 10, n * 10 + 5) from generate_series(1, 9) n"
    )


def downgrade() -> None:
    op.drop_table("booking", schema="app")
