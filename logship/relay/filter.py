"""What of the journal's messages one standard client is sent.

In: the runs of CHANGES records, whole transactions in order, and the relations in force where they begin
(the SCHEMA record's run). Out: the messages to be sent. Each Relation and Type message goes out once,
inside a transaction, before the first change that needs it, and again when it has changed: a client
forgets everything between sessions, and a journal says it at the start of each segment and of each of the
walsender's sessions. Logical messages are left out unless they were asked for. Nothing else is
touched: a transaction without changes keeps its Begin and Commit. One filter per session. Pure.

Source: PostgreSQL documentation, "Logical Streaming Replication Protocol"; src/backend/replication/pgoutput/
pgoutput.c, maybe_send_schema.
"""

from __future__ import annotations

from logship import pgoutput
from logship.kernel import split_run, survey
from logship.pgoutput import MESSAGE, RELATION, TRUNCATE, TYPE

_ROWS = frozenset(b"IUD")


class Filter:
    def __init__(self, *, messages: bool) -> None:
        """``messages``: logical messages are sent, too."""
        self._messages = messages
        self._owed: dict[bytes, bytes] = {}  # oid to a Relation that isn't sent
        self._owed_types: dict[bytes, bytes] = {}
        self._sent: dict[bytes, bytes] = {}  # tag and oid to the message

    def describe(self, run: bytes) -> None:
        """Relation and Type messages in force (a SCHEMA record): owed until a change needs them."""
        for message in split_run(run):
            self._owe(message)

    def pass_on(self, run: bytes) -> list[bytes]:
        """The messages to be sent for ``run``; a malformed one is a `ValueError` or a `ProtocolViolation`."""
        messages = split_run(run)
        relations, plain = survey(messages)
        if plain and self._owed.keys().isdisjoint(relations):
            return messages
        passed: list[bytes] = []
        for message in messages:
            kind = pgoutput.tag(message)
            if kind in (RELATION, TYPE):
                self._owe(message)
                continue
            if kind == MESSAGE and not self._messages:
                continue
            if self._owed and kind in _ROWS:
                self._pay(message[1:5], passed)
            elif self._owed and kind == TRUNCATE:
                for at in range(6, len(message) - 3, 4):
                    self._pay(message[at : at + 4], passed)
            passed.append(message)
        return passed

    def _owe(self, message: bytes) -> None:
        """To be sent, unless it is what the client has been told last."""
        oid = pgoutput.relation_oid(message).to_bytes(4, "big")
        owed = self._owed if message[0] == RELATION else self._owed_types
        if self._sent.get(message[:5]) == message:
            owed.pop(oid, None)
        else:
            owed[oid] = message

    def _pay(self, oid: bytes, passed: list[bytes]) -> None:
        """The relation, and before it every type that is owed: which of them it has is not looked at."""
        relation = self._owed.pop(oid, None)
        if relation is None:
            return
        for message in (*self._owed_types.values(), relation):
            self._sent[message[:5]] = message
            passed.append(message)
        self._owed_types.clear()
