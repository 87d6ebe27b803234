"""The side of a program that fills the journal: who receives, and a probe that asks how far there is to go.

In: both, as `logship.service.ship.shipping` and `logship.service.replay.receiving` make them. Out: a `Side` of two
threads, and what the other side shows of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from logship.service.crew import Crew
from logship.service.watch.health import Health
from logship.service.watch.probe import Answer


class Receives(Protocol):
    @property
    def received_bytes(self) -> int: ...
    def run(self) -> None: ...
    def stop(self) -> None: ...


class Asks(Protocol):
    @property
    def answer(self) -> Answer | None: ...
    def run(self) -> None: ...
    def stop(self) -> None: ...


class Filling:
    """A `Side`: the threads ``name`` and probe."""

    def __init__(self, name: str, receives: Receives, probe: Asks) -> None:
        self._name = name
        self._receives = receives
        self._probe = probe

    @property
    def received_bytes(self) -> int:
        """Of the stream, since the start."""
        return self._receives.received_bytes

    @property
    def answer(self) -> Answer | None:
        """What was last said of the primary's log and of the slot."""
        return self._probe.answer

    def start(self, crew: Crew) -> None:
        crew.start(self._name, self._receives.run)
        crew.start("probe", self._probe.run)

    def stop(self) -> None:
        self._receives.stop()
        self._probe.stop()

    def end(self, crew: Crew) -> None:
        """Both threads give back what they use when they end."""


def trouble(health: Health) -> Callable[[Exception | None], None]:
    """Tells ``health`` of each error that is being waited out, and of its end."""

    def tell(error: Exception | None) -> None:
        if error is None:
            health.streams()
        else:
            health.trouble("shipper", error)

    return tell
