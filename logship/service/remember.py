"""Makes memory for one replica: DuckDB, and a loader that reads the secondary. Imported only when memory is on."""

from __future__ import annotations

from collections.abc import Callable

from logship.lsn import Lsn
from logship.replay.load import Loader
from logship.replay.memory import Memory
from logship.service.replayer import MakeMemory


def memory_maker(budget_bytes: int) -> Callable[[str, str], MakeMemory]:
    """From the secondary's conninfo and the replica's name: what makes memory at a position."""

    def for_replica(secondary: str, replica: str) -> MakeMemory:
        def make(start_lsn: Lsn, wait_for_persistence: Callable[[Lsn], None]) -> Memory:
            return Memory(
                Loader(secondary, replica),
                start_lsn=start_lsn,
                budget_bytes=budget_bytes,
                wait_for_persistence=wait_for_persistence,
            )

        return make

    return for_replica
