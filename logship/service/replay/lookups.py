"""Looks up what a relation is on the secondary, through a connection that is made anew when it breaks."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from typing import TypeVar

import psycopg

from logship.change import Relation, TypeName
from logship.connection import Side, connect
from logship.errors import SecondaryError
from logship.replay.ddl import renames
from logship.replay.ddl.renames import Renamed
from logship.replay.target import Target
from logship.replay.targets import Targets
from logship.service.crew import Stopped

log = logging.getLogger(__name__)

_WAIT_S = 1.0
T = TypeVar("T")


class Lookups:
    """``trouble`` is told of a secondary that is away, and None when it is back."""

    def __init__(self, secondary: str, trouble: Callable[[Exception | None], None]) -> None:
        self._secondary = secondary
        self._trouble = trouble
        self._stopping = threading.Event()
        self._connection: psycopg.Connection | None = None

    def resolve(self, relation: Relation, types: Mapping[int, TypeName]) -> Target:
        """The relation on the secondary, however long it takes to reach it. Raises what `Targets` raises."""
        return self._ask(str(relation), lambda connection: Targets(connection).resolve(relation, types))

    def ddl_keys(self) -> Mapping[int, bytes]:
        """The keys that prove schema changes, by generation; none where init has handed none over."""
        return self._ask("the keys of schema changes", _keys)

    def renamed(self, replica: str) -> tuple[Renamed, ...]:
        """Types that schema changes have renamed, in order."""
        return self._ask("types that were renamed", lambda connection: _renamed(connection, replica))

    def _ask(self, what: str, ask: Callable[[psycopg.Connection], T]) -> T:
        while not self._stopping.is_set():
            try:
                if self._connection is None:
                    self._connection = connect(
                        self._secondary, Side.SECONDARY, application_name="logship lookup"
                    )
                answer = ask(self._connection)
                self._trouble(None)
            except (psycopg.OperationalError, SecondaryError) as error:
                log.warning("can't look up %s on the secondary: %s", what, type(error).__name__)
                self._trouble(error)
                self.close()
                self._stopping.wait(_WAIT_S)
            else:
                return answer
        raise Stopped

    def stop(self) -> None:
        self._stopping.set()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _keys(connection: psycopg.Connection) -> dict[int, bytes]:
    rows = connection.execute("select k.generation, k.key from logship.ddl_keys() k").fetchall()
    return {generation: bytes(key) for generation, key in rows}


def _renamed(connection: psycopg.Connection, replica: str) -> tuple[Renamed, ...]:
    rows = connection.execute(
        "select d.renamed from logship.ddl_replayed d where d.replica = %s and d.renamed is not null "
        "order by d.lsn, d.number",
        [replica],
    ).fetchall()
    return tuple(each for (said,) in rows for each in renames.decode(json.loads(said)))
