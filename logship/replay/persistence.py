"""Persistence: batches become rows of the secondary, and commit together with the position.

In: batches of `logship.replay.batch`, one after another, whole or in pieces. Out: rows and position in
one transaction; `position` says how far. Every transaction of the log is applied exactly once,
whatever is killed when: the position is a row, read again whenever the link was lost, and moved
only from where this process knows it to be.

Used by one thread, but for `position`. What may succeed later is tried again for ever, and each try
is logged; everything else is a `ReplayError` and stops the replica. Failpoints:
persistence.copying (some rows of a COPY sent), persistence.after_rows (all but the last rows sent),
persistence.before_commit, persistence.commit_sent (in one round trip with the rows), persistence.after_commit.
"""

from __future__ import annotations

import enum
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from logship.change import Relation, TypeName
from logship.errors import (
    InternalError,
    RefusedAsUnsafe,
    ReplayError,
    SecondaryError,
    is_transient,
    waited_out,
)
from logship.failpoints import hit
from logship.lsn import INVALID, Lsn
from logship.replay import origins, standing
from logship.replay.advance import Totals, commit
from logship.replay.batch import Batch, groups, only_transaction
from logship.replay.failures import ConstraintViolated, ReplayStopped, StatementFailed, TransactionLost
from logship.replay.ladder import Rung, climb
from logship.replay.lane import Lane, close, open_lanes
from logship.replay.session import Command, ServerError, Session, open_session
from logship.replay.shape import SecondaryTarget
from logship.replay.targets import catalog_query, target_of
from logship.replay.transaction import CopyRefused, Span, Transaction

__all__ = ["Persistence", "ReplayStopped", "TransactionLost"]

log = logging.getLogger(__name__)

_VIOLATIONS: Final = ("23505", "23P01")  # unique, exclusion
_COUNT_DIFFERS: Final = "22012"  # from a statement of ours that counts, or from users' code
_MOVED: Final = ("LS001", "LS002")  # logship.advance: not where we thought
_COPIED_ANEW: Final = "LS004"  # logship.advance: rows are newer than this process knows
_TRIES_INSIDE: Final = 10  # of a piece, before the whole transaction is given up and read again
_LONGEST_PAUSE_S: Final = 5.0


class _Care(enum.Enum):
    """How a group of batches is carried out; after a failure that may have to do with that, the next way."""

    NONE = enum.auto()
    COUNTS = enum.auto()  # each count of rows is looked at here: what is missing gets a name
    SAVEPOINTS = enum.auto()  # each batch behind a savepoint, a rung higher at each violation


class _State(enum.Enum):
    CLOSED = enum.auto()
    IDLE = enum.auto()  # connected, no transaction
    PIECES = enum.auto()  # a transaction is open, and pieces of one of the log are in it


