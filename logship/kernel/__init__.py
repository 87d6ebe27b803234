"""The leaf functions that touch every byte of the log.

In: bytes as they stand in a journal record or a pgoutput message. Out: slices and lists. No I/O, no
clock, no knowledge of relations or transactions. `_python` is the reference.
"""

from logship.kernel._python import (
    UNCHANGED,
    Unchanged,
    binary_text_array,
    frame,
    row_change,
    split_run,
    survey,
    tuple_at,
    xlogdata,
)

__all__ = [
    "UNCHANGED", "Unchanged", "binary_text_array", "frame", "row_change", "split_run", "survey", "tuple_at", "xlogdata",
]  # fmt: skip
