"""A primary with a replica behind it: `logship init`, `logship run`, and what a test asks of them.

In: two empty databases (or a primary with a schema), a directory. Out: `Replica`; schema and rows are
compared once the replica has caught up, so the test itself must not write meanwhile. The slot and the origin
go with the ``with`` block; the databases are their maker's.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psycopg

from logship.connection import Side, connect
from logship.replay.origins import further
from logship.service.compare import catalogs, comparison
from logship.service.demo.running import ReplicationEnded, RunningReplica
from logship.service.initial.init import initialise
from logship.service.initial.plan import InitResult
from logship.testing.databases import Database

# A test waits for each position: it is told often.
_PROMPT: Final = ("--position-interval", "20ms", "--report-interval", "500ms")
_SLOT: Final = """
select pg_catalog.pg_drop_replication_slot(s.slot_name) from pg_catalog.pg_replication_slots s where s.slot_name = %s
"""
_HOLDER: Final = """
select pg_catalog.pg_terminate_backend(s.active_pid, 10000) from pg_catalog.pg_replication_slots s
 where s.slot_name = %s and s.active
"""
_ORIGIN: Final = """
select pg_catalog.pg_replication_origin_drop(o.roname) from pg_catalog.pg_replication_origin o where o.roname = any (%s)
"""
_OF_THE_REPLICA: Final = """
select pg_catalog.pg_terminate_backend(a.pid, 10000) from pg_catalog.pg_stat_activity a
 where a.datname = pg_catalog.current_database() and a.pid <> pg_catalog.pg_backend_pid()
   and a.application_name like 'logship%'
"""


class SidesDiffer(AssertionError):
    """``lines``: what differs, one by one; ``when`` is the caller's word for the moment."""

    def __init__(self, when: str, lines: Sequence[str]) -> None:
        super().__init__("\n  ".join([f"primary and secondary differ{f' {when}' if when else ''}:", *lines]))
        self.when = when
        self.lines = tuple(lines)


@dataclass
class Replica:
    """``with Replica(primary, secondary, directory) as replica:`` initialises, and follows until the block ends."""

    primary: Database
    secondary: Database
    directory: Path
    options: Sequence[str] = ()  # of `logship run`
    deadline_s: float = 60.0
    pg_dump: Path | None = None
    process: RunningReplica = field(init=False)
    _made: InitResult | None = field(default=None, init=False, repr=False)
    _stack: ExitStack = field(default_factory=ExitStack, init=False, repr=False)
    _opened: tuple[psycopg.Connection, psycopg.Connection] | None = field(
        default=None, init=False, repr=False
    )

    def __post_init__(self) -> None:
        self.process = RunningReplica(
            self.primary.conninfo, self.secondary.conninfo, self.directory, (*_PROMPT, *self.options)
        )

    def __enter__(self) -> Self:
        self._made = initialise(
            self.primary.conninfo,
            self.secondary.conninfo,
            ddl="on",
            pg_dump=None if self.pg_dump is None else str(self.pg_dump),
        )
        self.process.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self._stack.close()
        if self._made is not None:
            origins = [self._made.origin, *further(self._made.origin)]
            _forget(self.primary, _HOLDER, _SLOT, self._made.slot)
            _forget(self.secondary, _OF_THE_REPLICA, _ORIGIN, origins)

    def catch_up(self) -> None:
        """Until all that is committed on the primary now is on the secondary.

        `ReplicationEnded` with the command's own words when the replica has stopped, say at a schema change.
        """
        self.process.catch_up(self.deadline_s)

    def differences(self) -> list[str]:
        """Once caught up: what differs in the schema, and the tables whose rows do; empty when nothing does."""
        self.catch_up()
        ours, theirs = self._links()
        if lines := catalogs.between(ours, theirs):
            return lines  # tables of another shape have no rows to compare
        return [
            f"table {each.table}: {each.primary_rows} rows on the primary, {each.secondary_rows} on the secondary"
            + (", of other content" if each.primary_rows == each.secondary_rows else "")
            for each in comparison.between(ours, theirs, catalogs.tables(ours))
            if not each.equal
        ]

    def assert_equal(self, when: str = "") -> None:
        """`SidesDiffer` unless schema and rows agree once the replica has caught up. An error that stopped the replica
        says ``when``, too."""
        try:
            lines = self.differences()
        except ReplicationEnded as error:
            if when:
                error.add_note(f"the replica stopped {when}")
            raise
        if lines:
            raise SidesDiffer(when, lines)

    def _links(self) -> tuple[psycopg.Connection, psycopg.Connection]:
        """To both sides, made once: a comparison follows every revision."""
        if self._opened is None:
            self._opened = (
                self._stack.enter_context(connect(self.primary.conninfo, Side.PRIMARY)),
                self._stack.enter_context(connect(self.secondary.conninfo, Side.SECONDARY)),
            )
        return self._opened


def _forget(database: Database, end: str, drop: str, name: str | list[str]) -> None:
    """``end`` the sessions that still hold what ``drop`` removes."""
    with connect(database.conninfo, database.side) as link:
        link.execute(end, [name] if end == _HOLDER else None)
        try:
            link.execute(drop, [name])
        except psycopg.errors.ObjectInUse:  # who held it was just ending: now it's gone
            link.execute(end, [name] if end == _HOLDER else None)
            link.execute(drop, [name])
