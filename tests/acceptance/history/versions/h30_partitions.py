"""Partitions come and go."""

from alembic import op

revision = "h30"
down_revision = "h29"


def upgrade() -> None:
    op.execute("create table app.item_2030 (like app.item including all)")
    op.execute("insert into app.item_2030 values (999, '2030-05-05', 'later')")
    op.execute(
        "alter table app.item attach partition app.item_2030 for values from ('2030-01-01') to ('2031-01-01')"
    )
    op.execute("alter table app.item detach partition app.item_old")


def downgrade() -> None:
    op.execute(
        "alter table app.item attach partition app.item_old for values from (minvalue) to ('2020-01-01')"
    )
    op.execute("alter table app.item detach partition app.item_2030")
    op.drop_table("item_2030", schema="app")
