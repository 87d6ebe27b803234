"""Schema changes as the primary's event triggers wrote them: which message is proven, and what it says.

In: logical messages of the log, the keys, and the transaction they stand in. Out: for each message a
`Verdict`, and a `Captured` when it is proven; `Gatherer` puts those of one statement together. No I/O but
the look-up of keys, which is given. Never raises for what a message holds: anyone who can log in may write
any bytes under any prefix.

Bytes: ``1 <generation> <hex signature> <json>``, where the signature is the HMAC-SHA256 of
``logship.ddl 1 <generation> <json>``. Written by ``logship.ddl_sign`` on the primary.
"""

from __future__ import annotations

import enum
import hmac
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from logship.change import Message

PREFIX: Final = "logship.ddl"
Json = Mapping[str, Any]
Keys = Callable[[], Mapping[int, bytes]]

_HEAD: Final = re.compile(rb"1 ([1-9][0-9]{0,8}) ([0-9a-f]{64}) ", re.ASCII)
SEQUENCES: Final = "sequences"  # an event that belongs to no statement
_EVENTS: Final = frozenset({"end", "drop", "rewrite", "lost", SEQUENCES})


class Verdict(enum.Enum):
    PROVEN = "proven"
    NOT_OURS = "not ours"  # another program's prefix
    NOT_TRANSACTIONAL = "not transactional"
    MALFORMED = "malformed"  # cut, or never what our capture writes
    UNKNOWN_KEY = "unknown key"
    FORGED = "forged"
    OTHER_DATABASE = "other database"
    OTHER_TRANSACTION = "other transaction"  # a true message, written down and sent again
    OUT_OF_ORDER = "out of order"  # sent again in the same transaction


