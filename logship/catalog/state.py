"""What init writes down on both sides: which replica there is, what it is filling, where it starts.

In: connections to databases that have logship's schema. Out: rows. `Replica.initialised` is true only
once rows, indexes, sequences and position are committed together.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass

import psycopg

from logship.lsn import Lsn


@dataclass(frozen=True, slots=True)
class Replica:
    """One row of logship.replica on the secondary."""

    name: str
    system_identifier: int
    timeline: int
    database: str
    slot: str
    publication: str
    origin: str
    keyless: str
    snapshot_lsn: Lsn | None
    initialised_at: datetime.datetime | None

    @property
    def initialised(self) -> bool:
        return self.initialised_at is not None


_COLUMNS = (
    "name, system_identifier, timeline, database, slot, publication, origin, keyless, "
    "snapshot_lsn::pg_catalog.text, initialised_at"
)


def replicas(secondary: psycopg.Connection) -> list[Replica]:
    """Every replica kept in this database; `psycopg.errors.UndefinedTable` without logship's schema."""
    rows = secondary.execute(f"select {_COLUMNS} from logship.replica order by name").fetchall()
    return [
        Replica(
            row[0], int(row[1]), row[2], row[3], row[4], row[5], row[6], row[7],
            None if row[8] is None else Lsn.parse(row[8]), row[9],
        )
        for row in rows
    ]  # fmt: skip


def begin(secondary: psycopg.Connection, replica: Replica) -> None:
    """An init of this replica begins, or begins again; `initialised_at` is null until `finish`."""
    secondary.execute(
        """
        insert into logship.replica as r
               (name, system_identifier, timeline, database, slot, publication, origin, keyless,
                snapshot_lsn, created_at, initialised_at)
        values (%s, %s, %s, %s, %s, %s, %s, %s, %s::pg_catalog.pg_lsn, pg_catalog.now(), null)
        on conflict (name) do update set
               system_identifier = excluded.system_identifier, timeline = excluded.timeline,
               database = excluded.database, slot = excluded.slot, publication = excluded.publication,
               origin = excluded.origin, keyless = excluded.keyless,
               snapshot_lsn = coalesce(excluded.snapshot_lsn, r.snapshot_lsn)
        """,
        [
            replica.name, replica.system_identifier, replica.timeline, replica.database, replica.slot,
            replica.publication, replica.origin, replica.keyless,
            None if replica.snapshot_lsn is None else str(replica.snapshot_lsn),
        ],
    )  # fmt: skip


def begin_on_primary(primary: psycopg.Connection, replica: Replica) -> None:
    primary.execute(
        "insert into logship.replica (name, slot, publication, created_at) "
        "values (%s, %s, %s, pg_catalog.now()) "
        "on conflict (name) do update set slot = excluded.slot, publication = excluded.publication",
        [replica.name, replica.slot, replica.publication],
    )


def finish_on_primary(primary: psycopg.Connection, name: str) -> None:
    primary.execute("update logship.replica set initialised_at = pg_catalog.now() where name = %s", [name])


def interrupted(secondary: psycopg.Connection, name: str) -> bool:
    """Whether an init of ``name`` made the schema and did not finish: `begin` notes its snapshot then."""
    return any(
        replica.name == name and replica.snapshot_lsn is not None and not replica.initialised
        for replica in replicas(secondary)
    )


def filling(secondary: psycopg.Connection, name: str) -> list[tuple[str, str]]:
    """Schema and name of the tables that an unfinished init of ``name`` may have put rows into."""
    return secondary.execute(
        "select schemaname, relname from logship.copy_progress where replica = %s order by 1, 2", [name]
    ).fetchall()


def note_filling(secondary: psycopg.Connection, name: str, tables: Iterable[tuple[str, str]]) -> None:
    """To be committed before the first row of these tables, and with the statement that makes them."""
    secondary.execute("delete from logship.copy_progress where replica = %s", [name])
    with secondary.cursor() as cursor:
        cursor.executemany(
            "insert into logship.copy_progress (replica, schemaname, relname) values (%s, %s, %s)",
            [(name, schema, relname) for schema, relname in tables],
        )


def note_filled(secondary: psycopg.Connection, name: str, schema: str, relname: str) -> None:
    secondary.execute(
        "update logship.copy_progress set done_at = pg_catalog.now() "
        "where replica = %s and schemaname = %s and relname = %s",
        [name, schema, relname],
    )


def note_left_out(secondary: psycopg.Connection, name: str, tables: Iterable[tuple[str, str]]) -> None:
    secondary.execute("delete from logship.left_out where replica = %s", [name])
    with secondary.cursor() as cursor:
        cursor.executemany(
            "insert into logship.left_out (replica, schemaname, relname) values (%s, %s, %s)",
            [(name, schema, relname) for schema, relname in tables],
        )


def finish(secondary: psycopg.Connection, name: str, position: Lsn) -> None:
    """The replica stands at ``position``. In one transaction with the last of its schema."""
    secondary.execute(
        "insert into logship.position (replica, replay_lsn) values (%s, %s::pg_catalog.pg_lsn) "
        "on conflict (replica) do update set replay_lsn = excluded.replay_lsn",
        [name, str(position)],
    )
    secondary.execute("delete from logship.copy_progress where replica = %s", [name])
    secondary.execute("update logship.replica set initialised_at = pg_catalog.now() where name = %s", [name])
