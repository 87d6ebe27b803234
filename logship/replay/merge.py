"""Merges batches that wait for a store, so that a row that changed in several is written once.

In: whole batches in order. Out: fewer, with the same effect. A store that keeps up never sees a merged
batch; one that is behind writes less the further it is behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from logship.replay.batch import Batch
from logship.replay.coalesce import Coalescer


def merged(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Runs of batches as one each. They must all be complete, and follow one another."""
    run: list[Batch] = []
    for batch in batches:
        if run and not _same_shapes(run, batch):
            yield _one(run)
            run = []
        run.append(batch)
    if run:
        yield _one(run)


def _same_shapes(run: Sequence[Batch], batch: Batch) -> bool:
    """Inside one batch each relation has one shape, or is left out: replay one by one decodes the log so."""
    return not any(batch.targets.keys() & earlier.left_out for earlier in run) and all(
        earlier.targets[oid].relation == batch.targets[oid].relation
        for earlier in run
        for oid in earlier.targets.keys() & batch.targets.keys()
    )


def _one(run: Sequence[Batch]) -> Batch:
    if len(run) == 1:
        return run[0]
    coalescer = Coalescer()
    for batch in run:
        coalescer.absorb(batch.steps)
    steps = coalescer.take()
    transactions = sum(batch.transactions for batch in run)
    return Batch(
        end_lsn=run[-1].end_lsn,
        commit_time_us=next((b.commit_time_us for b in reversed(run) if b.commit_time_us), 0),
        complete=True,
        steps=steps,
        transactions=transactions,
        changes=sum(batch.changes for batch in run),
        net=coalescer.net,
        size_bytes=sum(batch.size_bytes for batch in run),
        runs=tuple(messages for batch in run for messages in batch.runs),
        targets={oid: target for batch in run for oid, target in batch.targets.items()},
        left_out=frozenset().union(*(batch.left_out for batch in run)),
        sequences=tuple(state for batch in run for state in batch.sequences),
        commit_lsn=next((b.commit_lsn for b in run if b.transactions), None) if transactions == 1 else None,
        passed_over=tuple(one for batch in run for one in batch.passed_over),
    )
