"""What one session of a standard client is sent of the log: each description once, and no empty transaction.

In: the Relation and Type messages in force at the start, then every pgoutput message of whole transactions in
order. Out: the messages to send. A Relation or Type message goes out before the first change that needs it,
inside its transaction, and again only when it says something else; logical messages go out to those who asked
for them; a transaction of which nothing is left isn't sent at all, as PostgreSQL has it since 15. What stands in
logship's own schema isn't sent: no other subscriber has it, and one that is sent a row for a table that it
lacks stops. Pure.

Source: src/backend/replication/pgoutput/pgoutput.c (maybe_send_schema, pgoutput_send_begin).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Final

from logship.errors import InternalError

_ROWS: Final = frozenset(b"IUD")
_BEGIN, _COMMIT, _RELATION, _TYPE = ord("B"), ord("C"), ord("R"), ord("Y")
_TRUNCATE, _MESSAGE, _ORIGIN = ord("T"), ord("M"), ord("O")
_COUNT: Final = struct.Struct(">I")
_TRUNCATED_OIDS: Final = 6  # where they start
_OWN_SCHEMA: Final = b"logship\0"


class Described:
    """For one session."""

    def __init__(self, *, messages: bool) -> None:
        """``messages``: whether the client asked for logical messages."""
        self._messages = messages
        self._known: dict[bytes, bytes] = {}  # tag and oid to the description in force
        self._sent: dict[bytes, bytes] = {}
        self._fresh: set[bytes] = set()  # relations whose description in force has been sent
        self._own: set[bytes] = set()  # relations of logship's own
        self._held: list[bytes] = []  # Begin, and Origin: sent with the first change

    def know(self, descriptions: Iterable[bytes]) -> None:
        """Relation and Type messages in force, which are sent when something needs them."""
        for message in descriptions:
            self._learn(message)

    def pass_on(self, messages: Sequence[bytes]) -> list[bytes]:
        """Those of the next ``messages`` to be sent now, with the descriptions they need."""
        out: list[bytes] = []
        fresh = self._fresh
        for message in messages:
            tag = message[0]
            if tag in _ROWS:
                if self._held or message[1:5] not in fresh:
                    if message[1:5] in self._own:
                        continue
                    self._open(out)
                    self._describe(message[1:5], out)
                out.append(message)
            else:
                self._turn(tag, message, out)
        return out

    def _turn(self, tag: int, message: bytes, out: list[bytes]) -> None:
        """Everything that is not a row."""
        if tag in (_BEGIN, _ORIGIN):
            self._held.append(message)
        elif tag in (_RELATION, _TYPE):
            self._learn(message)
        elif tag == _COMMIT:
            if self._held:  # nothing of it was sent
                self._held.clear()
            else:
                out.append(message)
        elif tag == _TRUNCATE:
            self._truncate(message, out)
        elif tag == _MESSAGE:
            if self._messages:
                self._open(out)
                out.append(message)
        else:
            raise InternalError(f"the journal holds a message of the unknown kind {message[:1]!r}")

    def _truncate(self, message: bytes, out: list[bytes]) -> None:
        oids = [message[at : at + 4] for at in range(_TRUNCATED_OIDS, len(message), 4)]
        shown = [oid for oid in oids if oid not in self._own]
        if not shown:
            return
        self._open(out)
        for oid in shown:
            self._describe(oid, out)
        out.append(b"T" + _COUNT.pack(len(shown)) + message[5:6] + b"".join(shown))

    def _open(self, out: list[bytes]) -> None:
        out += self._held
        self._held.clear()

    def _learn(self, message: bytes) -> None:
        key = message[:5]
        self._known[key] = message
        if message[0] == _RELATION:
            own = message.startswith(_OWN_SCHEMA, 5)
            (self._own.add if own else self._own.discard)(message[1:5])
            same = self._sent.get(key) == message
            (self._fresh.add if same else self._fresh.discard)(message[1:5])

    def _describe(self, oid: bytes, out: list[bytes]) -> None:
        if oid in self._fresh:
            return
        relation = self._known.get(b"R" + oid)
        if relation is None:
            raise InternalError(f"the journal doesn't describe relation {int.from_bytes(oid, 'big')}")
        for key, message in self._known.items():
            if key[0] == _TYPE and self._sent.get(key) != message:
                self._sent[key] = message
                out.append(message)
        self._sent[b"R" + oid] = relation
        self._fresh.add(oid)
        out.append(relation)
