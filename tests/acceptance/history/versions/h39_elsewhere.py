"""A table moves to another schema."""

from alembic import op

revision = "h39"
down_revision = "h38"


def upgrade() -> None:
    op.execute("create schema archive")
    op.execute("alter table app.credit_note set schema archive")
    op.execute("insert into archive.credit_note (amount) values (5)")


def downgrade() -> None:
    op.execute("alter table archive.credit_note set schema app")
    op.execute("drop schema archive")
