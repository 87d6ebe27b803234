"""The SQL that sums rows up on either server, and lists them where the sums differ.

In: a `Pair`, and which of its rows: a range of keys, or blocks of the file and buckets. Out: statements
with their parameters, which stand in them as $1, $2 …: a name may hold a %, so they are for psycopg's raw
cursors. Pure: no I/O. The same rows give the same sums on both servers, whatever their
order, so a statement may be carried out on either side.

A row's text is the output of a row value of its columns, in the primary's order: PostgreSQL quotes what
it must, NULL is nothing and the empty string is ``""``, so that different rows have different texts. It is
made by output functions; a cast to text could be a user's function. The row's hash is the MD5 of that
text in UTF-8; a set of rows is summed up by its count and the sums of both halves of the hashes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from psycopg import sql

from logship.snapshot.verify_tables import Column, Pair, Table

Bound = tuple[str, ...]  # the texts of a key's columns

_SUMS: Final = sql.SQL(
    "pg_catalog.count(*), "
    "coalesce(pg_catalog.sum(('x' || pg_catalog.left(r.m, 16))::bit(64)::pg_catalog.int8), 0), "
    "coalesce(pg_catalog.sum(('x' || pg_catalog.right(r.m, 16))::bit(64)::pg_catalog.int8), 0), "
    "coalesce(pg_catalog.sum(r.b), 0)::pg_catalog.int8"
)


@dataclass(frozen=True, slots=True)
class Query:
    statement: sql.Composed
    parameters: Sequence[Any] = ()


@dataclass(frozen=True, slots=True)
class Blocks:
    """Part of a table's file, ``to`` not included; None: to its end. Rows are found by their ctid."""

    start: int
    to: int | None


def next_range(pair: Pair, after: Bound | None, rows: int) -> Query:
    """Sums of the ``rows`` rows that follow ``after`` in the key's order, and the texts of the last key."""
    keys = [_name("x", column) for column in pair.key_columns]
    order = sql.SQL(", ").join(keys)
    inner = sql.SQL(
        "select pg_catalog.row_number() over (order by {order}) as n, {keys}, {text} as t "
        "from {table} x{where} order by {order} limit {rows}"
    ).format(
        order=order,
        keys=sql.SQL(", ").join(
            sql.SQL("{} as {}").format(key, _k(number)) for number, key in enumerate(keys)
        ),
        text=_text(pair.columns),
        table=_from(pair, pair.primary),
        where=_between(pair, after, None),
        rows=sql.Literal(rows),
    )
    names = [_k(number) for number in range(len(keys))]
    statement = sql.SQL("select {sums}, {last} from ({hashed}) r").format(
        sums=_SUMS,
        last=sql.SQL(", ").join(
            sql.SQL("pg_catalog.max(case when r.n = {} then pg_catalog.format('%s', r.{}) end)").format(
                sql.Literal(rows), name
            )
            for name in names
        ),
        hashed=_hashed(inner, [sql.Identifier("n"), *names]),
    )
    return Query(statement, _bounds(after, None))


def range_sums(pair: Pair, side: Table, after: Bound | None, upto: Bound | None) -> Query:
    """Sums of the rows behind ``after``, up to ``upto`` (None: no bound)."""
    inner = sql.SQL("select {} as t from {} x{}").format(
        _text(pair.columns), _from(pair, side), _between(pair, after, upto)
    )
    return Query(sql.SQL("select {} from ({}) r").format(_SUMS, _hashed(inner, [])), _bounds(after, upto))


def range_rows(pair: Pair, side: Table, after: Bound | None, upto: Bound | None) -> Query:
    """The keys' texts and the hash of each row in a range."""
    inner = sql.SQL("select {}, {} as t from {} x{}").format(
        _key_texts(pair), _text(pair.columns), _from(pair, side), _between(pair, after, upto)
    )
    names = [_k(number) for number in range(len(pair.key))]
    return Query(_list(inner, names), _bounds(after, upto))


def bucket_sums(pair: Pair, side: Table, blocks: Blocks | None, buckets: int) -> Query:
    """Sums for each bucket that has rows in these blocks."""
    inner = _in_blocks(pair, side, blocks)
    statement = sql.SQL("select {bucket}, {sums} from ({hashed}) r group by 1").format(
        bucket=_bucket(pair, buckets), sums=_SUMS, hashed=_hashed(inner, _bucketed_by(pair))
    )
    return Query(statement, [])


