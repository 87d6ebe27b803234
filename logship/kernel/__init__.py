"""The leaf functions that touch every byte of the log.

In: bytes as they stand in a journal record, a pgoutput message or a stream. Out: slices, lists, `Rows`, and net
changes of them. No I/O of its own, no clock, no knowledge of relations or transactions.

There are two implementations with the same names, the same tests and the same results: `_python`, the
reference, and `_cython`, which is there when the package was built with a compiler. `LOGSHIP_KERNEL=python|cython`
chooses; unset, it is the faster one that is there. The journal's CRC-32C isn't among them: google-crc32c, a
library that is kept well, takes it from the processor's own instruction.
"""

import os
from typing import TYPE_CHECKING

from logship.kernel.cell import UNCHANGED, Cell, Unchanged
from logship.kernel.choice import chosen, implementation

IN_USE = chosen(os.environ)

if TYPE_CHECKING:
    from logship.kernel._python import (
        CopySource,
        Drain,
        Drained,
        Encoded,
        Gathered,
        Keyed,
        Keyless,
        KeySet,
        Net,
        Operation,
        Plain,
        Rows,
        Transaction,
        binary_text_array,
        changing,
        commit_times,
        cut,
        encode_plain,
        feed,
        frame,
        gather,
        message_at,
        plain,
        plain_at,
        relations_of,
        row_change,
        split_run,
        survey,
        tuple_at,
        xlogdata,
    )
else:
    _kernel = implementation(IN_USE)
    CopySource, Drain, Drained = _kernel.CopySource, _kernel.Drain, _kernel.Drained
    Keyed, Keyless, Net, Operation = _kernel.Keyed, _kernel.Keyless, _kernel.Net, _kernel.Operation
    KeySet = _kernel.KeySet
    Rows, binary_text_array, feed, frame = (
        _kernel.Rows,
        _kernel.binary_text_array,
        _kernel.feed,
        _kernel.frame,
    )
    message_at, row_change, split_run = _kernel.message_at, _kernel.row_change, _kernel.split_run
    Plain, Transaction, Gathered, Encoded = (
        _kernel.Plain,
        _kernel.Transaction,
        _kernel.Gathered,
        _kernel.Encoded,
    )
    changing, cut, encode_plain, gather, plain = (
        _kernel.changing,
        _kernel.cut,
        _kernel.encode_plain,
        _kernel.gather,
        _kernel.plain,
    )
    survey, tuple_at, xlogdata = _kernel.survey, _kernel.tuple_at, _kernel.xlogdata
    commit_times, plain_at, relations_of = _kernel.commit_times, _kernel.plain_at, _kernel.relations_of

__all__ = [
    "IN_USE", "UNCHANGED", "Cell", "CopySource", "Drain", "Drained", "Encoded", "Gathered", "KeySet", "Keyed",
    "Keyless", "Net", "Operation", "Plain", "Rows", "Transaction", "Unchanged", "binary_text_array", "changing",
    "commit_times", "cut", "encode_plain", "feed", "frame", "gather", "message_at", "plain", "plain_at",
    "relations_of", "row_change", "split_run", "survey", "tuple_at", "xlogdata",
]  # fmt: skip
