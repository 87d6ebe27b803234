"""Comics are a genre"""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("alter type genre add value 'comic'")
    op.execute("update book set genre = 'comic' where title ilike '%comic%'")


def downgrade() -> None:
    """A value can't be taken out of an enum: the type is made anew."""
    op.execute("update book set genre = 'novel' where genre = 'comic'")
    op.execute("alter type genre rename to genre_before")
    op.execute("create type genre as enum ('novel', 'poetry')")
    op.execute("alter table book alter genre drop default")
    op.execute("alter table book alter genre type genre using genre::text::genre")
    op.execute("alter table book alter genre set default 'novel'")
    op.execute("drop type genre_before")
