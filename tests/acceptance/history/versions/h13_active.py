"""A view, and words about it."""

from alembic import op

revision = "h13"
down_revision = "h12"


def upgrade() -> None:
    op.execute("create view app.sent as select d.id, d.subject from app.document d where d.state = 'sent'")
    op.execute("comment on view app.sent is 'What left the house; ''draft'' did not'")
    op.create_table_comment("document", "What is written", schema="app")


def downgrade() -> None:
    op.drop_table_comment("document", schema="app")
    op.execute("drop view app.sent")
