"""A constraint that is validated later, on a table under load."""

import sqlalchemy as sa
from alembic import op

revision = "h09"
down_revision = "h08"


def upgrade() -> None:
    op.add_column("pgbench_tellers", sa.Column("credit", sa.Numeric(12, 2), server_default="100"))
    op.execute("alter table pgbench_tellers add constraint credit_is_positive check (credit > 0) not valid")
    op.execute("alter table pgbench_tellers validate constraint credit_is_positive")


def downgrade() -> None:
    op.drop_constraint("credit_is_positive", "pgbench_tellers")
    op.drop_column("pgbench_tellers", "credit")
