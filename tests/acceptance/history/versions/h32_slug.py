"""A function, an index and a constraint that call it."""

from alembic import op

revision = "h32"
down_revision = "h31"


def upgrade() -> None:
    op.execute(
        "create function app.slug(given text) returns text language sql immutable parallel safe "
        "return lower(replace(given, ' ', '-'))"
    )
    op.execute("create index paper_by_slug on app.paper (app.slug(subject))")
    op.execute("alter table app.paper add constraint has_slug check (app.slug(subject) <> '')")
    op.execute(
        "create or replace function app.slug(given text) returns text language sql immutable parallel safe "
        "return lower(replace(trim(given), ' ', '-'))"
    )


def downgrade() -> None:
    op.drop_constraint("has_slug", "paper", schema="app")
    op.drop_index("paper_by_slug", "paper", schema="app")
    op.execute("drop function app.slug(text)")
