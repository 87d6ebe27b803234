"""When the transactions were committed that a journal has been given: what lag is told by.

In: records and stretches, in order. Out: ends of transactions with their commit times, as many as it takes to tell how
old the oldest is that a stage lacks, wherever it stands. What a server sent in one go may have been committed in
hours; mostly it was within a moment, and then nobody looks into a stretch. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from logship.journal.segment import Record, Stretch
from logship.kernel import commit_times
from logship.lsn import Lsn

_MOMENT_US: Final = 50_000


def dated(given: Iterable[Record | Stretch]) -> list[tuple[Lsn, int]]:
    """End and commit time (microseconds since 2000), the last of ``given`` among them."""
    ends: list[tuple[Lsn, int]] = []
    for one in given:
        if isinstance(one, Stretch):
            ends += [(Lsn(end), time_us) for end, time_us in commit_times(one.run, _MOMENT_US)]
        elif one.last:
            ends.append((one.end_lsn, one.commit_time_us))
    return ends
