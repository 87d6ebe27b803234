"""A view that one writes through, by a rule."""

from alembic import op

revision = "h25"
down_revision = "h24"


def upgrade() -> None:
    op.execute("create view app.door as select i.amount from app.invoice i")
    op.execute(
        "create rule enter as on insert to app.door do instead insert into app.invoice (amount) values (new.amount)"
    )
    op.execute("insert into app.door values (77), (78)")


def downgrade() -> None:
    op.execute("drop view app.door")
    op.execute("delete from app.invoice where amount in (77, 78)")
