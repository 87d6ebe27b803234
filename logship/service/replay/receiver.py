"""The receiver: reads what a shipper relays to one replica, and journals it.

In: a relay's stream. Out: records in the replayer's own journal, and status updates to the shipper, which name
nothing that is not so: write is what was handed to the journal's file, flush what is fsynced there, replay
what is applied. One thread; the journal's fsync thread and the replayer tell the shipper in its place when a position
moved while it waits for the stream, so that a commit on the primary that waits is answered at once.

While the journal holds as much as it may of what the secondary lacks, nothing more is received: a slow secondary
grows the shipper's journal then, and nothing that was acknowledged is dropped. Positions are still told.

A shipper that doesn't listen yet, or no more, is waited for, as is one that serves a predecessor of ours. One
that ships another server's log is refused, and one that no longer has what comes next ends the program.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from logship.capture.feedback import is_asked, is_due, wait_s
from logship.capture.relay_stream import RelayStream
from logship.capture.stream import System
from logship.catalog.state import Replica
from logship.config import JournalBounds
from logship.errors import PrimaryError, ProtocolViolation, RefusedAsUnsafe, ReplicaUnknown
from logship.journal.log import Journal
from logship.lsn import INVALID
from logship.relay.frames import RelayedRecord, decode_record
from logship.service.journaling import Journaling
from logship.service.positions import Positions, Stage
from logship.service.replay.intake import Intake
from logship.service.ship.acknowledge import Acknowledge

log = logging.getLogger(__name__)

_FIRST_WAIT_S: Final = 0.1
_LONGEST_WAIT_S: Final = 5.0
_FEW_BYTES: Final = 64 * 1024  # read at once: what a group of commits that wait is made of
_FULL_LOOK_S: Final = 0.2  # between two looks at a journal that has reached its limit
_UNKNOWN_S: Final = 30.0  # the shipper sees a new replica about a second after init has made it


class Receiver:
    """``check_epoch`` raises when a shipper's epoch isn't one to follow. ``trouble`` is told of each error that
    is being waited out, and None when it is over."""

    def __init__(
        self,
        *,
        shipper: str,
        replica: Replica,
        journal: Journal,
        positions: Positions,
        acknowledge: Acknowledge,
        check_epoch: Callable[[int], None],
        feedback_s: float,
        receiver_timeout_s: float,
        trouble: Callable[[Exception | None], None],
        bounds: JournalBounds,
    ) -> None:
        self._shipper = shipper
        self._replica = replica
        self._journal = journal
        self._journaling = Journaling(journal, positions, acknowledge, self.moved)
        self._check_epoch = check_epoch
        self._feedback_s = feedback_s
        self._receiver_timeout_s = receiver_timeout_s
        self._trouble = trouble
        self._positions = positions
        self._bounds = bounds
        self._unseen_bytes = 0  # that were received since the journal was last looked at
        self._full = False
        self._stopping = threading.Event()
        self._stream: RelayStream[RelayedRecord] | None = None
        self._intake = Intake(journal.written_lsn)
        self._unknown_since_s: float | None = None
        self.received_bytes = 0  # of the stream, since the start

    def run(self) -> None:
        """Receive until `stop`. Raises what can't be mended by waiting."""
        wait = _FIRST_WAIT_S
        said = ""
        while not self._stopping.is_set():
            began_s, began_at = time.monotonic(), self._intake.position
            try:
                self._session()
            except PrimaryError as error:
                if not self._may_pass(error, began_s):
                    raise
                self._trouble(error)
                # A shipper that is away is said once, not at every try.
                log.log(logging.DEBUG if str(error) == said else logging.WARNING, "%s; trying again", error)
                said = str(error)
            if self._intake.position > began_at or time.monotonic() - began_s > _LONGEST_WAIT_S:
                wait, said = _FIRST_WAIT_S, ""
            self._stopping.wait(wait)
            wait = min(wait * 2, _LONGEST_WAIT_S)

    def _may_pass(self, error: PrimaryError, now_s: float) -> bool:
        """Whether waiting can help. A shipper that serves others and doesn't know us soon is another's."""
        if not isinstance(error, ReplicaUnknown):
            self._unknown_since_s = None
        elif self._unknown_since_s is None:
            self._unknown_since_s = now_s
        elif now_s - self._unknown_since_s > _UNKNOWN_S:
            return False
        return bool(getattr(error, "transient", False))

    def stop(self) -> None:
        self._stopping.set()
        self.wake()

    def wake(self) -> None:
        """End the wait for the stream: from any thread."""
        stream = self._stream
        if stream is not None:
            stream.wake()

    def moved(self) -> None:
        """A position moved: from any thread."""
        stream = self._stream
        if stream is not None and not stream.offer_status(self._journaling.reached):
            stream.wake()

    def _session(self) -> None:
        """One connection: from its start to its end, or to `stop`."""
        name = self._replica.name
        with RelayStream(
            self._shipper, name, decode_record, receiver_timeout_s=self._receiver_timeout_s
        ) as stream:
            require_same_source(stream.identify(), self._replica)
            self._check_epoch(_number(stream.show("logship.epoch")[0]))
            self._journal.abandon()  # what came of a transaction comes again, whole
            self._journal.write()
            self._intake.begin()
            ends_at = self._journal.written_lsn
            stream.start(self._replica.publication, ends_at)
            self._stream = stream
            self._trouble(None)
            log.info('streaming replica "%s" from the shipper, from %s', name, ends_at)
            try:
                self._pump(stream)
            finally:
                self._stream = None
            stream.stop()

    def _pump(self, stream: RelayStream[RelayedRecord]) -> None:
        while not self._stopping.is_set():
            if self._is_full():
                self._stopping.wait(_FULL_LOOK_S)
                self._tell(stream)
                continue
            received = stream.read(wait_s(stream.sent, time.monotonic(), interval_s=self._feedback_s))
            self.received_bytes += received.bytes
            self._unseen_bytes += received.bytes
            records = self._intake.take(r for r in received.items if isinstance(r, RelayedRecord))
            if records:
                # A commit may wait for what is little at once, and nothing else does.
                self._journaling.put(records, at_once=received.bytes < _FEW_BYTES)
            self._tell(stream, asked=is_asked(received.keepalives))

    def _tell(self, stream: RelayStream[RelayedRecord], *, asked: bool = False) -> None:
        """The shipper, how far we are, if it is time."""
        with stream.using:
            reached = self._journaling.reached()
            if is_due(
                reached, stream.sent, time.monotonic(), interval_s=self._feedback_s, reply_requested=asked
            ):
                stream.send_status(reached)

    def _is_full(self) -> bool:
        """Whether the journal holds all that it may of what persistence lacks. Never inside a transaction: the rest of
        it is what persistence waits for."""
        if self._intake.in_transaction:
            return False
        if not self._full and self._unseen_bytes < self._bounds.segment_bytes // 2:
            return False  # a look costs something
        self._unseen_bytes = 0
        stored = self._positions.lsn(Stage.PERSISTENCE) or INVALID
        kept = sum(one.bytes for one in self._journal.segments() if one.sealed and one.last_lsn > stored)
        full = kept > self._bounds.limit_bytes
        if full and not self._full:
            log.warning(
                "the journal holds %d bytes that the secondary lacks, and may hold %d (--journal-limit): "
                "the rest waits at the shipper", kept, self._bounds.limit_bytes,
            )  # fmt: skip
        self._full = full
        return full


def require_same_source(system: System, replica: Replica) -> None:
    """`RefusedAsUnsafe` when the shipper ships the log of another server, timeline or database."""
    for what, found, made_from in (
        ("system identifier", system.system_identifier, replica.system_identifier),
        ("timeline", system.timeline, replica.timeline),
        ("database", system.database, replica.database),
    ):
        if found != made_from:
            raise RefusedAsUnsafe(
                f"the shipper ships the log of another server: its {what} is {found}, and the replica was "
                f"made from {made_from}",
                hint="check --shipper; a replica of another server begins with `logship init --name`",
            )


def _number(text: str | None) -> int:
    if text is None or not text.isdecimal():
        raise ProtocolViolation("an epoch that isn't a number")
    return int(text)
