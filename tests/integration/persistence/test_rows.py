"""Row changes, set-wise, with the rights of the table's owner."""

from __future__ import annotations

import pytest

from logship.change import UNCHANGED
from logship.lsn import Lsn
from logship.replay.failures import ConstraintViolated, RowMissing, StatementFailed, WriterMissing
from tests.integration.persistence.replica import Log, Replica, cells, text_rows


def test_insert_update_delete_and_position_commit_together(replica: Replica) -> None:
    replica.create("create table t (id int primary key, a text, b numeric(10,2))")
    target, log, persistence = replica.target("t"), Log(), replica.opened()
    assert persistence.position == Lsn(0x100)
    for n in range(5):
        log.insert(target, cells(str(n), f"a{n}", "1.50"))
    persistence.apply([log.batch()])
    log.update(target, cells("1", 'it\'s \\ \n "x" é', None))
    log.delete(target, cells("2", None, None))
    log.insert(target, cells("9", None, "0.00"))
    persistence.apply([log.batch()])
    assert text_rows(replica.rows("t")) == [
        ["0", "a0", "1.50"], ["1", "it's \\ \n \"x\" é", None], ["3", "a3", "1.50"], ["4", "a4", "1.50"],
        ["9", None, "0.00"],
    ]  # fmt: skip
    assert persistence.position == replica.stored_position() == Lsn(0x300)
    counters = replica.execute("select transactions, changes, batches, coalesced from logship.position")
    assert counters == [(2, 8, 2, 0)]


def test_order_of_columns_extra_generated_and_identity_columns(replica: Replica) -> None:
    replica.create("create schema src; create table src.t (id int primary key, a text, n int)")
    relation, types = replica.relation("src.t")
    replica.create(
        "create table t (n int, extra text default 'own', twice int generated always as (n * 2) stored, "
        "a text, id int generated always as identity primary key, made timestamptz default '2020-01-01 UTC')"
    )
    target = replica.resolve(type(relation)(relation.oid, "public", "t", "d", relation.columns), types)
    log, persistence = Log(), replica.opened()
    log.insert(target, cells("1", "x", "5"))
    log.insert(target, cells("2", "y", "6"))
    persistence.apply([log.batch()])
    replica.create("update t set extra = 'kept' where id = 1")
    log.update(target, cells("1", "z", "7"))
    log.update(target, cells("3", "moved", "8"), old=cells("2", "y", "6"))
    persistence.apply([log.batch()])
    rows = replica.execute("select id, a, n, twice, extra from t order by id")
    assert rows == [(1, "z", 7, 14, "kept"), (3, "moved", 8, 16, "own")]


@pytest.mark.parametrize(
    "odd", [None, "infinity", "0044-03-15 12:00:00 BC", "2300-01-01 00:00:00", "1700-01-01 00:00:00"]
)
def test_timestamps_of_many_rows(replica: Replica, odd: str | None) -> None:
    """They go as numbers, where all of a column do, into every kind of column that holds them."""
    replica.database.execute(f"alter database {replica.database.name} set timezone = 'America/St_Johns'")
    replica.create(
        "create table t (at timestamptz primary key, plain timestamp, rounded timestamptz(3), day date, "
        "many timestamp[])"
    )
    replica.create("alter table t replica identity full")
    target, log, persistence = replica.target("t"), Log(), replica.opened()

    def row(n: int, microseconds: int) -> list[str | None]:
        at = f"{1900 + n}-02-28 23:59:59.{microseconds:06}".rstrip("0").rstrip(".")
        many = None if n % 2 else f'{{"{at}"}}'
        return [
            f"{1900 + n}-07-01 00:00:00.5+00",
            None if n == 7 else at,
            f"{1900 + n}-01-01 12:00:00.123+00",
            "2000-01-01",
            many,
        ]

    first = [row(n, 0) for n in range(150)]
    second = [row(n, n) for n in range(150)]
    if odd is not None:
        second[3][1] = odd
        second[4][2] = (
            odd if odd == "infinity" else f"{odd.removesuffix(' BC')}+00{' BC' * odd.endswith('BC')}"
        )
    for rows in (first, second):
        for n, new in enumerate(rows):
            if rows is first:
                log.insert(target, cells(*new))
            else:
                log.update(target, cells(*new), old=cells(*first[n]))
        persistence.apply([log.batch()])
        assert text_rows(replica.rows("t")) == sorted(rows, key=lambda each: str(each[0]))


