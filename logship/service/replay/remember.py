"""Makes memory for one replica: DuckDB, and readers of the secondary. Imported only when memory is on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from logship.catalog.selection import Selection, split
from logship.config import MemorySettings
from logship.lsn import Lsn
from logship.replay.memory.memory import Memory
from logship.replay.memory.policy import Policies, Policy
from logship.replay.memory.reading import ReaderThreads
from logship.replay.memory.source import Loader
from logship.service.replay.behind import Behind
from logship.service.replay.replayer import MakeMemory


class _Selected:
    """``(schema, name) in`` it: a pattern names the table. Without patterns, none is."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._selection = Selection(split(patterns)) if patterns else None

    def __contains__(self, table: object) -> bool:
        if self._selection is None or not isinstance(table, tuple):
            return False
        return self._selection.selects(*table)


def memory_maker(settings: MemorySettings) -> Callable[[str, str], MakeMemory]:
    """From the secondary's conninfo and the replica's name: what makes memory at a position."""
    policies = Policies(
        Policy(settings.policy),
        _Selected(settings.eager),
        _Selected(settings.off),
        _Selected(settings.pinned),
    )

    def for_replica(secondary: str, replica: str) -> MakeMemory:
        def make(start_lsn: Lsn, behind: Behind, wake: Callable[[], None]) -> Memory:
            readers = ReaderThreads(
                lambda: Loader(secondary, replica), settings.loaders, wait=behind.wait_beside, wake=wake
            )
            return Memory(
                readers,
                start_lsn=start_lsn,
                budget_bytes=settings.budget_bytes,
                behind=behind,
                policies=policies,
                wake=wake,
            )

        return make

    return for_replica
