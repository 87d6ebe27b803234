"""The leaf functions that touch every byte of the log.

In: bytes as they stand in a journal record, a pgoutput message or a stream. Out: slices, lists, `Rows`, and net
changes of them. No I/O of its own, no clock, no knowledge of relations or transactions.

There are two implementations with the same names, the same tests and the same results: `_python`, the
reference, and `_cython`, which is there when the package was built with a compiler. `LOGSHIP_KERNEL=python|cython`
chooses; unset, it is the faster one that is there. The journal's CRC-32C isn't among them: google-crc32c, a
library that is kept well, takes it from the processor's own instruction.
"""

from logship.kernel._python import (
    CopySource,
    Drain,
    Drained,
    Keyed,
    Keyless,
    Net,
    Operation,
    Rows,
    binary_text_array,
    feed,
    frame,
    message_at,
    row_change,
    split_run,
    survey,
    tuple_at,
    xlogdata,
)
from logship.kernel.cell import UNCHANGED, Cell, Unchanged

__all__ = [
    "UNCHANGED", "Cell", "CopySource", "Drain", "Drained", "Keyed", "Keyless", "Net", "Operation", "Rows", "Unchanged",
    "binary_text_array", "feed", "frame", "message_at", "row_change", "split_run", "survey", "tuple_at", "xlogdata",
]  # fmt: skip