def bucket_rows(pair: Pair, side: Table, buckets: int, wanted: Sequence[int]) -> Query:
    """The keys' texts and hash of each row in some buckets; without key, each hash and how often it is there."""
    texts = [_k(number) for number in range(len(pair.key))]
    if pair.key:
        inner = sql.SQL("select {keys}, {km} as km, {text} as t from {table} x").format(
            keys=_key_texts(pair), km=_key_hash(pair), text=_text(pair.columns), table=_from(pair, side)
        )
        shown = sql.SQL("select {}, r.m").format(sql.SQL(", ").join(sql.SQL("r.{}").format(t) for t in texts))
        end = sql.Composed([])
    else:
        inner = sql.SQL("select {} as t from {} x").format(_text(pair.columns), _from(pair, side))
        shown = sql.Composed([sql.SQL("select r.m, pg_catalog.count(*)")])
        end = sql.Composed([sql.SQL(" group by 1")])
    statement = sql.SQL("{shown} from ({hashed}) r where {bucket} = any ($1::pg_catalog.int8[]){end}").format(
        shown=shown,
        hashed=_hashed(inner, [*texts, *_bucketed_by(pair)]),
        bucket=_bucket(pair, buckets),
        end=end,
    )
    return Query(statement, [list(wanted)])


def rows_by_key(pair: Pair, side: Table, keys: Sequence[Bound]) -> Query:
    """For each of ``keys`` that is there: the keys' texts, the hash, and the text of every column.

    Found by the key's type, where an index may answer, and by its very text: keys may be equal and
    differ, as 1.0 and 1.00 do.
    """
    texts = sql.SQL(", ").join(
        sql.SQL(f"pg_catalog.unnest(${number}::pg_catalog.text[])") for number in range(1, len(pair.key) + 1)
    )
    typed = [
        sql.SQL("{} = u.{}::{}").format(_name("x", column), _k(number), sql.SQL(column.base_type))
        for number, column in enumerate(pair.key_columns)
        if pair.ordered  # else its equality may be an operator that isn't PostgreSQL's own
    ]
    match = sql.SQL(" and ").join(typed) if typed else sql.SQL("true")
    same = sql.SQL(" and ").join(
        sql.SQL('{} collate pg_catalog."C" = u.{}').format(_as_text(column), _k(number))
        for number, column in enumerate(pair.key_columns)
    )
    names = sql.SQL(", ").join(_k(number) for number in range(len(pair.key)))
    statement = sql.SQL(
        "select {keys}, {hash}, {all} from rows from ({texts}) as u ({names}) join {table} x on {match} where {same}"
    ).format(
        keys=_key_texts(pair), hash=_md5(_text(pair.columns)), all=_cells(pair), texts=texts, names=names,
        table=_from(pair, side), match=match, same=same,
    )  # fmt: skip
    return Query(statement, [[key[number] for key in keys] for number in range(len(pair.key))])


def rows_by_hash(pair: Pair, side: Table, hashes: Sequence[str]) -> Query:
    """Of a table without key: how often each of ``hashes`` is there, the hash, the text of every column."""
    names = sql.SQL("").join(
        sql.SQL(", pg_catalog.min(r.{0}) as {0}").format(_c(n)) for n in range(len(pair.columns))
    )
    statement = sql.SQL(
        "select pg_catalog.count(*), r.m{names} from (select {hash} as m{cells} from {table} x) r "
        "where r.m = any ($1::pg_catalog.text[]) group by r.m"
    ).format(
        names=names, hash=_md5(_text(pair.columns)), table=_from(pair, side),
        cells=sql.SQL(", {}").format(_cells(pair)) if pair.columns else sql.Composed([]),
    )  # fmt: skip
    return Query(statement, [list(hashes)])


# -- parts ----------------------------------------------------------------------------------------


def _k(number: int) -> sql.Identifier:
    return sql.Identifier(f"k{number}")


def _c(number: int) -> sql.Identifier:
    return sql.Identifier(f"c{number}")


def _name(alias: str, column: Column) -> sql.Composed:
    return sql.SQL("{}.{}").format(sql.Identifier(alias), sql.Identifier(column.name))


def _from(pair: Pair, side: Table) -> sql.Composed:
    """The table alone: what inherits from it is a table of its own. A partitioned table is its partitions."""
    return sql.SQL("{}{}").format(sql.SQL("" if side.kind == "p" else "only "), pair.table.identifier())


def _value(column: Column) -> sql.Composed:
    name = _name("x", column)
    return sql.SQL("{}::pg_catalog.int4").format(name) if column.as_number else name


