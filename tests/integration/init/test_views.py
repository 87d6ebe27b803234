"""The public views and functions of the secondary, and who may do what with them."""

from __future__ import annotations

import threading

import psycopg
import pytest

from tests.servers import Database, eventually

VIEWS = {
    "replica_lag": "replica stage lsn lag_bytes lag as_of",
    "stat_replay": "replica state received_lsn flush_lsn memory_lsn replay_lsn transactions changes batches "
    "coalesced bytes last_error last_error_time reported_at",
    "stat_object": "schemaname relname residence rows bytes loads evictions dml_memory dml_persistence "
    "ddl_memory ddl_persistence last_change_lsn hits merges merge_time reason",
    "my_memory_request": "replica asker slot token question expires_at pid head",
    "my_memory_reply": "token part content",
    "stat_ddl": "lsn replayed_at owner tag statement target made_from duration",
}


@pytest.fixture
def catalog(upgraded_secondary: Database) -> Database:
    """A secondary with one replica at 0/100."""
    add_replica(upgraded_secondary, "one", "0/100")
    return upgraded_secondary


def add_replica(database: Database, name: str, lsn: str) -> None:
    database.execute(
        "insert into logship.replica values (%s, 1, 1, 'd', 's', 'p', 'o', 'full', %s, now(), now())",
        [name, lsn],
    )
    database.execute("insert into logship.position (replica, replay_lsn) values (%s, %s)", [name, lsn])


def report(database: Database, **values: str | None) -> None:
    names = ", ".join(values)
    places = ", ".join(["%s"] * len(values))
    database.execute(
        f"insert into logship.replay_report (replica, {names}) values ('one', {places})",
        list(values.values()),
    )


@pytest.mark.parametrize("view", VIEWS)
def test_views_have_their_columns_in_order_and_each_is_explained(catalog: Database, view: str) -> None:
    columns = catalog.execute(
        "select a.attname, col_description(a.attrelid, a.attnum) from pg_attribute a "
        "where a.attrelid = %s::regclass and a.attnum > 0 order by a.attnum",
        [f"logship.{view}"],
    )
    assert " ".join(name for name, _ in columns) == VIEWS[view]
    assert [name for name, comment in columns if not comment] == []
    assert catalog.value("select obj_description(%s::regclass)", [f"logship.{view}"])


def test_what_nobody_measured_is_null_and_the_position_is_known(catalog: Database) -> None:
    rows = catalog.execute("select stage, lsn::text, lag_bytes, lag, as_of from logship.replica_lag")
    assert rows == [
        ("received", None, None, None, None),
        ("flushed", None, None, None, None),
        ("memory", None, None, None, None),
        ("persistence", "0/100", None, None, None),
    ]


def test_lag_is_what_is_between_and_never_negative(catalog: Database) -> None:
    report(
        catalog, state="streaming", primary_lsn="0/180", received_lsn="0/190", flush_lsn="0/140",
        received_lag="0 s", flushed_lag="2 s", reported_at="2020-01-01Z", primary_lsn_at="2019-12-31Z",
    )  # fmt: skip
    rows = catalog.execute(
        "select stage, lag_bytes, extract(year from as_of)::int, extract(year from (now() - lag))::int "
        "from logship.replica_lag"
    )
    # The report stopped coming: its lags are as old as it is, and nothing is shown as 0.
    assert rows == [
        ("received", 0, 2019, 2019),
        ("flushed", 0x50, 2019, 2019),
        ("memory", None, 2019, None),
        ("persistence", 0x90, 2019, None),
    ]
    # the state is what was last reported, and its age shows
    assert catalog.execute(
        "select state, extract(year from reported_at)::int, replay_lsn::text from logship.stat_replay"
    ) == [("streaming", 2020, "0/100")]


def test_a_report_that_comes_shows_its_lag_as_measured(catalog: Database) -> None:
    now = catalog.value("select now()::text")
    report(
        catalog, state="streaming", primary_lsn="0/180", received_lsn="0/180", flush_lsn="0/140",
        received_lag="0 s", flushed_lag="2 s", reported_at=now, primary_lsn_at=now,
    )  # fmt: skip
    lags = "select stage, lag::text from logship.replica_lag where lag is not null order by lag"
    assert catalog.execute(lags) == [("received", "00:00:00"), ("flushed", "00:00:02")]
    # As long ago as nobody knows of is neither 0 nor what it was.
    catalog.execute("update logship.replay_report set reported_at = reported_at - interval '1 h'")
    catalog.execute("update logship.replay_report set primary_lsn_at = primary_lsn_at - interval '1 h'")
    old = "select stage, lag >= interval '1 h' from logship.replica_lag where lag is not null order by lag"
    assert catalog.execute(old) == [("received", True), ("flushed", True)]


