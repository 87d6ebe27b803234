"""The leaf functions that touch every byte of the log.

In: bytes as they stand in a journal record or a pgoutput message. Out: slices, lists, and `Rows`. No I/O, no
clock, no knowledge of relations or transactions. `_python` and its neighbours are the reference.
"""

from logship.kernel._python import (
    binary_text_array,
    frame,
    row_change,
    split_run,
    survey,
    tuple_at,
    xlogdata,
)
from logship.kernel._python_drain import CopySource, Drain, Drained
from logship.kernel._python_rows import Rows
from logship.kernel.cell import UNCHANGED, Cell, Unchanged

__all__ = [
    "UNCHANGED", "Cell", "CopySource", "Drain", "Drained", "Rows", "Unchanged", "binary_text_array", "frame",
    "row_change", "split_run", "survey", "tuple_at", "xlogdata",
]  # fmt: skip
