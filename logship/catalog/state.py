"""What init writes down on both sides: which replica there is, what it is filling, where it starts.

In: connections to databases that have logship's schema. Out: rows. `Replica.initialised` is true only
once rows, indexes, sequences and position are committed together.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass

import psycopg

from logship.catalog.selection import LeftOut, Selection
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
    tables: tuple[str, ...] = ()  # patterns: what is replicated; none: everything
    excluded: tuple[str, ...] = ()
    shipper_epoch: int | None = None  # the highest that a shipper it followed had

    @property
    def initialised(self) -> bool:
        return self.initialised_at is not None


_COLUMNS = (
    "name, system_identifier, timeline, database, slot, publication, origin, keyless, "
    "snapshot_lsn::pg_catalog.text, initialised_at, tables, excluded, shipper_epoch"
)


def replicas(secondary: psycopg.Connection) -> list[Replica]:
    """Every replica kept in this database; `psycopg.errors.UndefinedTable` without logship's schema."""
    rows = secondary.execute(f"select {_COLUMNS} from logship.replica order by name").fetchall()
    return [
        Replica(
            row[0], int(row[1]), row[2], row[3], row[4], row[5], row[6], row[7],
            None if row[8] is None else Lsn.parse(row[8]), row[9], tuple(row[10]), tuple(row[11]), row[12],
        )
        for row in rows
    ]  # fmt: skip


def note_epoch(secondary: psycopg.Connection, name: str, epoch: int) -> None:
    """The replica follows a shipper of this epoch. What is stored never goes back."""
    secondary.execute(
        "update logship.replica set shipper_epoch = %(epoch)s "
        "where name = %(name)s and coalesce(shipper_epoch, 0) < %(epoch)s",
        {"epoch": epoch, "name": name},
    )


def begin(secondary: psycopg.Connection, replica: Replica) -> None:
    """An init of this replica begins, or begins again; `initialised_at` is null until `finish`.
    Epochs may begin anew with the primary's schema, so none is known."""
    secondary.execute(
        """
        insert into logship.replica as r
               (name, system_identifier, timeline, database, slot, publication, origin, keyless,
                snapshot_lsn, tables, excluded, created_at, initialised_at)
        values (%s, %s, %s, %s, %s, %s, %s, %s, %s::pg_catalog.pg_lsn, %s, %s, pg_catalog.now(), null)
        on conflict (name) do update set
               system_identifier = excluded.system_identifier, timeline = excluded.timeline,
               database = excluded.database, slot = excluded.slot, publication = excluded.publication,
               origin = excluded.origin, keyless = excluded.keyless,
               tables = excluded.tables, excluded = excluded.excluded, shipper_epoch = null,
               snapshot_lsn = coalesce(excluded.snapshot_lsn, r.snapshot_lsn)
        """,
        [
            replica.name, replica.system_identifier, replica.timeline, replica.database, replica.slot,
            replica.publication, replica.origin, replica.keyless,
            None if replica.snapshot_lsn is None else str(replica.snapshot_lsn),
            list(replica.tables), list(replica.excluded),
        ],
    )  # fmt: skip


def begin_on_primary(
    primary: psycopg.Connection, replica: Replica, secondary: tuple[int, str]
) -> tuple[int, str] | None:
    """``secondary``: its system identifier and database. Whose name it is already, when it is another's."""
    row = primary.execute(
        """
        insert into logship.replica as r
               (name, slot, publication, created_at, secondary_system_identifier, secondary_database)
        values (%(name)s, %(slot)s, %(publication)s, pg_catalog.now(), %(system)s, %(database)s)
        on conflict (name) do update set slot = excluded.slot, publication = excluded.publication,
               secondary_system_identifier = excluded.secondary_system_identifier,
               secondary_database = excluded.secondary_database
         where r.secondary_database is null
            or (r.secondary_system_identifier, r.secondary_database) = (%(system)s, %(database)s)
        returning true
        """,
        {
            "name": replica.name, "slot": replica.slot, "publication": replica.publication,
            "system": secondary[0], "database": secondary[1],
        },
    ).fetchone()  # fmt: skip
    if row is not None:
        return None
    other = primary.execute(
        "select secondary_system_identifier, secondary_database from logship.replica where name = %s",
        [replica.name],
    ).fetchone()
    return (int(other[0]), other[1]) if other else None


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


def note_left_out(secondary: psycopg.Connection, name: str, tables: Iterable[tuple[str, str]]) -> None:
    secondary.execute("delete from logship.left_out where replica = %s", [name])
    with secondary.cursor() as cursor:
        cursor.executemany(
            "insert into logship.left_out (replica, schemaname, relname) values (%s, %s, %s)",
            [(name, schema, relname) for schema, relname in tables],
        )


def left_out(secondary: psycopg.Connection, replica: Replica) -> LeftOut:
    """The tables that this replica doesn't replicate."""
    rows = secondary.execute(
        "select schemaname, relname from logship.left_out where replica = %s", [replica.name]
    ).fetchall()
    names = frozenset((schema, name) for schema, name in rows)
    return LeftOut(names, Selection(replica.tables, replica.excluded))


def finish(secondary: psycopg.Connection, name: str, position: Lsn) -> None:
    """The replica stands at ``position``. In one transaction with the last of its schema."""
    secondary.execute(
        "insert into logship.position (replica, replay_lsn) values (%s, %s::pg_catalog.pg_lsn) "
        "on conflict (replica) do update set replay_lsn = excluded.replay_lsn",
        [name, str(position)],
    )
    secondary.execute("update logship.replica set initialised_at = pg_catalog.now() where name = %s", [name])
