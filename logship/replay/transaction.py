"""One transaction on the secondary: statements through the owners' writers, then position and commit.

In: statements of `logship.replay.statements`, for a `Session`. Out: rows, written with the rights of
each table's owner, and an error of replay when a statement didn't affect the rows that it names.
Statements gather until there are some bytes of them: a small batch is one round trip, COMMIT included, in which
the server itself refuses to go on when a count differs. While the server works on what was sent, the next
statements are made and sent. Many rows for a table that runs nothing of users' go by COPY (`logship.replay.copying`).

Whatever users wrote (checks, defaults, triggers) runs inside the writers, and may leave settings
behind, client_encoding and synchronous_commit among them. RESET ALL, which evaluates nothing, comes
after each writer. `advance` comes last: no user's code runs between it and COMMIT.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from logship.errors import InternalError, ReplayError
from logship.failpoints import hit
from logship.kernel import binary_text_array
from logship.lsn import Lsn
from logship.replay import copying, truncation
from logship.replay.batch import PassedOver, SchemaChange, Truncation
from logship.replay.ddl.carry_out import carry_out
from logship.replay.ddl.message import SequenceState
from logship.replay.ddl.plan import describe
from logship.replay.ddl.sequences import set_sequences
from logship.replay.failures import RowMissing, WriterMissing
from logship.replay.ladder import secondary
from logship.replay.session import TEXT, TEXT_ARRAY, Command, ServerError, Session
from logship.replay.shape import SecondaryTarget
from logship.replay.statements import BulkInsert, Statement, inserts

BEGIN: Final = b"begin isolation level read committed read write"
_FLIGHT_BYTES: Final = 1 << 20  # what is sent at once
_PIECE_ROWS: Final = 20_000  # of COPY, or a flight's bytes
_FORBIDDEN: Final = "42501"
_RESET: Final = Command(b"reset all")
_HASHING: Final = (Command(b"set local enable_hashjoin = on"), Command(b"set local enable_nestloop = off"))
_WRITERS: Final = b"""
select p.proowner::pg_catalog.text || '.' || pg_catalog.quote_ident(n.nspname)
       || '.' || pg_catalog.quote_ident(p.proname)
  from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
 where n.nspname = 'logship_writers' and p.prosecdef and p.proowner = $1::pg_catalog.oid
   and p.proname = 'write_as_' || p.proowner::pg_catalog.text
"""

_PASSED_OVER: Final = b"""
update logship.skip s set skipped_at = pg_catalog.clock_timestamp(), changes = $3
 where s.replica operator(pg_catalog.=) $1 and s.lsn operator(pg_catalog.=) $2
"""


@dataclass(slots=True)
class Span:
    """The part of the log that is being replayed, for errors: after ``after``, up to ``upto``."""

    after: Lsn
    upto: Lsn


class CopyRefused(ServerError):
    """The privilege to insert was there when the table was looked up, and isn't any more: without COPY it goes on."""


@dataclass(frozen=True, slots=True)
class _Flight:
    """What was sent at once: its statements by their place in it."""

    written: dict[int, Statement]