def test_an_always_identity_column_that_is_no_key(replica: Replica) -> None:
    replica.create("create table t (k text primary key, id int generated always as identity, a text)")
    target, log, persistence = replica.target("t"), Log(), replica.opened()
    log.insert(target, cells("x", "70", "1"))
    persistence.apply([log.batch()])
    log.update(target, cells("x", "71", "2"))
    persistence.apply([log.batch()])
    assert text_rows(replica.rows("t")) == [["x", "71", "2"]]


def test_keys_swap_and_unchanged_values_move_along(replica: Replica) -> None:
    replica.create("create table t (id int primary key, a text, big text)")
    target, log, persistence = replica.target("t"), Log(), replica.opened()
    for n in range(1, 5):
        log.insert(target, cells(str(n), f"a{n}", f"big{n}"))
    persistence.apply([log.batch()])
    log.update(target, [b"9", b"one", UNCHANGED], old=cells("1", None, None))
    log.update(target, [b"1", b"two", UNCHANGED], old=cells("2", None, None))
    log.update(target, cells("2", "three", "new"), old=cells("9", None, None))
    log.update(target, [b"4", UNCHANGED, b"four"])
    persistence.apply([log.batch()])
    assert text_rows(replica.rows("t")) == [
        ["1", "two", "big2"], ["2", "three", "new"], ["3", "a3", "big3"], ["4", "a4", "four"],
    ]  # fmt: skip


def test_a_unique_value_passes_between_rows(replica: Replica) -> None:
    replica.create(
        "create table t (id int primary key, u int unique, big text, "
        "during int4range, exclude using gist (during with &&))"
    )
    target, log, persistence = replica.target("t"), Log(), replica.opened()
    log.insert(target, cells("1", "1", "b1", "[1,3)"))
    log.insert(target, cells("2", "2", "b2", "[3,5)"))
    persistence.apply([log.batch()])
    log.update(target, [b"1", b"9", UNCHANGED, b"[1,3)"])
    log.update(target, [b"2", b"1", UNCHANGED, b"[3,5)"])
    log.update(target, [b"1", b"2", UNCHANGED, b"[1,3)"])
    persistence.apply([log.batch()])
    assert text_rows(replica.rows("t")) == [["1", "2", "b1", "[1,3)"], ["2", "1", "b2", "[3,5)"]]
    log.update(target, [b"1", b"2", UNCHANGED, b"empty"])
    log.update(target, [b"2", b"1", UNCHANGED, b"[1,3)"])
    log.update(target, [b"1", b"2", UNCHANGED, b"[3,5)"])
    persistence.apply([log.batch()])
    assert text_rows(replica.rows("t")) == [["1", "2", "b1", "[3,5)"], ["2", "1", "b2", "[1,3)"]]
    assert replica.retries == []


def test_a_constraint_that_only_the_secondary_has_stops_the_replica(replica: Replica) -> None:
    replica.create("create table t (id int primary key, u int constraint only_here unique)")
    target, log, persistence = replica.target("t"), Log(), replica.opened()
    log.insert(target, cells("1", "4711"))
    log.insert(target, cells("2", "4711"))
    with pytest.raises(ConstraintViolated) as failure:
        persistence.apply([log.batch()])
    assert "only_here" in str(failure.value)
    assert "4711" not in str(failure.value)
    assert replica.rows("t") == []
    assert persistence.position == replica.stored_position() == Lsn(0x100)


def test_the_log_itself_is_the_last_rung(replica: Replica) -> None:
    """A table whose net change can't be carried out, since the secondary's row isn't what it should be."""
    replica.create("create table t (id int primary key, u int unique)")
    target, log, persistence = replica.target("t"), Log(), replica.opened()
    replica.create("insert into t values (1, 1), (2, 2)")
    log.update(target, cells("1", "3"))
    log.delete(target, cells("2", None))
    log.insert(target, cells("2", "1"))
    batch = log.batch()
    # steps that violate on both set-wise rungs, while the messages don't
    log.insert(target, cells("5", "1"))
    log.insert(target, cells("6", "1"))
    wrong = log.batch()
    persistence.apply(
        [type(batch)(**{f: getattr(batch, f) for f in batch.__slots__} | {"steps": wrong.steps})]
    )
    assert text_rows(replica.rows("t")) == [["1", "3"], ["2", "1"]]


@pytest.mark.parametrize("change", ["update", "delete", "move"])
def test_a_row_that_is_not_there_stops_the_replica(replica: Replica, change: str) -> None:
    replica.create("create table t (id int primary key, a text)")
    target, log, persistence = replica.target("t"), Log(), replica.opened()
    log.insert(target, cells("1", "x"))
    persistence.apply([log.batch()])
    log.update(target, cells("1", "y"))
    if change == "update":
        log.update(target, cells("815", "y"))
    elif change == "delete":
        log.delete(target, cells("815", None))
    else:
        log.update(target, cells("816", "y"), old=cells("815", None))
    with pytest.raises(RowMissing) as failure:
        persistence.apply([log.batch()])
    assert "public.t" in str(failure.value)
    assert "815" not in str(failure.value)
    assert text_rows(replica.rows("t")) == [["1", "x"]]


