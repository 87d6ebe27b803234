"""The logs that are replayed: tables, rows that are there before, and the transactions that are measured.

In: a scale; 1 makes backlogs that take built-in replication 4 s and more on two cores. Out: SQL, to be run on the
primary. The last transaction of each load sets `marker.n`, by which its arrival is seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

TABLE: Final = """
create table public.t (id bigint primary key, customer int not null, state text not null, amount numeric(12,2),
    at timestamptz not null default now(), note text);
create table public.marker (id int primary key, n bigint not null);
insert into public.marker values (1, 0);
"""
ROW: Final = (
    "g, g % 9973, (array['new','paid','sent'])[g % 3 + 1], (g % 100000) / 7.0, "
    "timestamptz '2026-01-01' + g * interval '1 s', 'note of row ' || g"
)
# One transaction for each slice of a range, in one session.
SLICES: Final = """
create procedure public.in_slices(statement text, first bigint, last bigint, slice bigint)
language plpgsql as $$
declare at bigint := first;
begin
    while at <= last loop
        execute statement using at, least(at + slice - 1, last);
        commit;
        at := at + slice;
    end loop;
end $$
"""
INSERT: Final = f"insert into public.t select {ROW} from generate_series($1, $2) g"
UPDATE: Final = "update public.t set amount = amount + 1, state = 'sent' where id between $1 and $2"
DELETE: Final = "delete from public.t where id between $1 and $2"
HOT: Final = "update public.t set amount = $1 where id = 1 + $1 % 1000 and $2 > 0"


@dataclass(frozen=True, slots=True)
class Load:
    """``before`` is replayed by everybody before ``measured`` is. Both get the round's number, from 0."""

    name: str
    changes: str  # what it is, for people
    target: tuple[float, float]  # times as fast as built-in: through `run`, from the shipper's journal
    schema: str
    before: Callable[[int], list[str]]
    measured: Callable[[int], list[str]]
    pgbench: tuple[int, int] | None = None  # clients, transactions each: the measured load is pgbench's own
    tables: tuple[str, ...] = ("public.t",)


def _slices(statement: str, first: int, last: int, slice_: int) -> str:
    quoted = statement.replace("'", "''")
    return f"call public.in_slices('{quoted}', {first}, {last}, {slice_})"


def loads(scale: float) -> list[Load]:
    million, half = int(1_000_000 * scale), int(500_000 * scale)
    hot = int(300_000 * scale)
    fill = _slices(INSERT, 1, million, 10_000)
    return [
        Load(
            "insert", f"{million:,} inserts in {million // 1000:,} transactions", (1.4, 2.5), TABLE + SLICES,
            before=lambda n: [],
            measured=lambda n: [_slices(INSERT, 1 + n * million, (n + 1) * million, 1000)],
        ),
        Load(
            "update", f"{half:,} updates in {half // 1000:,} transactions", (1.6, 2.0), TABLE + SLICES,
            before=lambda n: [fill] if n == 0 else [],
            measured=lambda n: [_slices(UPDATE, 1, half, 1000)],
        ),
        Load(
            "delete", f"{million:,} deletes in {million // 1000:,} transactions", (1.4, 2.0), TABLE + SLICES,
            before=lambda n: [fill],
            measured=lambda n: [_slices(DELETE, 1, million, 1000)],
        ),
        Load(
            "pgbench", f"{4 * int(25_000 * scale):,} pgbench transactions", (1.5, 3.0), TABLE + SLICES,
            before=lambda n: [], measured=lambda n: [], pgbench=(4, int(25_000 * scale)),
            tables=(
                "public.pgbench_accounts", "public.pgbench_branches", "public.pgbench_tellers",
                "public.pgbench_history",
            ),
        ),
        Load(
            "huge", f"{million:,} inserts in one transaction", (1.5, 1.5), TABLE + SLICES,
            before=lambda n: [],
            measured=lambda n: [_slices(INSERT, 1 + n * million, (n + 1) * million, million)],
        ),
        Load(
            "hot", f"{hot:,} one-row updates of 1,000 rows", (1.5, 8.0), TABLE + SLICES,
            before=lambda n: [_slices(INSERT, 1, 1000, 1000)] if n == 0 else [],
            measured=lambda n: [_slices(HOT, 1, hot, 1)],
        ),
    ]  # fmt: skip