class Persistence:
    """``on_retry`` is told the SQLSTATE (None: link lost), the number of each further try, and where no
    connection could be made why not; ``on_mended`` is called when the link stands again.
    ``stop``, when set, ends waiting: for a predecessor, for a lock, for the server to come back."""

    def __init__(
        self,
        conninfo: str,
        replica: str,
        *,
        lock_timeout_s: float = 10.0,
        refresh_views: bool = True,
        on_retry: Callable[[str | None, int, str], None] | None = None,
        on_mended: Callable[[], None] = lambda: None,
        stop: threading.Event | None = None,
        sessions: int = 1,
    ) -> None:
        self._conninfo = conninfo
        self._replica = replica
        self._lock_timeout_s = lock_timeout_s
        self._refresh_views = refresh_views
        self._on_retry = on_retry
        self._on_mended = on_mended
        self._stop = stop or threading.Event()
        self._wanted = sessions
        self._lanes: list[Lane] = []
        self._first: Lane | None = (
            None  # whose transaction is the next to be committed, of those side by side
        )
        self._said_fewer = ""
        self._state = _State.CLOSED
        self._session: Session | None = None
        self._transaction: Transaction | None = None
        self._writers: dict[int, bytes] = {}
        self._not_copied: dict[int, SecondaryTarget] = {}
        self._roles: dict[str, str] = {}  # of the primary's that have another name here
        self._totals = Totals()
        self._position = INVALID
        self._copied: dict[tuple[str, str], Lsn] = {}
        self._to_skip: frozenset[Lsn] = frozenset()

    @property
    def to_skip(self) -> frozenset[Lsn]:
        """Transactions that an operator named to be passed over. As of `open`."""
        return self._to_skip

    @property
    def copied(self) -> Mapping[tuple[str, str], Lsn]:
        """Tables (schema, name) whose rows are newer than the position: what was committed before their
        LSN must not come here again. As of `open`."""
        return self._copied

    @property
    def position(self) -> Lsn:
        """The end of the last transaction that is known to be committed on the secondary."""
        return self._position

    @property
    def backend_pid(self) -> int | None:
        """The session that writes, as the secondary knows it; None while there is none."""
        first, session = self._first, self._session
        if first is not None:
            return first.session.backend_pid
        return session.backend_pid if session is not None else None

    @property
    def sessions(self) -> int:
        """How many there are to write with: fewer than wanted where the secondary has no origins for them."""
        return max(1, len(self._lanes)) if self._session is not None else 0

    def open(self) -> Lsn:
        """Connect, take the replication origin, and read the position; again, when it is open already:
        whatever transaction was open is rolled back. A server that was reached once is waited for.
        Raises `SecondaryError`, `RefusedAsUnsafe`,
        `ReplayStopped`."""
        self.abandon()
        if self._state is not _State.CLOSED:
            try:
                self._copied = standing.notice_copies(self._live, self._replica)
            except ServerError:
                self._disconnect()
        if self._position != INVALID:
            self._connect_again()
        elif self._state is _State.CLOSED:
            self._connect()
        return self._position

    def apply(self, batches: Sequence[Batch]) -> None:
        """Carry out and commit. A batch that isn't complete leaves the transaction open for the next.

        Raises `ReplayError` (nothing of these batches is committed), `RefusedAsUnsafe`, `ReplayStopped`;
        `TransactionLost` when earlier pieces went with the link: read the log again from `position`.
        """
        group: Sequence[Batch] = batches
        try:
            for group in groups(batches):
                if self._state is _State.PIECES:
                    self._continue(group)
                else:
                    self._apply(group)
        except ReplayError as error:
            error.commit_lsn, error.upto = only_transaction(group), group[-1].end_lsn
            # It may fail only because the rows are newer than what was to be done to them.
            if self.copied_anew():
                raise TransactionLost(self._position, "tables were copied anew") from None
            raise

    def look_up(self, relation: Relation, types: Mapping[int, TypeName]) -> SecondaryTarget:
        """``relation`` as the open transaction sees it, schema changes of its own included. Raises
        `RelationMissing`, `ShapeDiffers`; `TransactionLost` when the transaction went with the link."""
        try:
            row = self._live.run([catalog_query(relation)])[0]
        except ServerError:
            self.abandon()
            raise TransactionLost(self._position) from None
        return target_of(relation, types, row)

    def advance(self, lsn: Lsn, commit_time_us: int = 0) -> None:
        """Only the position moves: up to ``lsn`` there is nothing to replay. Not between pieces."""
        if self._state is _State.PIECES:
            raise InternalError("the position can't move inside a transaction that is replayed in pieces")
        self._apply([Batch(lsn, commit_time_us, True, (), 0, 0, 0, 0, (), {}, frozenset())])

    def abandon(self) -> None:
        """Roll back the transaction that is open, if one is: its pieces will come again, or never."""
        if self._state is _State.CLOSED:
            return
        was_open, self._transaction = self._transaction is not None, None
        self._state, self._totals = _State.IDLE, Totals()
        if not was_open:
            return
        try:
            self._live.discard()
            self._live.run([Command(b"rollback"), Command(b"reset all")])
        except ServerError:
            self._disconnect()

    # -- side by side: `logship.replay.abreast` asks ------------------------------------------------------

    @property
    def lanes(self) -> Sequence[Lane]:
        return self._lanes

    def begin_beside(self, lane: Lane, batches: Sequence[Batch]) -> Transaction:
        if self._state is not _State.IDLE:
            raise InternalError("nothing is written beside a transaction in pieces")
        return Transaction(
            lane.session, lane.writers, self._span(batches), self._replica, self._roles, self._refresh_views,
            lane.not_copied,
        )  # fmt: skip

    def commit_beside(self, lane: Lane, totals: Totals, batches: Sequence[Batch]) -> None:
        """Their rows are written, and counted; everything before them is committed. `ServerError`: it is refused, or
        nobody knows."""
        reached = batches[-1].end_lsn
        hit("persistence.after_rows")
        lane.session.send([totals.advance(self._replica, self._position, reached), *commit()])
        hit("persistence.commit_sent")
        lane.session.receive()
        hit("persistence.after_commit")
        self._position = reached

    def stands_first(self, lane: Lane | None) -> None:
        self._first = lane

    def give_up_sessions(self) -> None:
        """No lane may be at work."""
        self._disconnect()

    def close(self) -> None:
        """What isn't committed is rolled back. `open` begins again."""
        self._disconnect()

    # -- one group of batches: one transaction of the secondary's, or the beginning of one --------------

    def _apply(self, group: Sequence[Batch]) -> None:
        """From no open transaction: whatever may succeed later is tried again from the start."""
        care = _Care.NONE
        tries = 0
        while True:
            try:
                if self._state is _State.CLOSED and self._found_committed(group):
                    return
                self._carry_out(group, care)
            except ServerError as error:
                failure = self._explain(error, group)
                self.abandon()
                if isinstance(error, CopyRefused):
                    continue
                if error.sqlstate in _VIOLATIONS and care is not _Care.SAVEPOINTS:
                    care = _Care.SAVEPOINTS
                elif error.sqlstate == _COUNT_DIFFERS and care is _Care.NONE:
                    care = _Care.COUNTS
                elif is_transient(error.sqlstate):
                    tries += 1
                    self._pause(error, tries)
                else:
                    raise failure from None
            except BaseException:
                self.abandon()
                raise
            else:
                return

    def _carry_out(self, group: Sequence[Batch], care: _Care) -> None:
        transaction = self._transaction = Transaction(
            self._live, self._writers, self._span(group), self._replica, self._roles, self._refresh_views,
            self._not_copied,
        )  # fmt: skip
        for batch in group:
            if care is _Care.SAVEPOINTS:
                self._climb(transaction, batch)
            else:
                transaction.write(climb(batch, Rung.NET))
            transaction.set_sequences(batch.sequences)
            transaction.note_passed_over(batch.passed_over)
            self._totals.add(batch)
        if group[-1].complete:
            counted = bool(group[-1].steps or len(group) > 1)
            self._commit(transaction, group[-1].end_lsn, counted=counted, at_once=care is _Care.NONE)
        else:
            transaction.flush()
            self._state = _State.PIECES

    def _continue(self, group: Sequence[Batch]) -> None:
        """Behind pieces that can't be sent again: back to before this batch, as long as the link holds."""
        transaction = self._transaction
        if transaction is None:
            raise InternalError("pieces without a transaction")
        transaction.span = self._span(group)
        try:
            for batch in group:
                self._climb(transaction, batch)
                transaction.set_sequences(batch.sequences)
                self._totals.add(batch)
            if group[-1].complete:
                self._commit(transaction, group[-1].end_lsn, counted=True, at_once=False)
        except ServerError as error:
            failure = self._explain(error, group)
            self.abandon()
            if not is_transient(error.sqlstate):
                raise failure from None
            self._pause(error, 1)
            if self._state is _State.CLOSED and self._found_committed(group):
                return
            raise TransactionLost(self._position) from None
        except BaseException:
            self.abandon()
            raise

    def _climb(self, transaction: Transaction, batch: Batch) -> None:
        """The batch behind a savepoint, a rung higher at each violation."""
        rung, tries = Rung.NET, 0
        while True:
            try:
                transaction.utility(b"savepoint batch")
                transaction.write(climb(batch, rung))
                transaction.utility(b"release savepoint batch")
                transaction.flush()
            except ServerError as error:
                tries += 1
                again = is_transient(error.sqlstate) and tries < _TRIES_INSIDE
                if error.sqlstate in _VIOLATIONS and rung < Rung.LOG:
                    rung = Rung(rung + 1)
                    log.info(
                        "batch up to %s violates %s: now as %s", batch.end_lsn, error.constraint, rung.name
                    )
                elif isinstance(error, CopyRefused):
                    pass  # once more, without
                elif not (again and self._state is _State.PIECES and self._live.usable):
                    raise
                else:
                    self._pause(error, tries)
                self._live.discard()
                self._live.run([Command(b"rollback to savepoint batch"), Command(b"reset all")])
            else:
                return

    def _commit(self, transaction: Transaction, reached: Lsn, *, counted: bool, at_once: bool) -> None:
        """Rows are checked before COMMIT is sent, or, ``at_once``, by the server before it gets there. `advance`
        goes along with the last of them."""
        hit("persistence.after_rows")
        moved = self._totals.advance(self._replica, self._position, reached, counted=counted)
        transaction.utility(moved.sql, moved.parameters, moved.types)
        if not (at_once and transaction.flush_and(commit)):
            transaction.flush()
            self._live.run(commit())
        hit("persistence.after_commit")
        self._committed(reached)

    def _committed(self, reached: Lsn) -> None:
        self._position = reached
        self._transaction = None
        self._totals = Totals()
        self._state = _State.IDLE

    def _span(self, group: Sequence[Batch]) -> Span:
        return Span(self._position, group[-1].end_lsn)

    # -- when something fails ---------------------------------------------------------------------------

    def _explain(self, error: ServerError, group: Sequence[Batch]) -> Exception:
        """What ``error`` is, should it not be tried again."""
        after, upto = self._position, group[-1].end_lsn
        statement = self._transaction.failed if self._transaction else None
        if error.sqlstate == _COPIED_ANEW:
            return TransactionLost(after, "tables were copied anew")
        if error.sqlstate in _MOVED:
            return RefusedAsUnsafe(
                f'the position of replica "{self._replica}" is not {after} any more: somebody moved it',
                hint="only one replayer of a replica may run: end the other one, then start this one again",
            )
        table = str(statement.target) if statement else ""
        if error.sqlstate in _VIOLATIONS:
            relation = error.relation or table
            return ConstraintViolated(relation, error.constraint, error.sqlstate, after=after, upto=upto)
        what = self._transaction.what_failed if self._transaction else "replay"
        skip = self._transaction.changing if self._transaction else ""
        return StatementFailed(what, error.reason, error.sqlstate, after=after, upto=upto, skip=skip)

    def _pause(self, error: ServerError, tries: int, why_not: str = "") -> None:
        """Say it, count it, and wait: from 20 ms up to 5 s."""
        log.warning(
            "replay of replica %s is tried again (try %d): %s (SQLSTATE %s)",
            self._replica, tries, error.reason, error.sqlstate,
        )  # fmt: skip
        if self._on_retry is not None:
            self._on_retry(error.sqlstate, tries, why_not)
        self._wait(min(0.02 * 2 ** min(tries - 1, 10), _LONGEST_PAUSE_S))

    def _wait(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise ReplayStopped

    def _found_committed(self, group: Sequence[Batch]) -> bool:
        """Connect again. A link that broke at COMMIT doesn't say whether it happened; the position does."""
        before, reached = self._position, group[-1].end_lsn
        copied = self._copied
        self._connect_again()
        if not self._copied.items() <= copied.items():
            raise TransactionLost(self._position, "tables were copied anew")
        if self._position == before:
            return False
        if self._position == reached and group[-1].complete:
            log.info("the transaction up to %s was committed before the link broke", reached)
            return True
        raise RefusedAsUnsafe(
            f'the position of replica "{self._replica}" is {self._position}, neither {before} nor {reached}',
            hint="another process has moved it: end that one, then start this one again",
        )

    def _connect_again(self) -> None:
        tries = 0
        while self._state is _State.CLOSED:
            try:
                self._connect()
            except SecondaryError as error:
                tries += 1
                why_not = waited_out(error)
                self._pause(ServerError(error.sqlstate, why_not), tries, why_not)

    # -- the session ------------------------------------------------------------------------------------

    @property
    def _live(self) -> Session:
        if self._session is None:
            raise InternalError("persistence is not open")
        return self._session

    def _connect(self) -> None:
        name = f"logship replay {self._replica}"
        session = open_session(self._conninfo, name, self._lock_timeout_s, self._stop)
        lanes: list[Lane] = []
        try:
            origin = standing.origin(session, self._replica)
            # First the origins, then the position: a backend of a predecessor that was killed may be
            # committing still, and holds its origin until it has ended. Then the row can't move any more.
            lanes, fewer = open_lanes(
                session, self._replica, origin.decode(), wanted=self._wanted, wait=self._wait,
                open_one=lambda: open_session(self._conninfo, name, self._lock_timeout_s, self._stop),
            )  # fmt: skip
            origins.take(session, origin, self._wait)
            copied = standing.notice_copies(session, self._replica)
            position = standing.position(session, self._replica)
            roles = standing.roles(session, self._replica)
            to_skip = standing.to_skip(session, self._replica)
        except ServerError as error:
            close(session, lanes)
            raise standing.refused(error) from None
        except BaseException:
            close(session, lanes)
            raise
        self._session, self._lanes = session, lanes
        self._say_fewer(fewer)
        self._copied = copied
        self._to_skip = to_skip
        self._writers = {}
        self._not_copied = {}
        self._roles = roles
        self._position = position
        self._state = _State.IDLE
        self._on_mended()

    def copied_anew(self) -> bool:
        """Whether tables have become newer than this process knows: then `open` says which."""
        if self._state is not _State.IDLE:
            return False
        try:
            return standing.has_unnoticed_copies(self._live, self._replica)
        except ServerError:
            self._disconnect()
            return False

    def _say_fewer(self, why: str) -> None:
        if why and why != self._said_fewer:
            log.warning(
                "replica %s is written with %d session(s) instead of %d: %s",
                self._replica, max(1, len(self._lanes)), self._wanted, why,
            )  # fmt: skip
        self._said_fewer = why

    def _disconnect(self) -> None:
        self._transaction = None
        self._totals = Totals()
        self._state = _State.CLOSED
        session, self._session = self._session, None
        lanes, self._lanes, self._first = self._lanes, [], None
        if session is not None:
            close(session, lanes)
