"""A procedure and an aggregate."""

from alembic import op

revision = "h33"
down_revision = "h32"


def upgrade() -> None:
    op.execute("create procedure app.tidy() language sql as 'delete from app.audit where delta = 0'")
    op.execute("create aggregate app.longest (integer) (sfunc = int4larger, stype = integer)")
    op.execute("call app.tidy()")


def downgrade() -> None:
    op.execute("drop aggregate app.longest (integer)")
    op.execute("drop procedure app.tidy()")
