"""What the shipper may tell the primary when commits wait for replicas: policy, positions, degrading.

In: replicas coming, going and reporting; how far this shipper's own journal is; the time. Out: the positions
to report, and what is to be shown of each replica. No I/O, no clock, no lock: ``now_s`` is monotonic, given.

Without a policy write and flush are the journal's own, and replay is never claimed. With one, each position
is that of the replicas which the policy names: the least of the first ``count`` (FIRST), the ``count``-th
highest (ANY); never past the journal. As in PostgreSQL a replica counts only once it has caught up with what
the primary was told, so that one that comes with a long way to go holds nobody up.

Each position (write, flush, replay) is a machine of its own over `logship.relay.synchrony.TRANSITIONS`,
since a replica whose replay stands may well keep what `on` promises. While write and flush are fractured
they are the journal's own; a fractured replay is what flush is: `remote_apply` promises what `on` does
then, and no less.

What is reported never moves back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from logship.errors import InternalError
from logship.lsn import INVALID, Lsn
from logship.relay.marks import Marks
from logship.relay.policy import Choice, Policy
from logship.relay.synchrony import (
    TRANSITIONS,
    DegradeAfter,
    Event,
    Positions3,
    ReplicaState,
    State,
    SyncState,
    SyncStatus,
    WhenUnmet,
)

HOLD_S: Final = 1.0  # how long the last step of catching up may make commits wait


@dataclass(slots=True)
class _Replica:
    priority: int
    here: bool = False
    reported_at_s: float | None = None  # in this connection
    caught_up: bool = False  # once in this connection
    positions: Positions3 = field(default_factory=Positions3)


@dataclass(slots=True)
class _Position:
    """One of write, flush and replay."""

    told: Lsn = INVALID
    state: State = State.IN_SYNC
    fractured_at_s: float = 0.0


class SyncRep:
    def __init__(self, policy: Policy | None, when_unmet: WhenUnmet) -> None:
        self.policy = policy
        self._limit_s = when_unmet.seconds if isinstance(when_unmet, DegradeAfter) else None
        self._hold_s = HOLD_S if self._limit_s is None else min(HOLD_S, self._limit_s)
        self._replicas: dict[str, _Replica] = {}
        self._write, self._flush, self._replay = _Position(), _Position(), _Position()
        self._marks = Marks(max(self._hold_s, self._limit_s or 0.0))

    # -- told by the relay ---------------------------------------------------------------------------

    def began(self, confirmed_flush_lsn: Lsn) -> None:
        """The primary remembers that this much is flushed; replicas behind it have to catch up first."""
        for position in (self._write, self._flush):
            position.told = max(position.told, confirmed_flush_lsn)

    def connected(self, name: str, now_s: float) -> None:
        replica = self._replica(name)
        replica.here, replica.reported_at_s, replica.caught_up = True, None, False

    def gone(self, name: str, now_s: float) -> None:
        replica = self._replica(name)
        replica.here, replica.reported_at_s, replica.caught_up = False, None, False

    def forgotten(self, name: str) -> None:
        """Its registration was dropped."""
        self._replicas.pop(name, None)

    def reported(self, name: str, positions: Positions3, now_s: float) -> None:
        """A status update. Within a connection positions don't move back; a new connection may begin lower."""
        replica = self._replica(name)
        if not replica.here:
            raise InternalError(f'replica "{name}" reports, and is not connected')
        if replica.reported_at_s is not None:
            positions = _higher(replica.positions, positions)
        replica.positions, replica.reported_at_s = positions, now_s
        replica.caught_up |= self._near(replica, now_s)

    # -- what the primary is told --------------------------------------------------------------------

    def reach(self, written: Lsn, flushed: Lsn, now_s: float) -> Positions3:
        """What to report now. ``written`` and ``flushed`` are the journal's own."""
        self._marks.add(flushed, now_s)
        for replica in self._replicas.values():
            replica.caught_up |= self._near(replica, now_s)
        if self.policy is None:
            self._write.told = max(self._write.told, written)
            self._flush.told = max(self._flush.told, flushed)
            return self._told()
        self._flush.told = self._step(self._flush, "flush", flushed, now_s)
        self._write.told = max(self._flush.told, self._step(self._write, "write", written, now_s))
        self._replay.told = self._step(self._replay, "replay", self._flush.told, now_s)
        return self._told()

    def next_due_s(self, now_s: float) -> float | None:
        """In how many seconds time alone may change what `reach` answers; None: never."""
        if self.policy is None or self._limit_s is None:
            return None
        due = [self._due_s(name, position) for name, position in self._positions()]
        return min((max(0.0, at_s - now_s) for at_s in due if at_s is not None), default=None)

    # -- what is shown -------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """The worst of the three positions'; IN_SYNC without a policy."""
        order = list(State)
        return max((position.state for _, position in self._positions()), key=order.index)

    @property
    def states(self) -> dict[str, State]:
        return {name: position.state for name, position in self._positions()}

    def status(self, name: str) -> SyncStatus:
        replica = self._replicas.get(name) or _Replica(self._priority(name))
        return SyncStatus(
            replica.priority, self._sync_state(replica), self._replica_state(replica), replica.positions
        )

    def _sync_state(self, replica: _Replica) -> SyncState:
        if self.policy is None or replica.priority == 0 or replica.reported_at_s is None:
            return SyncState.ASYNC
        if not any(chosen is replica for chosen in self._chosen()):
            return SyncState.POTENTIAL
        return SyncState.QUORUM if self.policy.choice is Choice.ANY else SyncState.SYNC

    def _replica_state(self, replica: _Replica) -> ReplicaState:
        if replica.here and replica.reported_at_s is None:
            return ReplicaState.STARTUP
        if self.policy is not None and replica.priority and self._is_fractured_for(replica):
            current = replica.here and replica.caught_up and self._has_all(replica)
            return ReplicaState.STREAMING if current else ReplicaState.FRACTURED
        if not replica.here:
            return ReplicaState.AWAY
        return ReplicaState.STREAMING if replica.caught_up else ReplicaState.CATCHUP

    def _is_fractured_for(self, replica: _Replica) -> bool:
        """Whether commits no longer wait for what it tells of. Of a replay that it never spoke of, none could: that
        is `remote_apply`'s and the policy's to show, and doesn't say that the replica fell behind."""
        counted = [self._write, self._flush]
        if replica.positions.replay != INVALID:
            counted.append(self._replay)
        return any(position.state is State.FRACTURED for position in counted)

    # -- the machine ---------------------------------------------------------------------------------

    def _step(self, position: _Position, name: str, own: Lsn, now_s: float) -> Lsn:
        """Move the machine of one position; what it may tell, ``own`` being what the journal allows."""
        event = self._event(position, name, now_s)
        following = TRANSITIONS[position.state, event]
        if following is State.FRACTURED and position.state is not State.FRACTURED:
            position.fractured_at_s = now_s
        position.state = following
        match position.state:
            case State.IN_SYNC:
                allowed = min(own, _agreed(self.policy, self._chosen(), name))
            case State.BLOCKED:
                allowed = INVALID
            case State.FRACTURED:
                allowed = own
            case State.CATCH_UP:
                behind = _agreed(self.policy, self._here(), name)
                allowed = own if self._older(behind, now_s, self._hold_s) else INVALID
        return max(position.told, allowed)

    def _event(self, position: _Position, name: str, now_s: float) -> Event:
        fractured = position.state is State.FRACTURED
        heard = self._here(position.fractured_at_s if fractured else None)
        if fractured:
            # One that doesn't tell of this position, as pg_recvlogical of replay, doesn't catch up with it.
            heard = [replica for replica in heard if getattr(replica.positions, name) != INVALID]
        if not self._enough(heard):
            again = self._limit_s is not None and (fractured or position.state is State.CATCH_UP)
            late = again or self._older(position.told, now_s, self._limit_s)
            return Event.LATE if late else Event.UNMET
        chosen = self._chosen()
        agreed = _agreed(self.policy, chosen, name)
        if not self._enough(chosen) or agreed < position.told:
            return Event.BEHIND
        return Event.LATE if self._older(agreed, now_s, self._limit_s) else Event.LEVEL

    def _older(self, lsn: Lsn, now_s: float, limit_s: float | None) -> bool:
        """Whether the journal has had something past ``lsn`` for as long as that. Never, where degrading isn't
        allowed."""
        if self._limit_s is None or limit_s is None:
            return False
        since_s = self._marks.first_after(lsn)
        return since_s is not None and now_s - since_s >= limit_s

    def _due_s(self, name: str, position: _Position) -> float | None:
        if self._limit_s is None:
            return None
        match position.state:
            case State.IN_SYNC | State.BLOCKED:
                since_s, limit_s = self._marks.first_after(position.told), self._limit_s
            case State.CATCH_UP:
                own = self._flush.told if position is self._replay else position.told
                if position.told >= own and self._marks.first_after(own) is None:
                    return None  # all there is was told already
                behind = _agreed(self.policy, self._here(), name)
                since_s, limit_s = self._marks.first_after(behind), self._hold_s
            case State.FRACTURED:
                return None
        return None if since_s is None else since_s + limit_s

    # -- who counts ----------------------------------------------------------------------------------

    def _here(self, since_s: float | None = None) -> list[_Replica]:
        """The policy's replicas that are connected and have reported, by priority; only those heard of after
        ``since_s`` when it is given."""
        found = [
            replica for replica in self._replicas.values()
            if replica.priority and replica.reported_at_s is not None
            and (since_s is None or replica.reported_at_s > since_s)
        ]  # fmt: skip
        return sorted(found, key=lambda replica: replica.priority)

    def _chosen(self) -> list[_Replica]:
        """Those whose positions count now."""
        assert self.policy is not None
        candidates = [replica for replica in self._here() if replica.caught_up]
        return candidates if self.policy.choice is Choice.ANY else candidates[: self.policy.count]

    def _enough(self, replicas: list[_Replica]) -> bool:
        return self.policy is not None and len(replicas) >= self.policy.count

    def _near(self, replica: _Replica, now_s: float) -> bool:
        if replica.reported_at_s is None:
            return False
        if self.policy is not None and replica.priority:
            return replica.positions.flush >= self._flush.told
        since_s = self._marks.first_after(replica.positions.flush)
        return since_s is None or now_s - since_s <= self._hold_s

    def _has_all(self, replica: _Replica) -> bool:
        """Whether it has everything that was told, so that it isn't why the policy is fractured."""
        have, told = replica.positions, self._told()
        return have.flush >= told.flush and (have.replay == INVALID or have.replay >= told.replay)

    def _replica(self, name: str) -> _Replica:
        if name not in self._replicas:
            self._replicas[name] = _Replica(self._priority(name))
        return self._replicas[name]

    def _priority(self, name: str) -> int:
        return self.policy.priority(name) if self.policy is not None else 0

    def _positions(self) -> list[tuple[str, _Position]]:
        return [("write", self._write), ("flush", self._flush), ("replay", self._replay)]

    def _told(self) -> Positions3:
        return Positions3(self._write.told, self._flush.told, self._replay.told)


def _agreed(policy: Policy | None, replicas: list[_Replica], name: str) -> Lsn:
    """What ``replicas``, in the order of their priority, have together, as the policy counts; INVALID when they
    are too few."""
    if policy is None or len(replicas) < policy.count:
        return INVALID
    reached: list[Lsn] = [getattr(replica.positions, name) for replica in replicas]
    if policy.choice is Choice.FIRST:
        return min(reached[: policy.count])
    return sorted(reached, reverse=True)[policy.count - 1]


def _higher(one: Positions3, other: Positions3) -> Positions3:
    return Positions3(max(one.write, other.write), max(one.flush, other.flush), max(one.replay, other.replay))
