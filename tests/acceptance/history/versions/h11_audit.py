"""A trigger on a table under load writes to another."""

import sqlalchemy as sa
from alembic import op

revision = "h11"
down_revision = "h10"


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger, primary_key=True),
        sa.Column("at", sa.DateTime, nullable=False),
        sa.Column("delta", sa.Integer),
        schema="app",
    )
    op.execute("""
        create function app.note_delta() returns trigger language plpgsql as $$
        begin
          insert into app.audit (at, delta) values (new.mtime, new.delta);
          return null;
        end $$
    """)
    op.execute(
        "create trigger note_delta after insert on pgbench_history "
        "for each row when (new.delta % 10 = 0) execute function app.note_delta()"
    )


def downgrade() -> None:
    op.execute("drop trigger note_delta on pgbench_history")
    op.execute("drop function app.note_delta()")
    op.drop_table("audit", schema="app")
