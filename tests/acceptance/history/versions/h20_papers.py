"""A table, its index and its sequence get other names."""

from alembic import op

revision = "h20"
down_revision = "h19"


def upgrade() -> None:
    op.execute("drop materialized view app.summary")
    op.rename_table("document", "paper", schema="app")
    op.execute("alter index app.document_by_account rename to paper_by_account")
    op.execute("alter sequence app.document_id_seq rename to paper_id_seq")


def downgrade() -> None:
    op.execute("alter sequence app.paper_id_seq rename to document_id_seq")
    op.execute("alter index app.paper_by_account rename to document_by_account")
    op.rename_table("paper", "document", schema="app")
    op.execute(
        "create materialized view app.summary as select state, count(*) as documents from app.document group by state"
    )
    op.create_index("summary_by_state", "summary", ["state"], unique=True, schema="app")
