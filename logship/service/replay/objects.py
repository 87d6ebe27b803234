"""Every object that was changed since the start, as `logship.stat_object` shows it."""

from __future__ import annotations

from logship.service.replay.replayed import InMemory
from logship.service.replay.replayer import Replayer
from logship.service.replay.report import ObjectReport


def objects_of(replayer: Replayer) -> list[ObjectReport]:
    """What memory says of an object, and what persistence has replayed of it; by name."""
    replayed, memory = replayer.replayed, replayer.memory
    held = {(state.schemaname, state.relname): state for state in (memory.objects() if memory else [])}
    persisted, ddl, ddl_memory = dict(replayed.rows), dict(replayed.ddl), dict(replayed.ddl_memory)
    earlier = dict(replayed.in_memory)
    reports = []
    for name in sorted(held.keys() | persisted.keys() | ddl.keys() | earlier.keys()):
        state = held.get(name)
        done = earlier.get(name, InMemory()).and_(state)
        seen = [lsn for lsn in (replayed.last_change.get(name), state and state.last_change_lsn) if lsn]
        reports.append(
            ObjectReport(
                schemaname=name[0],
                relname=name[1],
                residence=state.residence.value if state else "cold",
                rows=state.rows if state else None,
                bytes=state.bytes if state else None,
                loads=done.loads,
                evictions=done.evictions,
                dml_memory=done.dml,
                dml_persistence=persisted.get(name, 0),
                ddl_memory=ddl_memory.get(name, 0),
                ddl_persistence=ddl.get(name, 0),
                last_change_lsn=max(seen, default=None),
                hits=done.hits,
                merges=done.merges,
                merge_s=done.merge_s,
                reason=state.reason if state else "",
            )
        )
    return reports