def test_without_a_key_exactly_one_equal_row_changes(replica: Replica) -> None:
    replica.create("create table t (n numeric, j json, p point, a text); alter table t replica identity full")
    target, log, persistence = replica.target("t"), Log(), replica.opened()
    assert target.key == ()
    one, same = cells("1.0", '{"a": 1}', "(1,2)", None), cells("1.00", '{"a":1}', "(1,2)", "")
    for row in (one, one, same, same, cells(None, None, None, None)):
        log.insert(target, row)
    persistence.apply([log.batch()])
    log.delete(target, one)
    log.update(target, cells("2", None, None, "x"), old=same)
    log.delete(target, cells(None, None, None, None))
    persistence.apply([log.batch()])
    assert text_rows(replica.rows("t", "n::text")) == text_rows([one, same, cells("2", None, None, "x")])
    log.delete(target, cells("7", None, None, None))
    with pytest.raises(RowMissing):
        persistence.apply([log.batch()])


def test_full_identity_finds_rows_by_the_secondary_s_key(replica: Replica) -> None:
    replica.create("create table t (a text, id int unique not null); alter table t replica identity full")
    target, log, persistence = replica.target("t"), Log(), replica.opened()
    assert target.key == (1,)
    log.insert(target, cells("x", "1"))
    persistence.apply([log.batch()])
    log.update(target, cells("y", "2"), old=cells("x", "1"))
    persistence.apply([log.batch()])
    assert text_rows(replica.rows("t")) == [["y", "2"]]


def test_partitions_and_rows_that_pass_between_them(replica: Replica) -> None:
    replica.create(
        "create table t (id int, region text, a text, primary key (id, region)) partition by list (region); "
        "create table t_x partition of t for values in ('x'); "
        "create table t_y (region text not null, a text, id int not null); "
        "alter table t attach partition t_y for values in ('y')"
    )
    target, log, persistence = replica.target("t"), Log(), replica.opened()
    for n in range(4):
        log.insert(target, cells(str(n), "x", "a"))
    persistence.apply([log.batch()])
    log.update(target, [b"1", b"y", UNCHANGED], old=cells("1", "x", None))
    log.update(target, cells("2", "x", "b"))
    log.delete(target, cells("3", "x", None))
    persistence.apply([log.batch()])
    rows = replica.execute("select id, region, a, tableoid::regclass::text from t order by id")
    assert rows == [(0, "x", "a", "t_x"), (1, "y", "a", "t_y"), (2, "x", "b", "t_x")]


def test_a_parent_s_row_and_its_child_s_are_two(replica: Replica) -> None:
    replica.create("create table t (id int primary key, a text); create table child () inherits (t)")
    replica.create("insert into child values (1, 'child')")
    target, log, persistence = replica.target("t"), Log(), replica.opened()
    log.insert(target, cells("1", "x"))
    persistence.apply([log.batch()])
    log.update(target, cells("1", "y"))
    persistence.apply([log.batch()])
    assert replica.execute("select a from only t union all select a from child") == [("y",), ("child",)]
    log.truncate([target])
    persistence.apply([log.batch()])
    assert replica.execute("select a from t") == [("child",)]


def test_names_that_need_quotes(replica: Replica) -> None:
    schema, table, column = 'S"x.y', "t'\n" + "é" * 20, "select \"'$1"
    quoted = [f'"{name.replace(chr(34), chr(34) * 2)}"' for name in (schema, table, column)]
    whole = ".".join(quoted[:2])
    replica.create(f"create schema {quoted[0]}; create table {whole} ({quoted[2]} int primary key, v text)")
    relation, types = replica.relation(whole)
    target = replica.resolve(type(relation)(relation.oid, schema, table, "d", relation.columns), types)
    log, persistence = Log(), replica.opened()
    log.insert(target, cells("1", "a"))
    persistence.apply([log.batch()])
    log.update(target, cells("2", "b"), old=cells("1", None))
    persistence.apply([log.batch()])
    assert replica.execute(f"select * from {whole}") == [(2, "b")]


