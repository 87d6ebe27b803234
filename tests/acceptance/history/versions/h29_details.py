"""Text becomes JSON."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "h29"
down_revision = "h28"


def upgrade() -> None:
    op.execute("alter table app.item add details text")
    op.execute("update app.item set details = json_build_object('n', id, 'what', what)::text")
    op.alter_column("item", "details", type_=JSONB, postgresql_using="details::jsonb", schema="app")
    op.create_index("item_by_details", "item", ["details"], postgresql_using="gin", schema="app")


def downgrade() -> None:
    op.drop_index("item_by_details", "item", schema="app")
    op.alter_column("item", "details", type_=sa.Text, postgresql_using="details::text", schema="app")
    op.drop_column("item", "details", schema="app")
