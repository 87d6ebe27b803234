"""What init makes after the rows: pg_dump's post-data, several entries at a time, and resumable.

In: the section's text and the LSN that each table's rows are true at. Out: indexes and constraints on the
secondary; `rest` runs what remains inside the last transaction. An entry that an earlier attempt made is
known by its digest in `logship.copy_made`, which was committed with it, and by nothing else.

Foreign keys: one that points to a table which isn't replicated would hold nowhere, and is left out. One
between tables that are true at different LSNs can't be checked before the log has brought both to the same
one: it is made NOT VALID, and the statement that checks it later is in the result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import psycopg
from psycopg import sql

from logship.catalog import copies
from logship.catalog.ddl import TRIGGERS
from logship.connection import Side
from logship.lsn import Lsn
from logship.service.initial.plan import InitResult
from logship.snapshot import guard, schema, schema_after
from logship.snapshot.failures import failure
from logship.snapshot.relations import TableName
from logship.snapshot.schema_after import Entry, ForeignKey


class Indexes:
    def __init__(
        self,
        secondary: psycopg.Connection,
        replica: str,
        *,
        text: str,
        lsns: Mapping[TableName, Lsn],
        unreplicated: set[TableName],
        result: InitResult,
        rewrite: Callable[[str], str],
    ) -> None:
        self._secondary = secondary
        self._replica = replica
        self._lsns = lsns
        self._unreplicated = unreplicated
        self._result = result
        script = rewrite(schema.statements(text, schema.known_settings(secondary)))
        found = [
            entry
            for entry in schema_after.entries(script)
            if not (
                entry.kind == "EVENT TRIGGER" and entry.name in TRIGGERS
            )  # the capture's, on the primary only
        ]
        self._early = [entry for entry in found if schema_after.comes_early(entry)]
        self._late = [entry for entry in found if not schema_after.comes_early(entry)]

    def make(self, connect: Callable[[], psycopg.Connection], jobs: int, say: Callable[[str], None]) -> None:
        """All that needn't wait for the last transaction."""
        made = copies.made(self._secondary, self._replica)
        wanted = [fitting for entry in self._early if (fitting := self._fitting(entry)) is not None]
        todo = [entry for entry in wanted if entry.digest not in made]
        if len(todo) < len(wanted):
            say(f"{len(wanted) - len(todo)} indexes and constraints are made already")

        def note(link: psycopg.Connection, entry: Entry) -> None:
            copies.note_made(link, self._replica, entry.digest)

        def progress(entry: Entry, done: int, total: int) -> None:
            say(f"[{done}/{total}] made {entry.kind.lower()} {entry.name}")

        schema_after.make_all(connect, todo, jobs=jobs, note=note, progress=progress)

    def rest(self, link: psycopg.Connection) -> None:
        """Triggers, rules, policies, materialized views, in pg_dump's order, in the caller's transaction."""
        for entry in self._late:
            try:
                schema_after.send(link, entry)
            except psycopg.Error as error:
                what = f"make {entry.kind.lower()} {entry.name}"
                raise failure(
                    Side.SECONDARY, what, error, hint="mend the cause, and run init again: the rest stays"
                ) from error

    def _fitting(self, entry: Entry) -> Entry | None:
        """The entry as it can be made; None: it can't."""
        key = schema_after.foreign_key(entry) if entry.kind == "FK CONSTRAINT" else None
        if key is None:
            return entry
        table, references = TableName(*key.table), TableName(*key.references)
        if references in self._unreplicated and table not in self._unreplicated:
            self._result.warnings.append(
                f'foreign key "{key.name}" of {table} is left out: {references} is not replicated'
            )
            return None
        if self._at(table) == self._at(references):
            return entry
        if guard.is_partitioned(self._secondary, table):  # PostgreSQL has no NOT VALID there before 18
            self._result.unchecked.append(" ".join(entry.text.split()))
            return None
        self._result.unchecked.append(_validate(key))
        return schema_after.unchecked(entry)

    def _at(self, table: TableName) -> Lsn | None:
        """None: not a table with rows of its own; then it is as old as the others, when they are all one age."""
        known = self._lsns.get(table)
        if known is None and len(set(self._lsns.values())) == 1:
            return next(iter(self._lsns.values()))
        return known


def _validate(key: ForeignKey) -> str:
    return (
        sql.SQL("alter table {} validate constraint {}")
        .format(sql.Identifier(*key.table), sql.Identifier(key.name))
        .as_string(None)
    )
