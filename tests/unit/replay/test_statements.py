"""The SQL of net changes: what it names, what it leaves alone, how rows travel. That it works is for
tests/integration/persistence."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from logship.change import UNCHANGED, Cell, Column, Relation
from logship.errors import InternalError
from logship.kernel import Rows
from logship.lsn import Lsn
from logship.replay import batch, copying, statements
from logship.replay.batch import Batch, InsertRun, NetChanges, OrderedChanges
from logship.replay.ladder import Rung, climb
from logship.replay.shape import Input, SecondaryColumn, SecondaryTarget
from logship.replay.statements import COPY_ROWS, BulkInsert, Statement
from tests.arrays import cells_of

KEY = Rows.of(1, [[b"1"]])


def column(name: str, *, identity: str = "", generated: str = "", how: Input = Input.CAST) -> SecondaryColumn:
    return SecondaryColumn(
        name, "integer", 23, -1, False, identity, generated, True, "operator(pg_catalog.=)", how, "integer[]"
    )


def make_target(*columns: SecondaryColumn, key: tuple[int, ...] = (0,), extra: tuple[str, ...] = (),
                kind: str = "r") -> SecondaryTarget:  # fmt: skip
    relation = Relation(
        1, "s", 't"t', "d", tuple(Column(c.name, 23, -1, i in key) for i, c in enumerate(columns))
    )
    return SecondaryTarget(
        relation, 1, kind, 10, "o", columns, key, extra, True, any(c.identity for c in columns)
    )


def make_batch(changes: NetChanges) -> Batch:
    return Batch(Lsn(2), 0, True, (batch.Rows([changes]),), 1, 1, 1, 1, (), {}, frozenset())


def test_insert_names_only_what_may_be_written() -> None:
    target = make_target(column("id", identity="a"), column("g", generated="s"), column("v"))
    statement = statements.insert(target, Rows.of(3, [[b"1", b"2", b"3"], [b"4", b"5", None]]))
    assert statement.sql == (
        'insert into "s"."t""t" ("id", "v") overriding system value select u.c0::integer, u.c1::integer '
        "from rows from (pg_catalog.unnest($1), pg_catalog.unnest($2)) as u (c0, c1)"
    )
    assert [cells_of(array) for array in statement.arrays] == [[b"1", b"4"], [b"3", None]]
    assert statement.rows == 2


def test_timestamps_of_many_rows_are_numbers() -> None:
    at = SecondaryColumn(
        "at", "timestamp(3) with time zone", 1184, 3, False, "", "", True, "operator(pg_catalog.=)"
    )
    many = [[b"2000-01-01 00:00:00.%05d1+00" % n] for n in range(100)]
    made = statements.insert(make_target(at), Rows.of(1, many))
    assert made.sql == (
        'insert into "s"."t""t" ("at") select '
        "('2000-01-01 00:00:00+00'::pg_catalog.timestamptz operator(pg_catalog.+) (u.c0::pg_catalog.float8 "
        "operator(pg_catalog.*) '00:00:00.000001'::pg_catalog.interval))::timestamp(3) with time zone "
        "from rows from (pg_catalog.unnest($1)) as u (c0)"
    )
    assert cells_of(made.arrays[0])[:2] == [b"1", b"11"]
    for rows in (many[:99], [*many, [b"infinity"]]):
        plain = statements.insert(make_target(at), Rows.of(1, rows))
        assert "select u.c0::timestamp(3) with time zone from" in plain.sql
        assert cells_of(plain.arrays[0]) == [cell for (cell,) in rows]
    with pytest.raises(InternalError, match="does not carry"):
        statements.insert(make_target(at), Rows.of(1, [*many, [UNCHANGED]]))


def test_update_never_sets_a_key() -> None:
    target = make_target(column("id"), column("v"), column("g", generated="s"))
    statement = statements.update(target, (0, 1, 2), KEY, Rows.of(3, [[b"1", b"2", b"3"]]))
    assert statement is not None
    assert statement.sql == (
        'update only "s"."t""t" as t set "v" = u.c1::integer '
        "from rows from (pg_catalog.unnest($1), pg_catalog.unnest($2)) as u (c0, c1) "
        'where t."id" operator(pg_catalog.=) u.c0::integer'
    )
    assert statements.update(target, (0, 2), KEY, Rows.of(3, [[b"1", UNCHANGED, b"3"]])) is None


def test_partitioned_tables_are_not_named_with_only() -> None:
    assert "only" not in statements.delete(make_target(column("id"), kind="p"), KEY).sql


@pytest.mark.parametrize("width", [1, 15, 16, 17, 32, 33, 1600])
def test_any_number_of_columns_fits_a_writer(width: int) -> None:
    target = make_target(*(column(f"c{n}") for n in range(width)))
    rows: list[list[Cell]] = [[b"%d.%d" % (row, n) for n in range(width)] for row in range(3)]
    statement = statements.insert(target, Rows.of(width, rows))
    assert len(statement.arrays) <= statements.PARAMETERS
    sources = re.findall(r"unnest\(\$(\d+)(?:\[(\d+):(\d+)\])?\)", statement.sql)
    columns = [
        cells_of(statement.arrays[int(parameter) - 1])[int(first or 1) - 1 : int(last or 3)]
        for parameter, first, last in sources
    ]
    assert [list(row) for row in zip(*columns, strict=True)] == rows


def test_replace_keeps_what_a_row_does_not_carry() -> None:
    target = make_target(column("id"), column("v"), column("w"), extra=("own",))
    statement = statements.replace(
        target,
        Rows.of(1, [(b"1",), (b"2",)]),
        Rows.of(3, [[b"2", UNCHANGED, UNCHANGED], [b"1", b"x", UNCHANGED]]),
    )
    assert "case when u.c1 operator(pg_catalog.=) any (array['0']::pg_catalog.text[])" in statement.sql
    assert 't."w" as r2, t."own" as r3)' in statement.sql
    assert statement.sql.endswith("select d.r0, d.r1, d.r2, d.r3 from d order by d.n")
    assert [cells_of(array) for array in statement.arrays] == [
        [b"1", b"2"],
        [b"0", b"1"],
        [b"2", b"1"],
        [None, b"x"],
    ]


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        (b"a", b"97"),
        (b"", b"0"),
        (b"\\200", b"-128"),
        (b"\\377", b"-1"),
        (b"\xff", b"-1"),
        (b"\\", b"92"),
        (None, None),
    ],
)
def test_a_char_travels_by_its_number(cell: bytes | None, number: bytes | None) -> None:
    target = make_target(column("id"), column("c", how=Input.BYTE))
    assert cells_of(statements.insert(target, Rows.of(2, [[b"1", cell]])).arrays[1]) == [number]


def test_without_a_key_null_and_values_are_told_apart() -> None:
    target = make_target(column("a"), column("b"), key=())
    statement = statements.delete_one(target, [None, b"1"])
    assert 'pg_catalog.num_nulls(t."a") operator(pg_catalog.=) 1' in statement.sql
    assert [cells_of(array) for array in statement.arrays] == [[b"1"]]
    assert "limit 1" in statement.sql


def test_a_cell_that_is_not_carried_is_never_written() -> None:
    with pytest.raises(InternalError):
        statements.insert(make_target(column("id")), Rows.of(1, [[UNCHANGED]]))


def test_an_always_identity_that_is_no_key_goes_by_replacement() -> None:
    target = make_target(column("id"), column("n", identity="a"))
    changes = NetChanges.of(target, updates=[((0, 1), [(b"1",)], [[b"1", b"2"]])])
    (statement,) = climb(make_batch(changes), Rung.NET)
    assert isinstance(statement, Statement)
    assert statement.sql.startswith("with d as (delete")


def test_on_the_second_rung_all_deletes_come_first() -> None:
    target = make_target(column("id"), column("v"))
    changes = NetChanges.of(
        target, deletes=[(b"1",)], updates=[((0, 1), [(b"2",)], [[b"2", b"x"]])],
        moves=[((b"3",), [b"4", b"y"])], inserts=[[b"5", b"z"]],
    )  # fmt: skip
    first, second, third = climb(make_batch(changes), Rung.REPLACE)
    assert isinstance(first, Statement)
    assert isinstance(second, Statement)
    assert isinstance(third, Statement)
    assert first.verb == "DELETE"
    assert cells_of(second.arrays[0]) == [b"3", b"2"]
    assert third.verb == "INSERT"


def test_many_rows_go_in_parts() -> None:
    target = make_target(column("id"))
    changes = NetChanges.of(target, inserts=[[b"%d" % n] for n in range(25_000)])
    parts = [part.rows for part in climb(make_batch(changes), Rung.NET) if isinstance(part, Statement)]
    assert parts == [10_000, 10_000, 5_000]


@pytest.mark.parametrize("rung", [Rung.NET, Rung.REPLACE])
@pytest.mark.parametrize("keyless", [False, True])
def test_many_rows_may_be_copied_where_nothing_of_users_runs(rung: Rung, *, keyless: bool) -> None:
    target = replace(make_target(column("id"), column("v", identity="a")), copyable=True)
    for count in (COPY_ROWS - 1, COPY_ROWS, 25_000):
        rows = Rows.of(2, [[b"%d" % n, None] for n in range(count)])
        changes = NetChanges.of(target, inserts=list(rows))
        step = batch.Rows([OrderedChanges(target, [InsertRun(rows)])] if keyless else [changes])
        parts = list(climb(replace(make_batch(changes), steps=(step,)), rung))
        if count < COPY_ROWS:
            assert [type(part) for part in parts] == [Statement]
        else:
            assert parts == [BulkInsert(target, rows)]
            (bulk,) = parts
            assert isinstance(bulk, BulkInsert)
            assert (bulk.rows, bulk.verb) == (count, "INSERT")


def test_a_copy_names_only_what_may_be_written() -> None:
    target = make_target(column("id", identity="a"), column("g", generated="s"), column('a "b"'))
    bulk = BulkInsert(target, Rows.of(3, [[b"1", b"2", b"3"]]))
    assert copying.copy_in(bulk, "text") == b'copy "s"."t""t" ("id", "a ""b""") from stdin with (format text)'
    assert copying.lock(target).sql == b'lock table only "s"."t""t" in row exclusive mode'
    asked = copying.question(target, bulk.columns)
    assert list(asked.parameters[:3]) == [b"s", b't"t', b"1"]
    assert cells_of(asked.parameters[3] or b"") == [b"id", b'a "b"']
