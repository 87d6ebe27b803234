"""What a store takes at once of what waits for it.

In: items in order. Out: the same in groups, each for one commit: whole batches merged, for a store that is behind; each
piece of a large transaction by itself, and so each batch that is to stay alone. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from logship.replay.assemble import Abandoned
from logship.replay.batch import Batch
from logship.replay.batcher import Item
from logship.replay.merge import merged
from logship.service.replay.relations import LookUp


def in_groups(
    items: Sequence[Item] | Sequence[Item | LookUp], *, merge: bool = True
) -> Iterator[list[Batch] | Abandoned | LookUp]:
    """Whole batches merged, for one commit; each piece of a large transaction by itself. Memory merges by itself:
    what it keeps for a load has to end where persistence may stand.

    The batch behind pieces, which completes their transaction, stays with them and alone.
    """
    whole: list[Batch] = []
    in_pieces = False
    for item in items:
        if isinstance(item, Batch) and item.complete and not in_pieces and not item.alone:
            whole.append(item)
            continue
        if whole:
            yield list(merged(whole)) if merge else whole
            whole = []
        in_pieces = isinstance(item, Batch) and not item.complete
        yield [item] if isinstance(item, Batch) else item
    if whole:
        yield list(merged(whole)) if merge else whole
