"""Every revision arrives on the secondary, up, down and up again, with the rows that are there by then."""

import pytest

from logship.testing import Database, Migrations, Replica

BOOKS = """
insert into author (name) values ('Ada Lovelace'), ('Homer');
insert into book (title, author_id) values ('Notes', 1), ('Poems', 2), ('A comic epic', 2);
"""


def lend(primary: Database) -> None:
    """Rows may also come from a function: here of the application's own code, say."""
    for number in (1, 2):
        primary.execute(
            "insert into loan (book_id, during) values (%s, tstzrange(now(), now() + '14 days'))", [number]
        )


@pytest.fixture
def logship_rows():
    """What is written after a revision, and travels through all that follow."""
    return {"0001": BOOKS, "0006": lend}


def test_the_history_arrives(logship_migrations: Migrations) -> None:
    logship_migrations.up_down_up()


def test_a_revision_at_a_time(logship_migrations: Migrations, logship_replica: Replica) -> None:
    logship_migrations.upgrade("0003")
    assert logship_replica.secondary.execute("select given_name, family_name from author order by id") == [
        ("Ada", "Lovelace"),
        ("", "Homer"),
    ]
    logship_migrations.downgrade("0001")
    logship_replica.primary.execute("insert into author (name) values ('Sappho')")
    logship_replica.assert_equal("after a row of our own")
