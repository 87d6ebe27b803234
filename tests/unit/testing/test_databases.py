"""What the fixtures hand to a project: a URL that SQLAlchemy takes, whatever stands in the conninfo."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from logship.connection import Side
from logship.testing import Database, SidesDiffer


@pytest.mark.parametrize(
    ("conninfo", "user", "password", "database", "query"),
    [
        (
            "host=/tmp/a-b port=5432 dbname=shop user=postgres",
            "postgres", None, "shop", {"host": "/tmp/a-b", "port": "5432"},
        ),
        (
            "host=db1 dbname='my shop/%' user='a b@c' password='p:/?#%'",
            "a b@c", "p:/?#%", "my shop/%", {"host": "db1"},
        ),
        ("postgresql://me@db1/shop?sslmode=require", "me", None, "shop", {"host": "db1", "sslmode": "require"}),
        ("dbname=shop", None, None, "shop", {}),
    ],
)  # fmt: skip
def test_a_url_means_what_the_conninfo_means(
    conninfo: str, user: str | None, password: str | None, database: str, query: dict[str, str]
) -> None:
    url = sa.make_url(Database(conninfo, Side.PRIMARY).url("psycopg2"))
    assert (url.drivername, url.username, url.password) == ("postgresql+psycopg2", user, password)
    assert (url.database, dict(url.query)) == (database, query)


def test_what_differs_is_in_the_message() -> None:
    error = SidesDiffer(
        "after the upgrade to 0007 (Points)", ["table a: 1 rows", "view b: only on the primary"]
    )
    assert str(error).splitlines() == [
        "primary and secondary differ after the upgrade to 0007 (Points):",
        "  table a: 1 rows",
        "  view b: only on the primary",
    ]
