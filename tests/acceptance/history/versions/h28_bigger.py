"""Integers of a table under load become larger."""

import sqlalchemy as sa
from alembic import op

revision = "h28"
down_revision = "h27"


def upgrade() -> None:
    op.alter_column("pgbench_tellers", "tbalance", type_=sa.BigInteger)
    op.alter_column("pgbench_branches", "bbalance", type_=sa.BigInteger)


def downgrade() -> None:
    # In the order in which the load locks them.
    op.alter_column("pgbench_tellers", "tbalance", type_=sa.Integer)
    op.alter_column("pgbench_branches", "bbalance", type_=sa.Integer)
