"""A materialized view with an index."""

from alembic import op

revision = "h15"
down_revision = "h14"


def upgrade() -> None:
    op.execute(
        "create materialized view app.summary as select state, count(*) as documents from app.document group by state"
    )
    op.create_index("summary_by_state", "summary", ["state"], unique=True, schema="app")


def downgrade() -> None:
    op.execute("drop materialized view app.summary")
