"""The replicas of a relay: who is connected, how far each is, what may be acknowledged for them.

In: what the relay's sessions tell, the journal's positions. Out: what the shipper reports to the primary (it is
an `Acknowledge`), what retention keeps, and one row per replica for the reports. The cores are
`logship.relay.syncrep`, `logship.relay.lag` and the registry; this holds the lock, the clock and the names
together. Safe to use from any thread; nothing here waits for a disk, but for `RegisteredReplicas`.
"""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from logship.capture.copydata import Positions as Reported
from logship.lsn import INVALID, Lsn
from logship.relay.lag import Lag, Lags
from logship.relay.ports import ClientInfo
from logship.relay.synchrony import Positions3, ReplicaState, State, SyncState
from logship.relay.syncrep import SyncRep
from logship.service.ship.registered import RegisteredReplicas


@dataclass(frozen=True, slots=True)
class ReplicaRow:
    """What `logship.stat_replication` says of a replica. One that is away has neither ``client`` nor ``since``; one
    that is this process has no client. LSNs are INVALID where nothing is known; ``lags_s`` are those of write,
    flush and replay."""

    name: str
    client: ClientInfo | None
    since: dt.datetime | None
    state: str
    sent_lsn: Lsn
    positions: Positions3
    lags_s: tuple[Lag, Lag, Lag]
    sync_priority: int
    sync_state: SyncState
    reply_time: dt.datetime | None
    pid: int | None = None  # where there is no client


@dataclass(slots=True)
class _Session:
    client: ClientInfo
    since: dt.datetime
    sent_lsn: Lsn = INVALID


class Replicas:
    """``moved`` is called, without the lock, when a report may have moved what is acknowledged: the shipper's
    `wake`."""

    def __init__(self, core: SyncRep, registered: RegisteredReplicas, moved: Callable[[], None]) -> None:
        self._core = core
        self._registered = registered
        self._moved = moved
        self._lock = threading.Lock()
        self._lags = Lags()
        self._sessions: dict[str, _Session] = {}
        self._replied: dict[str, dt.datetime] = {}

    # -- Acknowledge ---------------------------------------------------------------------------------

    def began(self, confirmed_flush_lsn: Lsn) -> None:
        with self._lock:
            self._core.began(confirmed_flush_lsn)

    def reached(self, written: Lsn, flushed: Lsn, now_s: float) -> Reported:
        with self._lock:
            self._lags.noted(flushed, now_s)
            reached = self._core.reach(written, flushed, now_s)
        return Reported(reached.write, reached.flush, reached.replay)

    def due_s(self, now_s: float) -> float | None:
        with self._lock:
            return self._core.next_due_s(now_s)

    # -- told by the relay's sessions ----------------------------------------------------------------

    def connected(self, name: str, client: ClientInfo) -> bool:
        """A client serves ``name`` from here on; False: another one does already."""
        with self._lock:
            if name in self._sessions:
                return False
            self._sessions[name] = _Session(client, dt.datetime.now(dt.UTC))
            self._core.connected(name, time.monotonic())
        return True

    def sent(self, name: str, lsn: Lsn) -> None:
        """Everything that ends at ``lsn`` or before is on its way to the replica."""
        session = self._sessions.get(name)
        if session is not None and lsn != INVALID:
            session.sent_lsn = lsn

    def reported(self, name: str, write: Lsn, flush: Lsn, replay: Lsn) -> None:
        """A Standby Status Update has come from the client of ``name``."""
        now_s, positions = time.monotonic(), Positions3(write, flush, replay)
        with self._lock:
            if name not in self._sessions:
                return  # it ended, or its registration did, while this was on its way
            self._core.reported(name, positions, now_s)
            self._lags.reported(name, positions, now_s)
            self._replied[name] = dt.datetime.now(dt.UTC)
        self._registered.flushed(name, flush)
        self._moved()

    def gone(self, name: str) -> None:
        """The session ended."""
        with self._lock:
            if self._sessions.pop(name, None) is not None:
                self._core.gone(name, time.monotonic())
        self._moved()

    def forgotten(self, name: str) -> None:
        """The registration was dropped; its session has ended before."""
        with self._lock:
            self._core.forgotten(name)
            self._lags.forgotten(name)
            self._replied.pop(name, None)
        self._moved()

    def are_awaited(self, name: str) -> bool:
        """Whether commits may wait for the replica: the policy names it."""
        policy = self._core.policy
        return policy is not None and policy.priority(name) > 0

    def client(self, name: str) -> ClientInfo | None:
        """Who serves ``name`` now."""
        session = self._sessions.get(name)
        return session.client if session is not None else None

    # -- for the reports -----------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """Of the policy: IN_SYNC also where there is none."""
        with self._lock:
            return self._core.state

    def rows(self) -> list[ReplicaRow]:
        """The registered ones by name, and whoever else has a session."""
        registered = {replica.name: replica for replica in self._registered.all()}
        now_s = time.monotonic()
        with self._lock:
            rows = []
            for name in sorted({*registered, *self._sessions}):
                known = registered.get(name)
                lost = known is not None and known.lost_lsn is not None
                flush = known.flush_lsn if known is not None else INVALID
                rows.append(self._row(name, now_s, lost=lost, flush_lsn=flush))
            return rows

    def _row(self, name: str, now_s: float, *, lost: bool, flush_lsn: Lsn) -> ReplicaRow:
        """``flush_lsn``: what the registry knows, which outlives this process."""
        status, session = self._core.status(name), self._sessions.get(name)
        said = status.positions
        return ReplicaRow(
            name=name,
            client=session.client if session else None,
            since=session.since if session else None,
            state="lost" if lost and status.state is not ReplicaState.STREAMING else status.state.value,
            sent_lsn=session.sent_lsn if session else INVALID,
            positions=Positions3(said.write, max(said.flush, flush_lsn), said.replay),
            lags_s=self._lags.lags(name, now_s),
            sync_priority=status.sync_priority,
            sync_state=status.sync_state,
            reply_time=self._replied.get(name),
        )
