"""What is rolled back to a savepoint, and a temporary table."""

from alembic import op

revision = "h40"
down_revision = "h39"


def upgrade() -> None:
    bind = op.get_bind()
    savepoint = bind.begin_nested()
    op.execute("create table app.never (id integer primary key); insert into app.never values (1)")
    op.execute("delete from app.invoice")
    savepoint.rollback()
    op.execute(
        "create temporary table picked on commit drop as select number from app.invoice where amount > 10"
    )
    op.execute("alter table app.invoice add picked boolean not null default false")
    op.execute("update app.invoice i set picked = true from picked p where p.number = i.number")


def downgrade() -> None:
    op.drop_column("invoice", "picked", schema="app")
