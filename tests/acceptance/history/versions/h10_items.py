"""A partitioned table."""

from alembic import op

revision = "h10"
down_revision = "h09"


def upgrade() -> None:
    op.execute(
        "create table app.item (id bigint, day date not null, what text, primary key (id, day)) "
        "partition by range (day)"
    )
    op.execute("create table app.item_old partition of app.item for values from (minvalue) to ('2020-01-01')")
    op.execute("create table app.item_new partition of app.item default")
    op.create_index("item_by_what", "item", ["what"], schema="app")
    op.execute(
        "insert into app.item select n, date '2019-12-01' + n, 'item ' || n from generate_series(1, 60) n"
    )


def downgrade() -> None:
    op.drop_table("item", schema="app")
