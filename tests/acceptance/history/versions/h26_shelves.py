"""Tables from a DO block."""

from alembic import op

revision = "h26"
down_revision = "h25"


def upgrade() -> None:
    op.execute("""
        do $$ declare n integer;
        begin
          for n in 1..3 loop
            execute format('create table app.%I (id integer primary key, held text)', 'Shelf ' || n);
            execute format('insert into app.%I select i, %L from generate_series(1, 5) i', 'Shelf ' || n, 'book');
          end loop;
        end $$
    """)


def downgrade() -> None:
    op.execute('do $$ begin drop table app."Shelf 1", app."Shelf 2"; drop table app."Shelf 3"; end $$')