def test_public_reads_the_views_waits_and_asks_and_nothing_else(catalog: Database) -> None:
    # Whatever default privileges the database has.
    catalog.execute("create role nosy login")
    with catalog.connect("nosy") as nosy:
        for view in VIEWS:
            nosy.execute(f"select * from logship.{view}").fetchall()
        assert nosy.execute("select logship.wait_for('0/100')").fetchone() == (True,)
        relations = catalog.execute(
            "select c.oid::regclass::text, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace "
            "where n.nspname = 'logship' and c.relkind in ('r', 'v')"
        )
        assert len(relations) > len(VIEWS)
        for relation, name in relations:
            asks = name == "my_memory_request"  # and may forget its own question: test_reading
            privileges = nosy.execute(
                "select has_table_privilege(%s, 'insert, update, truncate, references, trigger'), "
                "has_table_privilege(%s, 'delete'), has_table_privilege(%s, 'select')",
                [relation, relation, relation],
            ).fetchone()
            assert privileges == (False, asks, name in VIEWS), relation
        functions = nosy.execute(
            "select p.proname from pg_proc p join pg_namespace n on n.oid = p.pronamespace "
            "where n.nspname like 'logship%' and has_function_privilege(p.oid, 'execute')"
        ).fetchall()
        assert functions == [("wait_for",)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            nosy.execute("create table logship.mine (a int)")
        assert nosy.execute("select has_schema_privilege('logship_writers', 'usage')").fetchone() == (False,)


def test_wait_for_comes_true_when_the_position_moves(catalog: Database) -> None:
    answers: list[object] = []
    with catalog.connect() as waiting:
        pid = waiting.info.backend_pid
        thread = threading.Thread(
            target=lambda: answers.append(
                waiting.execute("select logship.wait_for('0/200', '30 s')").fetchone()
            )
        )
        thread.start()
        eventually(
            lambda: catalog.value("select wait_event = 'PgSleep' from pg_stat_activity where pid = %s", [pid])
        )
        assert not answers
        catalog.execute("update logship.position set replay_lsn = '0/200'")
        thread.join(10)
    assert answers == [(True,)]


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        ("'0/100'", True),
        ("'0/100', '0 s'", True),
        ("'0/101', '0 s'", False),
        ("'0/101', '20 ms'", False),
        ("'0/100', '0 s', 'memory'", False),
        ("'0/100', stage => 'persistence'", True),
    ],
)
def test_wait_for_answers(catalog: Database, arguments: str, answer: bool) -> None:
    assert catalog.value(f"select logship.wait_for({arguments})") is answer


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("'0/1', '-1 s'", "not negative"),
        ("'0/1', null", "not negative"),
        ("null", "lsn must not be null"),
        ("'0/1', '1 s', 'disk'", "unknown stage: 'disk'"),
        ("'0/1', '1 s', null", "unknown stage: null"),
    ],
)
def test_wait_for_refuses(catalog: Database, arguments: str, message: str) -> None:
    with pytest.raises(psycopg.Error, match=message):
        catalog.execute(f"select logship.wait_for({arguments})")


def test_wait_for_names_the_stages(catalog: Database) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue) as caught:
        catalog.execute("select logship.wait_for('0/1', '1 s', 'disk')")
    assert caught.value.diag.message_hint == "the stages are received, flushed, memory and persistence"


def test_wait_for_waits_for_all_replicas_and_needs_one(catalog: Database) -> None:
    add_replica(catalog, "two", "0/50")
    assert catalog.value("select logship.wait_for('0/100', '0 s')") is False
    assert catalog.value("select logship.wait_for('0/50', '0 s')") is True
    catalog.execute("delete from logship.replica")
    with pytest.raises(psycopg.Error, match="no replica is initialised"):
        catalog.execute("select logship.wait_for('0/1')")


def test_wait_for_says_when_it_could_never_see_progress(catalog: Database) -> None:
    with catalog.connect() as link:
        link.execute("begin isolation level repeatable read")
        assert link.execute("select logship.wait_for('0/100')").fetchone() == (True,)
        with pytest.raises(psycopg.Error, match="repeatable read"):
            link.execute("select logship.wait_for('0/101')")


def test_advance_moves_from_where_it_is_expected_and_adds(catalog: Database) -> None:
    advance = "select logship.advance('one', %s, %s, %s, 1, 2, 3, 4, 5)"
    catalog.execute(advance, ["0/100", "0/200", "2020-01-01Z"])
    catalog.execute(advance, ["0/200", "0/200", None])
    row = catalog.execute(
        "select replay_lsn::text, extract(year from commit_time)::int, transactions, changes, batches, "
        "coalesced, bytes from logship.position"
    )
    assert row == [("0/200", 2020, 2, 4, 6, 8, 10)]
    for expected, reached, state in (
        ("0/100", "0/300", "LS001"),
        ("0/200", "0/199", "LS002"),
        (None, "0/1", "22004"),
    ):
        with pytest.raises(psycopg.Error) as caught:
            catalog.execute(advance, [expected, reached, None])
        assert caught.value.sqlstate == state
    assert catalog.value("select replay_lsn::text from logship.position") == "0/200"
