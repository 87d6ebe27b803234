"""The shipper: reads the primary's log from a slot and journals it.

In: a walsender's stream. Out: records in the journal, and status updates to the primary, which name
nothing that the journal doesn't hold: which positions those are, `logship.service.ship.acknowledge` says, and how
soon, `logship.service.ship.pace`. One thread; the journal's fsync thread and the replicas tell it when a position
moved, and the primary, in its place, where it is waiting for the stream, so that a commit that waits is answered
at once, and without another thread's turn.

A link that breaks is mended with backoff. A slot that is missing or lost, another server behind the
conninfo, or a journal that lacks what was acknowledged stops the program: nothing is made anew quietly.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence

import psycopg

from logship.capture.copydata import Stretch as Arrived
from logship.capture.feedback import Sent, is_asked, is_due
from logship.capture.records import Assembler, Piece
from logship.capture.slot import SlotStream, System
from logship.capture.slot_state import SlotState, gap, judge, read_slot
from logship.capture.stream import Received
from logship.connection import Side, connect
from logship.errors import JournalBehind, PrimaryError, RefusedAsUnsafe, SlotActive, SlotMissing, waited_out
from logship.journal.log import Journal
from logship.journal.segment import Source
from logship.lsn import Lsn
from logship.service.journaling import Journaling
from logship.service.positions import Positions
from logship.service.ship.acknowledge import Acknowledge, OwnReplica
from logship.service.ship.epoch import Epoch, session
from logship.service.ship.pace import Pace
from logship.service.ship.pieces import journaled

log = logging.getLogger(__name__)

_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 10.0
_FEW_BYTES = 64 * 1024  # read at once: what a group of commits that wait is made of


def survey(primary: str, slot: str, system_identifier: int | None = None) -> System:
    """Which server this is: the one that is given, else `RefusedAsUnsafe`. Whether or not somebody reads the slot now.

    Raises what makes the slot useless: `SlotMissing`, `SlotLost`, `PrimaryError`.
    """
    with SlotStream(primary, application_name="logship survey") as stream:
        system = stream.identify()
    if system_identifier is not None:
        require_same_server(system, system_identifier)
    with connect(primary, Side.PRIMARY, application_name="logship survey") as connection:
        state = read_slot(connection, slot)
    if state is None:
        raise SlotMissing(slot)
    judge(dataclasses.replace(state, active_pid=None), system.database)
    return system


class Shipper:
    """``acknowledge`` says what the primary may be told; without one, the one replica is this process.
    ``trouble`` is told of each error that is being waited out, and None when it is over."""

    def __init__(
        self,
        *,
        primary: str,
        slot: str,
        publications: Sequence[str],
        system_identifier: int,
        journal: Journal,
        positions: Positions,
        application_name: str,
        feedback_s: float,
        receiver_timeout_s: float,
        trouble: Callable[[Exception | None], None],
        acknowledge: Acknowledge | None = None,
        epoch: Epoch | None = None,
    ) -> None:
        """``epoch``: one that is claimed (`logship.service.ship.takeover`); None: the first session takes it."""
        self._primary = primary
        self._slot = slot
        self._publications = tuple(publications)
        self._system_identifier = system_identifier
        self._journal = journal
        self._acknowledge = acknowledge or OwnReplica(positions)
        self._journaling = Journaling(journal, positions, self._acknowledge, self.moved)
        self._application_name = application_name
        self._feedback_s = feedback_s
        self._receiver_timeout_s = receiver_timeout_s
        self._trouble = trouble
        self._stopping = threading.Event()
        self._stream: SlotStream | None = None
        self.pace = Pace(feedback_s, self.wake)
        self._streamed = False  # the link has stood at least once
        self._assembler = Assembler(journal.written_lsn)
        self.received_bytes = 0  # of the stream, since the start
        self.epoch = epoch or Epoch(slot, application_name)

    def run(self) -> None:
        """Ship until `stop`. Raises what can't be mended by waiting."""
        wait = _FIRST_WAIT_S
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._session()
            except PrimaryError as error:
                if not self._may_pass(error):
                    raise
                self._trouble(error)
                log.warning("%s; trying again in %.1f s", waited_out(error), wait)
            if time.monotonic() - began > _LONGEST_WAIT_S:
                wait = _FIRST_WAIT_S
            self._stopping.wait(wait)
            wait = min(wait * 2, _LONGEST_WAIT_S)

    def stop(self) -> None:
        self._stopping.set()
        self.wake()

    def wake(self) -> None:
        """End the wait for the stream: from any thread."""
        stream = self._stream
        if stream is not None:
            stream.wake()

    def moved(self) -> None:
        """A position moved that may be told: from any thread."""
        stream = self._stream
        if self.pace.awaited and stream is not None and not stream.offer_status(self._journaling.reached):
            stream.wake()

    @property
    def transactions(self) -> int:
        """Received whole, since the start."""
        return self._assembler.counters.transactions

    def _may_pass(self, error: PrimaryError) -> bool:
        """Whether waiting can help. A server that was never reached is the operator's to look at."""
        if getattr(error, "transient", False):
            return self._streamed or isinstance(error, SlotActive)
        refused = isinstance(error.__cause__, psycopg.OperationalError)
        return refused and self._streamed

    def _session(self) -> None:
        """One connection: from its start to its end, or to `stop`."""
        with SlotStream(
            self._primary,
            application_name=self._application_name,
            receiver_timeout_s=self._receiver_timeout_s,
        ) as stream:
            system = stream.identify()
            require_same_server(system, self._system_identifier)
            stream.require_primary()
            self._journal.require_source(Source(system.system_identifier, system.timeline, system.database))
            require_log_reaches(system, self._journal.written_lsn, "the journal")
            abandoned = self._assembler.restart()
            if abandoned is not None:
                self._append([abandoned])
            ends_at = self._journal.written_lsn
            self._claim(ends_at)
            state = stream.start(self._slot, self._publications, ends_at)
            self._follows(state, ends_at)
            self._acknowledge.began(state.confirmed_flush_lsn)
            self.pace.backend_pid = stream.backend_pid
            self._stream, self._streamed = stream, True
            self._trouble(None)
            log.info('streaming slot "%s" from %s', self._slot, ends_at)
            try:
                self._pump(stream)
            finally:
                self._stream = None
            stream.stop()

    def _claim(self, ends_at: Lsn) -> None:
        """Be the slot's one shipper, or end with `Fenced`. A journal that can't follow the slot fences nobody."""
        with session(self._primary) as connection:
            state = read_slot(connection, self._slot) if self.epoch.number is None else None
            if state is not None:
                require_no_gap(state, ends_at)
            # One that was succeeded lacks what its successor acknowledged: it is told that it was.
            self.epoch.claim(connection)
            self.epoch.end_predecessor(connection)

    def _follows(self, state: SlotState, ends_at: Lsn) -> None:
        """See that the slot, which nobody else can read now, hasn't moved on since the epoch was looked at."""
        try:
            require_no_gap(state, ends_at)
        except JournalBehind:
            with session(self._primary) as connection:
                self.epoch.claim(connection)  # `Fenced`: it was a successor's doing
            raise

    def _pump(self, stream: SlotStream) -> None:
        while not self._stopping.is_set():
            stream.gather_s = self.pace.gather_s
            received = stream.read(self._wait_s(stream.sent))
            self.received_bytes += received.bytes
            pieces = self._assembler.feed(received.items)
            if pieces:
                self._append(pieces, few=received.bytes < _FEW_BYTES)
            elif self._more_comes(received, stream.sent):
                continue
            self._answer(stream, asked=is_asked(received.keepalives))
            if received.items:
                self.pace.rest(received.bytes)

    def _more_comes(self, received: Received[Arrived], sent: Sent) -> bool:
        """Whether the rest of a transaction follows at once: a walsender sends its messages one by one, and is to get
        on with that rather than we with the first."""
        if received.woken or received.keepalives or not received.items or self._wait_s(sent) <= 0:
            return False
        if not (self.pace.awaited and self._assembler.in_transaction):
            return False
        os.sched_yield()
        return True

    def _answer(self, stream: SlotStream, *, asked: bool) -> None:
        """Tell the primary how far we are, if it is time."""
        with stream.using:
            now_s, reached, sent = time.monotonic(), self._journaling.reached(), stream.sent
            wanted = asked or (reached != sent.positions and self.pace.may_tell(sent, now_s))
            if wanted or is_due(sent.positions, sent, now_s, interval_s=self._feedback_s):
                # On the timer we ask back: the answer says how far an idle primary has read its log.
                stream.send_status(reached, reply_requested=not wanted)

    def _wait_s(self, sent: Sent) -> float:
        now_s = time.monotonic()
        pending = sent.positions.flush < self._journal.written_lsn
        wait, due = self.pace.wait_s(sent, now_s, pending=pending), self._acknowledge.due_s(now_s)
        return wait if due is None else min(wait, max(0.0, due))

    def _append(self, pieces: list[Piece], *, few: bool = False) -> None:
        """What comes of them is durable here where there are ``few`` and a commit may wait; else it is soon."""
        self._journal.space_fsyncs(self.pace.fsync_spacing_s)
        self._journaling.put([journaled(piece) for piece in pieces], at_once=few and self.pace.awaited)