def _text(columns: Sequence[Column]) -> sql.Composed:
    values = sql.SQL(", ").join(_value(column) for column in columns)
    return sql.SQL("pg_catalog.format('%s', row({}))").format(values)


def _as_text(column: Column) -> sql.Composed:
    return sql.SQL("pg_catalog.format('%s', {})").format(_name("x", column))


def _md5(text: sql.Composable) -> sql.Composed:
    return sql.SQL("pg_catalog.md5(pg_catalog.convert_to({}, 'UTF8'))").format(text)


def _hashed(inner: sql.Composable, keep: Sequence[sql.Composable]) -> sql.Composed:
    """``offset 0`` keeps the planner from working out text and hash once for each time they are named."""
    kept = sql.SQL("").join(sql.SQL("{}, ").format(name) for name in keep)
    return sql.SQL(
        "select {kept}{md5} as m, pg_catalog.octet_length(i.t) as b from ({inner} offset 0) i offset 0"
    ).format(kept=kept, md5=_md5(sql.SQL("i.t")), inner=inner)


def _list(inner: sql.Composable, names: Sequence[sql.Composable]) -> sql.Composed:
    shown = sql.SQL("").join(sql.SQL("r.{}, ").format(name) for name in names)
    return sql.SQL("select {}r.m from ({}) r").format(shown, _hashed(inner, names))


def _key_texts(pair: Pair) -> sql.Composed:
    return sql.SQL(", ").join(
        sql.SQL("{} as {}").format(_as_text(column), _k(number))
        for number, column in enumerate(pair.key_columns)
    )


def _cells(pair: Pair) -> sql.Composed:
    """Each column's text, NULL when it is: also of a row of NULLs, which IS NULL takes for one."""
    return sql.SQL(", ").join(
        sql.SQL("case when pg_catalog.num_nulls({0}) = 0 then {1} end as {2}").format(
            _name("x", column), _as_text(column), _c(number)
        )
        for number, column in enumerate(pair.columns)
    )


def _key_hash(pair: Pair) -> sql.Composed:
    return _md5(_text(pair.key_columns))


def _bucketed_by(pair: Pair) -> list[sql.Composable]:
    return [sql.Identifier("km")] if pair.key else []


def _bucket(pair: Pair, buckets: int) -> sql.Composed:
    return sql.SQL("pg_catalog.mod(('x' || pg_catalog.left({}, 8))::bit(32)::pg_catalog.int8, {})").format(
        sql.SQL("r.km" if pair.key else "r.m"), sql.Literal(buckets)
    )


def _in_blocks(pair: Pair, side: Table, blocks: Blocks | None) -> sql.Composed:
    key = sql.SQL("{} as km, ").format(_key_hash(pair)) if pair.key else sql.Composed([])
    return sql.SQL("select {}{} as t from {} x{}").format(
        key, _text(pair.columns), _from(pair, side), in_blocks(blocks)
    )


def in_blocks(blocks: Blocks | None) -> sql.Composed:
    """The condition that keeps to part of the file of the table ``x``."""
    where = sql.Composed([])
    if blocks is not None:
        where = sql.SQL(" where x.ctid >= '({},0)'::pg_catalog.tid").format(sql.SQL(str(blocks.start)))
        if blocks.to is not None:
            where += sql.SQL(" and x.ctid < '({},0)'::pg_catalog.tid").format(sql.SQL(str(blocks.to)))
    return where


def _between(pair: Pair, after: Bound | None, upto: Bound | None) -> sql.Composed:
    """Row comparison: what a B-tree over the key's columns can look up. A single column is compared plainly."""
    tests = []
    place = 1
    for operator, bound in ((">", after), ("<=", upto)):
        if bound is None:
            continue
        values = [
            sql.SQL(f"${place + number}::{{}}").format(sql.SQL(column.base_type))
            for number, column in enumerate(pair.key_columns)
        ]
        place += len(values)
        tests.append(
            sql.SQL("({}) {} ({})").format(
                sql.SQL(", ").join(_name("x", column) for column in pair.key_columns),
                sql.SQL(operator),
                sql.SQL(", ").join(values),
            )
        )
    return sql.SQL(" where {}").format(sql.SQL(" and ").join(tests)) if tests else sql.Composed([])


def _bounds(after: Bound | None, upto: Bound | None) -> list[str]:
    return [text for bound in (after, upto) if bound is not None for text in bound]
