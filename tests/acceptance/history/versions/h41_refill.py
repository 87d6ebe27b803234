"""TRUNCATE among schema changes."""

from alembic import op

revision = "h41"
down_revision = "h40"


def upgrade() -> None:
    op.execute("truncate app.booking restart identity")
    op.execute("alter table app.booking add who text")
    op.execute(
        "insert into app.booking (during, who) select int4range(n, n + 1), 'w' || n from generate_series(1, 40) n"
    )


def downgrade() -> None:
    op.drop_column("booking", "who", schema="app")