@pytest.mark.parametrize("width", [16, 17, 300, 1600])
def test_tables_wider_than_a_function_s_parameters(replica: Replica, width: int) -> None:
    columns = ", ".join(f"c{n} int" for n in range(1, width))
    replica.create(f"create table t (id int primary key, {columns})")
    target, log, persistence = replica.target("t"), Log(), replica.opened()
    for row in range(3):
        log.insert(target, [b"%d" % row] + [b"%d" % (n % 7) for n in range(1, width)])
    persistence.apply([log.batch()])
    log.update(target, [b"0"] + [b"5"] * (width - 1))
    log.update(target, [b"7"] + [b"6"] * (width - 2) + [UNCHANGED], old=[b"1"] + [None] * (width - 1))
    log.update(target, [b"8", UNCHANGED] + [b"6"] * (width - 2), old=[b"2"] + [None] * (width - 1))
    persistence.apply([log.batch()])
    assert replica.execute(f"select id, c1, c2, c{width - 1} from t order by 1") == [
        (0, 5, 5, 5), (7, 6, 6, (width - 1) % 7), (8, 1, 6, 6),
    ]  # fmt: skip


def test_tables_without_columns_of_their_own(replica: Replica) -> None:
    replica.create("create table t (); create table k (id int primary key)")
    log, persistence = Log(), replica.opened()
    # a relation without columns has nothing that relation() could read
    key = replica.target("k")
    relation = type(key.relation)(4711, "public", "t", "n", ())
    target = replica.resolve(relation, {})
    log.insert(target, [])
    log.insert(target, [])
    log.insert(key, cells("1"))
    log.update(key, cells("1"))
    persistence.apply([log.batch()])
    log.update(key, cells("1"))
    persistence.apply([log.batch()])
    assert replica.execute("select count(*) from t") == [(2,)]


def test_row_security_that_is_forced_is_an_error_and_filters_nothing(replica: Replica) -> None:
    replica.create("create table t (id int primary key, a text); insert into t values (1, 'x')")
    replica.create("alter table t enable row level security; alter table t force row level security")
    replica.create("create policy p on t using (false)")
    target, log, persistence = replica.target("t"), Log(), replica.opened()
    log.update(target, cells("1", "y"))
    with pytest.raises(StatementFailed, match="row-level security") as failure:
        persistence.apply([log.batch()])
    assert failure.value.sqlstate == "42501"


def test_an_owner_without_a_writer_is_named(replica: Replica) -> None:
    replica.database.execute("create role somebody; create table t (id int); alter table t owner to somebody")
    target, log, persistence = replica.target("t", "n"), Log(), replica.opened()
    log.insert(target, cells("1"))
    with pytest.raises(WriterMissing, match="somebody") as failure:
        persistence.apply([log.batch()])
    assert "logship init" in failure.value.hint


def test_values_stay_out_of_errors(replica: Replica) -> None:
    replica.create("create schema src; create table src.t (id text); create table t (id int)")
    target, log, persistence = replica.target("t", "n"), Log(), replica.opened()
    log.insert(target, cells("secret"))
    with pytest.raises(StatementFailed, match="InvalidTextRepresentation") as failure:
        persistence.apply([log.batch()])
    assert "secret" not in str(failure.value)
    assert failure.value.__cause__ is None


@pytest.mark.parametrize("sqlstate", ["23514", "42501", "P0001"])
def test_values_that_users_code_says_stay_out_of_errors(replica: Replica, sqlstate: str) -> None:
    """Under an SQLSTATE whose messages are made of names only, where the server itself writes them."""
    replica.create("create table t (id text)")
    replica.create(
        "create function shout() returns trigger language plpgsql as $$ begin "
        f"raise exception 'no %, please', new.id using errcode = '{sqlstate}'; end $$; "
        "create trigger shout before insert on t for each row execute function shout(); "
        "alter table t enable always trigger shout"
    )
    target, log, persistence = replica.target("t", "n"), Log(), replica.opened()
    log.insert(target, cells("secret"))
    with pytest.raises(StatementFailed, match=sqlstate) as failure:
        persistence.apply([log.batch()])
    assert "secret" not in str(failure.value)


def test_a_large_value_is_sent_in_one_go(replica: Replica) -> None:
    """Which takes another path through libpq than a small one, and leaves the link as it was."""
    replica.create("create table t (id int primary key, a text)")
    target, log, persistence = replica.target("t"), Log(), replica.opened()
    log.insert(target, cells("1", "x" * 20_000_000))
    log.insert(target, cells("2", "small"))
    persistence.apply([log.batch()])
    log.update(target, cells("2", "y" * 20_000_000))
    log.delete(target, cells("1", None))
    persistence.apply([log.batch()])
    assert replica.execute("select id, length(a) from t") == [(2, 20_000_000)]
    assert persistence._live._pgconn.nonblocking == 1
