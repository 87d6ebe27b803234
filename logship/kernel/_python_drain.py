"""What comes on a connection in COPY BOTH, read and gathered as a run, in plain Python.

In: a libpq connection whose server streams logical decoding. Out: the payloads of XLogData, framed one after
the other as the journal keeps them, and where in them stands what isn't a plain change. Never waits for the first
of them. Transactions are the caller's business.

Source: PostgreSQL documentation, "Streaming Replication Protocol"; libpq, "Functions Associated with the COPY
Command".
"""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass
from typing import Final, Protocol

XLOGDATA: Final = ord("w")
KEEPALIVE: Final = ord("k")
HEADER_BYTES: Final = 25  # of XLogData
PLAIN: Final = frozenset(b"IUDTO")  # rows, truncates, origins: messages that need only be kept

_NAP_S: Final = 0.0002  # between two looks at the socket while more is to gather
_pack_length: Final = struct.Struct(">I").pack


class CopySource(Protocol):
    """What is used here of psycopg's PGconn."""

    @property
    def pgconn_ptr(self) -> int | None: ...

    def get_copy_data(self, async_: int) -> tuple[int, memoryview | bytes]: ...

    def consume_input(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Drained:
    """``run``: the payloads, each behind its length. ``marks``: offsets in it of the frames whose message is no plain
    change (Begin, Commit, Relation, Type, logical messages, whatever is unknown or empty), ascending; the frame at
    offset m is ``run[m + 4 : m + 4 + length]``. ``keepalives``: CopyData messages as they came, each with the
    offset in the run that it came at. ``header``: the 25 bytes in front of the last payload; empty when there was
    none, or a keepalive came behind it. ``size_bytes``: of all CopyData messages."""

    run: bytes
    marks: list[int]
    keepalives: list[tuple[int, bytes]]
    header: bytes
    size_bytes: int


class Drain:
    """Call `read` when the socket may have something, and `take` for what has gathered.

    ``libpq`` are the addresses of PQgetCopyData, PQfreemem and PQconsumeInput in the same library that made
    ``pgconn``: with them an implementation may read without the interpreter. None: through ``pgconn``.
    """

    def __init__(self, pgconn: CopySource, libpq: tuple[int, int, int] | None = None) -> None:
        self._pgconn = pgconn
        self.ended = False  # the server ended the copy, or the link broke: libpq's results say why
        self.odd = b""  # CopyData that is neither XLogData nor a keepalive, or is cut short: nothing is taken behind it
        self._reset()

    def _reset(self) -> None:
        self._parts: list[bytes] = []
        self._offset = 0  # of the run
        self._marks: list[int] = []
        self._keepalives: list[tuple[int, bytes]] = []
        self._header: memoryview | bytes = b""
        self._size = 0

    def read(self, max_bytes: int, enough_bytes: int = 0, gather_s: float = 0.0) -> int:
        """Take messages and read the socket in turn, until it holds no more or their sizes come to ``max_bytes``;
        nothing is waited for. But where some have come, and less than ``enough_bytes``, it goes on for ``gather_s``
        to look for more now and then. Returns the sizes' sum. What libpq raises comes through; what was gathered
        before it stays."""
        end_s = time.monotonic() + gather_s
        size = self._gather(max_bytes)
        while size < max_bytes and not self.odd and not self.ended:
            self._pgconn.consume_input()
            taken = self._gather(max_bytes - size)
            size += taken
            if taken:
                continue
            if not size or size >= enough_bytes or time.monotonic() >= end_s:
                break
            time.sleep(_NAP_S)
        return size

    def _gather(self, max_bytes: int) -> int:
        """Take messages until libpq holds no whole one, or their sizes come to ``max_bytes``; their sizes' sum."""
        get, append, mark = self._pgconn.get_copy_data, self._parts.append, self._marks.append
        size, offset, newest = 0, self._offset, self._header
        try:
            while size < max_bytes and not self.odd and not self.ended:
                length, data = get(1)
                if length <= 0:
                    self.ended = length < 0
                    break
                size += length
                if data[0] == XLOGDATA and length >= HEADER_BYTES:
                    if length == HEADER_BYTES or data[HEADER_BYTES] not in PLAIN:
                        mark(offset)
                    append(_pack_length(length - HEADER_BYTES))
                    append(bytes(data[HEADER_BYTES:]))
                    offset += 4 + length - HEADER_BYTES
                    newest = data
                elif data[0] == KEEPALIVE:
                    self._keepalives.append((offset, bytes(data)))
                    newest = b""
                else:
                    self.odd = bytes(data)
        finally:
            self._offset, self._header = offset, newest
            self._size += size
        return size

    def take(self) -> Drained:
        """All that was gathered since the last call."""
        drained = Drained(
            b"".join(self._parts),
            self._marks,
            self._keepalives,
            bytes(self._header[:HEADER_BYTES]),
            self._size,
        )
        self._reset()
        return drained