def require_no_gap(state: SlotState, ends_at: Lsn) -> None:
    """`JournalBehind` when the primary was told that more is safe than a journal that ends there holds."""
    missing = gap(state, ends_at)
    if missing is not None:
        raise JournalBehind(missing.journal_end, state.name, missing.confirmed_flush_lsn)


def require_same_server(system: System, system_identifier: int) -> None:
    """`RefusedAsUnsafe` when the conninfo leads to another server than the replica was made from."""
    if system.system_identifier != system_identifier:
        raise RefusedAsUnsafe(
            f"the primary is another server: its system identifier is {system.system_identifier}, "
            f"and the replica was made from {system_identifier}",
            hint="check --primary; a replica of another server begins with `logship init --name`",
        )


def require_log_reaches(system: System, position: Lsn, who: str) -> None:
    """`RefusedAsUnsafe` when the primary's log ends before what ``who`` already has of it. It sends nothing but what
    is flushed, so it has lost that; what it commits in its place would be taken for known and never be sent."""
    if system.xlogpos < position:
        raise RefusedAsUnsafe(
            f"the primary has lost the end of its log: it ends at {system.xlogpos}, and {who} has it up to {position}",
            hint="was an old copy of its data directory restored? The replica holds what the primary doesn't know any "
            "more: give an empty journal directory and an empty database, and run `logship init` again",
        )