@dataclass(frozen=True, slots=True)
class Object:
    """An object after the statement; in a rewrite, the table before it. ``names`` and ``args`` are those of
    pg_get_object_address. ``facts`` are of `logship.replay.ddl.facts`; ``owner`` None: it has none."""

    type: str
    names: tuple[str, ...]
    args: tuple[str, ...]
    identity: str
    schema: str | None
    catalog: str
    oid: int = 0  # on the primary; 0: not said
    tag: str = ""
    owner: str | None = None
    facts: Json = field(default_factory=lambda: MappingProxyType({}))
    reason: int = 0  # of a rewrite: pg_event_trigger_table_rewrite_reason()
    echo: str | None = None  # of a rewrite: how its rows follow in the log; None: they don't
    why: str | None = None  # they can't; None: they needn't
    # Missing values of columns in tables below it: schema, table, column, value.
    below: tuple[tuple[str, str, str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Dropped:
    type: str
    names: tuple[str, ...]
    args: tuple[str, ...]
    identity: str
    schema: str | None
    original: bool  # named by the statement itself


@dataclass(frozen=True, slots=True)
class SequenceState:
    """How far a sequence is to be set; ``called`` False: ``value`` itself comes next."""

    schema: str
    name: str
    value: int
    called: bool


@dataclass(frozen=True, slots=True)
class Captured:
    """One event. ``context``: settings by name, as texts, to be set as they are before the text is run. ``query``: the
    whole of what the client sent; empty when the statement stands in something that this called: see ``stack``."""

    number: int
    xid: int
    database: str
    server: int
    at_us: int  # when the client's command began: tells two executions of one text apart
    event: str
    tag: str
    query: str
    stack: str
    context: Mapping[str, str]
    objects: tuple[Object, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    error: str | None = None
    sequences: tuple[SequenceState, ...] = ()
    # Functions in the language SQL that it may stand in, by the name that the stack has: name, body.
    bodies: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Judged:
    verdict: Verdict
    captured: Captured | None = None
    detail: str = ""  # for people; never what the message held


def signature(key: bytes, generation: int, body: bytes) -> str:
    return hmac.digest(key, b"logship.ddl 1 %d " % generation + body, "sha256").hex()


def encode(key: bytes, generation: int, body: bytes) -> bytes:
    """What the primary's capture writes: for tests, and to see that both sides mean the same."""
    return b"1 %d %b " % (generation, signature(key, generation, body).encode()) + body


@dataclass(slots=True)
class Verifier:
    """`begin` with each transaction's xid, then `judge` its messages in their order.

    ``keys`` is asked for all generations once, and again for one it didn't know: at most once per transaction.
    """

    keys: Keys
    database: str
    counts: Counter[Verdict] = field(default_factory=Counter)
    _known: Mapping[int, bytes] | None = None
    _asked: bool = False
    _xid: int = 0
    _number: int = 0

    def begin(self, xid: int) -> None:
        """``xid`` is that of the Begin message: the low 32 bits."""
        self._xid, self._number, self._asked = xid & 0xFFFFFFFF, 0, False

    def judge(self, message: Message) -> Judged:
        judged = self._judge(message)
        self.counts[judged.verdict] += 1
        return judged

    def _judge(self, message: Message) -> Judged:  # noqa: PLR0911  (a line per verdict)
        if message.prefix != PREFIX:
            return Judged(Verdict.NOT_OURS)
        if not message.transactional:
            return Judged(Verdict.NOT_TRANSACTIONAL)
        head = _HEAD.match(message.content)
        if head is None:
            return Judged(Verdict.MALFORMED, detail="no generation and signature at its beginning")
        generation, body = int(head[1]), message.content[head.end() :]
        key = self._key(generation)
        if key is None:
            return Judged(Verdict.UNKNOWN_KEY, detail=f"generation {generation}")
        if not hmac.compare_digest(signature(key, generation, body).encode(), head[2]):
            return Judged(Verdict.FORGED)
        captured = _captured(body)
        if captured is None:
            return Judged(Verdict.MALFORMED, detail="proven, but of a shape this version doesn't know")
        return self._place(captured)

    def _place(self, captured: Captured) -> Judged:
        if captured.database != self.database:
            return Judged(Verdict.OTHER_DATABASE)
        if captured.xid & 0xFFFFFFFF != self._xid:
            return Judged(Verdict.OTHER_TRANSACTION)
        if captured.number <= self._number:
            return Judged(Verdict.OUT_OF_ORDER)
        self._number = captured.number
        return Judged(Verdict.PROVEN, captured)

    def _key(self, generation: int) -> bytes | None:
        if self._known is None or (generation not in self._known and not self._asked):
            self._known, self._asked = self.keys(), True
        return self._known.get(generation)


def _captured(body: bytes) -> Captured | None:
    try:
        said = json.loads(body)
        dropped = said["event"] == "drop"
        captured = Captured(
            number=_of(int, said["number"]), xid=_of(int, said["xid"]), database=_of(str, said["database"]),
            server=_of(int, said["server"]), at_us=_of(int, said["at"]), event=_of(str, said["event"]),
            tag=_of(str, said["tag"]), query=_of(str, said["query"]), stack=_of(str, said["stack"]),
            context=MappingProxyType({_of(str, k): _of(str, v) for k, v in said["context"].items()}),
            objects=() if dropped else tuple(_object(each) for each in said["objects"]),
            dropped=tuple(_dropped(each) for each in said["objects"]) if dropped else (),
            error=_of(str, said["error"], none=True),
            sequences=tuple(_sequence(*each) for each in said.get("sequences", ())),
            bodies=tuple(_body(*each) for each in said.get("bodies") or ()),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return None
    return captured if captured.event in _EVENTS else None


def _object(said: Any) -> Object:
    facts = said["facts"]
    return Object(
        type=_of(str, said["type"]), names=_texts(said["names"]), args=_texts(said["args"]),
        identity=_of(str, said["identity"]), schema=_of(str, said["schema"], none=True),
        catalog=_of(str, said["class"]), oid=_of(int, said.get("oid", 0)), tag=_of(str, said["tag"], none=True) or "",
        owner=_of(str, said["owner"], none=True), facts=MappingProxyType(_of(dict, facts)),
        reason=_of(int, said.get("reason", 0)), echo=_of(str, said.get("echo"), none=True),
        why=_of(str, said.get("why"), none=True), below=tuple(_below(*each) for each in said.get("below", ())),
    )  # fmt: skip


def _dropped(said: Any) -> Dropped:
    return Dropped(
        type=_of(str, said["type"]), names=_texts(said["names"]), args=_texts(said["args"]),
        identity=_of(str, said["identity"]), schema=_of(str, said["schema"], none=True),
        original=_of(bool, said["original"]),
    )  # fmt: skip


def _below(schema: Any, table: Any, column: Any, value: Any) -> tuple[str, str, str, str]:
    return _of(str, schema), _of(str, table), _of(str, column), _of(str, value)


def _sequence(schema: Any, name: Any, value: Any, called: Any) -> SequenceState:
    return SequenceState(_of(str, schema), _of(str, name), _of(int, value), _of(bool, called))


def _body(name: Any, body: Any) -> tuple[str, str]:
    return _of(str, name), _of(str, body)


def _texts(said: Any) -> tuple[str, ...]:
    return tuple(_of(str, each) for each in _of(list, said, none=True) or [])


def _of(kind: type, value: Any, *, none: bool = False) -> Any:
    if (value is None and none) or (
        isinstance(value, kind) and not (kind is int and isinstance(value, bool))
    ):
        return value
    raise TypeError(kind.__name__)


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of the primary: its events together. ``last`` is the one that completed it."""

    last: Captured
    dropped: tuple[Dropped, ...] = ()
    rewritten: tuple[Object, ...] = ()

    @property
    def tag(self) -> str:
        return self.last.tag

    @property
    def query(self) -> str:
        return self.last.query

    @property
    def stack(self) -> str:
        return self.last.stack

    @property
    def context(self) -> Mapping[str, str]:
        return self.last.context

    @property
    def objects(self) -> tuple[Object, ...]:
        return self.last.objects

    @property
    def lost(self) -> str | None:
        """Why the primary's capture could not write it: what it changed is unknown."""
        return self.last.error if self.last.event == "lost" else None


@dataclass(slots=True)
class Gatherer:
    """Puts the events of each statement together; `reset` with each transaction.

    A statement whose tag begins with DROP is whole with its drop event (DROP OWNED also revokes: it has an end).
    """

    _dropped: dict[object, list[Dropped]] = field(default_factory=dict)
    _rewritten: dict[object, list[Object]] = field(default_factory=dict)

    def reset(self) -> None:
        self._dropped.clear()
        self._rewritten.clear()

    def add(self, captured: Captured) -> Statement | None:
        """The statement that ``captured`` completes, if it does."""
        if captured.event == SEQUENCES:
            return None
        key = (captured.tag, captured.query, captured.stack.partition("\n")[2], captured.at_us)
        if captured.event == "drop":
            self._dropped.setdefault(key, []).extend(captured.dropped)
            if not captured.tag.startswith("DROP ") or captured.tag == "DROP OWNED":
                return None
        elif captured.event == "rewrite":
            self._rewritten.setdefault(key, []).extend(captured.objects)
            return None
        return Statement(captured, tuple(self._dropped.pop(key, ())), tuple(self._rewritten.pop(key, ())))
