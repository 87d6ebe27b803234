"""An author has two names: the rows are moved, too"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.alter_column("author", "name", new_column_name="family_name", type_=sa.String(100))
    op.add_column("author", sa.Column("given_name", sa.String(100), nullable=False, server_default=""))
    op.execute(
        "update author set given_name = split_part(family_name, ' ', 1), "
        "family_name = substr(family_name, strpos(family_name, ' ') + 1) where family_name like '% %'"
    )


def downgrade() -> None:
    op.execute(
        "update author set family_name = left(given_name || ' ' || family_name, 50) where given_name <> ''"
    )
    op.drop_column("author", "given_name")
    op.alter_column("author", "family_name", new_column_name="name")