@dataclass(slots=True)
class Transaction:
    session: Session
    writers: dict[int, bytes]  # by owner; kept over transactions by whoever makes them
    span: Span
    replica: str = ""  # in whose name schema changes are noted
    roles: Mapping[str, str] = field(default_factory=dict)  # of the primary's that have another name here
    refresh_views: bool = True
    # Tables, by oid, into which nothing was to be copied when it was asked: not asked again. Kept as `writers` are.
    not_copied: dict[int, SecondaryTarget] = field(default_factory=dict)
    _opening: list[Command] = field(default_factory=lambda: [Command(BEGIN)])  # until it is sent
    _commands: list[Command] = field(default_factory=list)
    _statements: dict[int, Statement] = field(default_factory=dict)  # by place in _commands
    _bytes: int = 0
    _flights: deque[_Flight] = field(default_factory=deque)
    _failed: Statement | BulkInsert | None = None
    _changing: str = ""  # the schema change under way

    def utility(self, sql: bytes, parameters: Sequence[bytes | None] = (), types: Sequence[int] = ()) -> None:
        """Gather a command that writes no rows of users'."""
        self._commands.append(Command(sql, parameters, types))

    def write(self, items: Iterable[Statement | BulkInsert | Truncation | SchemaChange]) -> None:
        """Gather statements, and send them as they become many. Raises `ServerError`, `RowMissing`; and of
        a schema change what `logship.replay.ddl.carry_out` raises."""
        for item in items:
            if isinstance(item, SchemaChange):
                self._change_schema(item)
            elif isinstance(item, Truncation):
                self._truncate(item)
            elif isinstance(item, BulkInsert):
                self._insert_many(item)
            else:
                self._write(item)

    def set_sequences(self, states: Sequence[SequenceState]) -> None:
        """Not undone when the transaction is rolled back: what they say holds all the same."""
        if states:
            self.flush()
            self._failed = None
            set_sequences(self.session, states)

    def note_passed_over(self, transactions: Sequence[PassedOver]) -> None:
        """That nothing was replayed of these, as an operator wanted it."""
        for one in transactions:
            told = [self.replica.encode(), str(one.lsn).encode(), b"%d" % one.changes]
            self.utility(_PASSED_OVER, told, [TEXT, 3220, 20])

    def flush(self) -> None:
        """Send what is gathered, wait until all of it is done, and check what it did."""
        if self._opening or self._commands:
            self._launch()
        while self._flights:
            self._land()

    def flush_and(self, last: Callable[[], Sequence[Command]]) -> bool:
        """The same, and ``last`` behind it in the same round trip; the server doesn't get there when a count differs
        (`ServerError` then, of which a `flush` says what it is). ``last`` is called when the rest is on
        its way. False, and nothing is sent, when answers are due that must be looked at first."""
        if self._flights:
            return False
        counted = [
            Command(_counted(command.sql, self._statements[place]), command.parameters, command.types)
            if place in self._statements
            else command
            for place, command in enumerate(self._commands)
        ]
        opening, written = self._opening, self._statements
        self._clear()
        try:
            self.session.send([*opening, *counted], last)
            hit("persistence.commit_sent")
            self.session.receive()
        except ServerError as error:
            self._failed = written.get(error.index - len(opening))
            raise
        return True

    def _launch(self) -> None:
        """What is sent later must not run outside of the transaction, should BEGIN fail: so its answer comes first,
        unless nothing will be sent before all of this is answered."""
        opening, commands, written = self._opening, self._commands, self._statements
        self._clear()
        if opening:
            self.session.run(opening)
        if commands:
            self._failed = None
            self.session.send(commands)
            self._flights.append(_Flight(written))

    def _land(self) -> None:
        flight = self._flights.popleft()
        try:
            cells = self.session.receive()
        except ServerError as error:
            self._flights.clear()
            self._failed = flight.written.get(error.index)
            raise
        for place, statement in flight.written.items():
            self._count(statement, int(cells[place] or b"0"))

    def _count(self, statement: Statement | BulkInsert, hit: int) -> None:
        if statement.rows is not None and hit != statement.rows:
            raise RowMissing(
                str(statement.target), statement.verb, named=statement.rows, hit=hit,
                after=self.span.after, upto=self.span.upto,
            )  # fmt: skip

    def _clear(self) -> None:
        self._opening, self._commands, self._statements, self._bytes = [], [], {}, 0

    @property
    def failed(self) -> Statement | BulkInsert | None:
        """The statement that the last `ServerError` is about."""
        return self._failed

    @property
    def what_failed(self) -> str:
        """The same, for people."""
        if self._changing:
            return f"the schema change {self._changing}"
        return f"{self._failed.verb} of {self._failed.target}" if self._failed else "replay"

    @property
    def changing(self) -> str:
        """How the schema change under way is named to `logship ddl skip`; empty: there is none."""
        return self._changing.rpartition(" (")[2].removesuffix(")") if self._changing else ""

    def _change_schema(self, change: SchemaChange) -> None:
        self.flush()
        which = f"--lsn {change.commit_lsn} --number {change.number}"
        self._changing = f"{describe(change.statement)} ({which})"
        try:
            carry_out(change, self.session, self.replica, self.roles, refresh_views=self.refresh_views)
        except ReplayError as error:
            error.hint = error.hint.replace("logship ddl skip", f"logship ddl skip {which}")
            raise
        self._changing = ""
        self.writers.clear()  # owners may have changed, and with them whose function writes

    def _write(self, statement: Statement) -> None:
        self._failed = statement
        writer = self._writer(statement)
        parameters: list[bytes | None] = [statement.sql.encode(), *statement.arrays]
        places = ", ".join(f"${n}" for n in range(1, len(parameters) + 1))
        types = [TEXT, *[TEXT_ARRAY] * len(statement.arrays)]
        if statement.scans:
            self._commands += _HASHING
        self._statements[len(self._commands)] = statement
        self._commands.append(Command(b"select %b(%b)" % (writer, places.encode()), parameters, types))
        self._commands.append(_RESET)
        self._bytes += sum(len(parameter or b"") for parameter in parameters)
        if self._bytes >= _FLIGHT_BYTES:
            # One flight is worked on, one is on its way, one is being made: bounded, and nobody waits.
            while len(self._flights) > 1:
                self._land()
            self._launch()

    def _insert_many(self, bulk: BulkInsert) -> None:
        """By COPY, if nothing of users' runs; what `logship.replay.copying` says of the order holds because nothing is
        sent between lock, question and COPY."""
        target = bulk.target
        if self.not_copied.get(target.oid) is not target:
            self.flush()
            self._failed = bulk
            try:
                if self._may_copy(bulk):
                    self._count(bulk, self._copy(bulk))
                    return
            except ServerError as error:
                if error.sqlstate != _FORBIDDEN:
                    raise
                self.not_copied[target.oid] = target
                raise CopyRefused(error.sqlstate, error.reason, relation=str(target)) from None
            self.not_copied[target.oid] = target
        for statement in inserts(target, bulk.values):
            self._write(statement)

    def _copy(self, bulk: BulkInsert) -> int:
        """How many rows were taken: in binary form as long as all have one, then as text."""
        pieces = deque(bulk.values.chunks(_PIECE_ROWS, _FLIGHT_BYTES))
        letters, rows = copying.kinds(bulk), 0
        if letters:
            tuples = copying.tuples(pieces, bulk.columns, letters)
            rows += self.session.copy_in(copying.copy_in(bulk, "binary"), tuples)
        if pieces:
            lines = copying.lines(pieces, bulk.columns)
            rows += self.session.copy_in(copying.copy_in(bulk, "text"), lines)
        return rows

    def _may_copy(self, bulk: BulkInsert) -> bool:
        asked = [copying.lock(bulk.target), copying.question(bulk.target, bulk.columns)]
        return self.session.run(asked)[1] is not None

    def _writer(self, statement: Statement) -> bytes:
        """Found by owner, and only in the schema where owners can't change their writers."""
        owner = statement.target.owner_oid
        if owner not in self.writers:
            found = self._ask(Command(_WRITERS, [b"%d" % owner], [TEXT]))
            if found is None:
                raise WriterMissing(statement.target.owner, owner, str(statement.target))
            self.writers[owner] = found.partition(b".")[2]
        return self.writers[owner]

    def _truncate(self, step: Truncation) -> None:
        targets = [secondary(target) for target in step.targets]
        oids = binary_text_array([b"%d" % target.oid for target in targets])
        facts = self._ask(truncation.facts_query(oids))
        if facts is None:
            raise InternalError("a query without a condition returned no row")
        self.write(truncation.statements(targets, step.restart_identity, facts))

    def _ask(self, query: Command) -> bytes | None:
        """Needs the answer now: send what is gathered along with it."""
        self.flush()
        return self.session.run([query])[0]


def _counted(call: bytes, statement: Statement) -> bytes:
    """The call of a writer, which fails unless it affects as many rows as it must: with a division by zero, that of
    a number which only the server knows."""
    if statement.rows is None:
        return call
    function = call.removeprefix(b"select ")
    otherwise = b"w.n operator(pg_catalog./) 0"
    return b"select case when w.n operator(pg_catalog.=) %d then w.n else %b end from %b as w (n)" % (
        statement.rows, otherwise, function,
    )  # fmt: skip
