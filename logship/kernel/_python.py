"""The kernel in plain Python: the reference that every other implementation must equal.

Malformed input raises `ValueError` with what is wrong; callers turn it into an error of theirs that
knows the file or the message.
"""

from logship.kernel._python_coalesce import Keyed, Keyless, Net, Operation, feed
from logship.kernel._python_drain import CopySource, Drain, Drained
from logship.kernel._python_keys import KeySet
from logship.kernel._python_messages import (
    binary_text_array,
    frame,
    message_at,
    relations_of,
    row_change,
    split_run,
    survey,
    tuple_at,
    xlogdata,
)
from logship.kernel._python_plain import (
    Encoded,
    Gathered,
    Plain,
    Transaction,
    changing,
    commit_times,
    cut,
    encode_plain,
    gather,
    plain,
    plain_at,
)
from logship.kernel._python_rows import Rows

__all__ = [
    "CopySource", "Drain", "Drained", "Encoded", "Gathered", "KeySet", "Keyed", "Keyless", "Net", "Operation", "Plain",
    "Rows", "Transaction", "binary_text_array", "changing", "commit_times", "cut", "encode_plain", "feed", "frame",
    "gather", "message_at", "plain", "plain_at", "relations_of", "row_change", "split_run", "survey", "tuple_at",
    "xlogdata",
]  # fmt: skip
