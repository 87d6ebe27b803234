"""What the program says of itself: its state, what went wrong last, how often what was tried again.

In: what the parts of a run tell, from their threads; the verdicts of the lookout. Out: one state, with
the reason, for the views, the figures and the status page. No row values and no passwords: errors of ours
have none, and of anybody else's only the class is kept.
"""

from __future__ import annotations

import datetime as dt
import enum
import threading
from collections import Counter
from collections.abc import Callable, Mapping

from logship.errors import LogshipError, reason_of, waited_out
from logship.service.positions import Stage
from logship.service.watch.watch import Condition, Verdict, sentence


class State(enum.Enum):
    """In the order of what is said first when several are true."""

    FAILED = "failed"
    STOPPED = "stopped"
    STALLED = "stalled"
    WAITING = "waiting"  # for a server that is away
    STARTING = "starting"
    HELD = "held"  # stands still because `logship verify` or `repair` asked for it
    BUSY = "busy"
    STREAMING = "streaming"


class Health:
    """Safe to use from any thread."""

    def __init__(self, replays: Callable[[], bool] = lambda: True) -> None:
        """``replays``: whether the secondary has been reached, and said where the replica stands."""
        self._replays = replays
        self._lock = threading.Lock()
        self._ended: State | None = None
        self._streamed = False
        self._held = False
        self._troubles: dict[str, str] = {}  # by who waits
        self._again: dict[
            str, str
        ] = {}  # what is being tried again, by who does; servers that are away included
        self._verdicts: dict[Stage, Verdict] = {}
        self._stalled: dict[Stage, str] = {}  # in words
        self._since: dict[Stage, dt.datetime] = {}  # the stalled stages, each since when it stands
        self._last_error: tuple[str, dt.datetime] | None = None
        self._errors: Counter[str] = Counter()
        self._retries: Counter[tuple[str, str]] = Counter()

    # -- told by the parts ---------------------------------------------------------------------------

    def streams(self) -> None:
        """The walsender's stream has begun."""
        with self._lock:
            self._streamed = True
            self._troubles.pop("shipper", None)

    def trouble(self, who: str, error: Exception) -> None:
        """``who`` (shipper, replayer, lookup) waits out ``error``. Call `over` when it has passed."""
        message = waited_out(error) if isinstance(error, LogshipError) else said(error)
        with self._lock:
            self._troubles[who] = message
            self._retries[(who, reason_of(error))] += 1
            self._note(message)

    def over(self, who: str) -> None:
        if (
            who in self._troubles or who in self._again
        ):  # called after each batch: the lock is for the rare case
            with self._lock:
                self._troubles.pop(who, None)
                self._again.pop(who, None)

    def held(self, held: bool) -> None:
        """Whether replay stands still because a command asked for it."""
        self._held = held

    def tried_again(self, who: str, reason: str, message: str, *, away: bool) -> None:
        """Something is tried again, for a reason of the table in `logship.errors`; ``away``: a server is."""
        with self._lock:
            self._retries[(who, reason)] += 1
            self._note(message)
            self._again[who] = message
            if away:
                self._troubles[who] = message

    def ended(self, error: BaseException | None) -> None:
        """The run is over: stopped, or failed."""
        with self._lock:
            self._ended = State.STOPPED if error is None else State.FAILED
            if error is not None:
                self._note(said(error))
                self._errors[type(error).__name__] += 1

    def watched(self, verdicts: Mapping[Stage, Verdict]) -> tuple[list[str], bool]:
        """The lookout's verdicts. Out: the stalls that began now, in words; whether the last one is over."""
        now = dt.datetime.now(dt.UTC)
        with self._lock:
            stood, said_before = self._since, self._stalled
            self._verdicts = dict(verdicts)
            self._since, self._stalled = {}, {}
            for stage, verdict in verdicts.items():
                if verdict.condition is Condition.STALLED:
                    since = stood.get(stage) or now - dt.timedelta(seconds=verdict.standing_s or 0.0)
                    self._since[stage] = since
                    self._stalled[stage] = sentence(stage, verdict, f"{since:%Y-%m-%d %H:%M:%S} UTC")
            began = [text for stage, text in self._stalled.items() if stage not in stood]
            self._errors["stalled"] += len(began)
            if self._stalled and self._stalled != said_before:
                self._last_error = (self._why_stalled(), now)
            return began, bool(stood) and not self._stalled

    def _why_stalled(self) -> str:
        """The stages that stand, and the trouble that is being waited out, which may be why."""
        return "; ".join([*self._stalled.values(), *dict.fromkeys(self._troubles.values())])

    def _note(self, message: str) -> None:
        self._last_error = (message, dt.datetime.now(dt.UTC))

    # -- read by the reports -------------------------------------------------------------------------

    @property
    def state(self) -> State:
        with self._lock:
            return self._state()

    def _state(self) -> State:
        if self._ended is not None:
            return self._ended
        if self._stalled:
            return State.STALLED
        if self._troubles:
            return State.WAITING
        if not (self._streamed and self._replays()):
            return State.STARTING
        if self._held:
            return State.HELD
        busy = any(verdict.condition is Condition.BUSY for verdict in self._verdicts.values())
        return State.BUSY if busy else State.STREAMING

    @property
    def reason(self) -> str:
        """Why it is in this state; empty when there is nothing to say."""
        with self._lock:
            match self._state():
                case State.STALLED:
                    return self._why_stalled()
                case State.WAITING:
                    return "; ".join(dict.fromkeys(self._troubles.values()))
                case State.BUSY:
                    return self._busy()
                case State.FAILED:
                    return self._last_error[0] if self._last_error else ""
            return ""

    def _busy(self) -> str:
        busy = [(s, v) for s, v in self._verdicts.items() if v.condition is Condition.BUSY]
        return "; ".join(f"{stage.value}: {verdict.reason}" for stage, verdict in busy)

    @property
    def shown(self) -> str:
        """The state for `logship.stat_replay`: one word, and of a busy one with what."""
        with self._lock:
            state = self._state()
            return f"busy: {self._busy()}" if state is State.BUSY else state.value

    @property
    def ready(self) -> bool:
        """Streaming, nothing stands, nothing is waited for, nothing failed."""
        return self.state in (State.STREAMING, State.BUSY, State.HELD)

    @property
    def verdicts(self) -> dict[Stage, Verdict]:
        with self._lock:
            return dict(self._verdicts)

    @property
    def last_error(self) -> tuple[str, dt.datetime] | None:
        """What went wrong last, and when. While a stage stands that is said first."""
        with self._lock:
            if not self._stalled or self._last_error is None:
                return self._last_error
            said_all, (message, at) = self._why_stalled(), self._last_error
            for each in (message, *self._again.values()):
                said_all = said_all if each in said_all else f"{said_all}; {each}"
            return said_all, at

    @property
    def errors(self) -> dict[str, int]:
        with self._lock:
            return dict(self._errors)

    @property
    def retries(self) -> dict[tuple[str, str], int]:
        with self._lock:
            return dict(self._retries)


def said(error: BaseException) -> str:
    """An error of ours says what it says; a foreign one may quote a row, so only its class is named."""
    return str(error) if isinstance(error, LogshipError) else type(error).__name__
