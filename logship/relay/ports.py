"""What the pump needs of others: where the log comes from, and what the relay knows of its replicas.

In: nothing. Out: protocols, which `logship.service` implements, and the values that pass through them.
A `Backend`'s methods may wait for a disk or a server, but for `sent` and `status`: the pump calls them from threads of
its own. What they refuse is a `logship.relay.refusal.Refused`, which becomes the client's error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from logship.lsn import Lsn
from logship.relay.events import SlotInfo, SystemInfo

Rows: TypeAlias = Sequence[Sequence[str | None]]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Framed CopyData messages. ``sent_lsn``: with them, everything that ends there or before has been sent;
    INVALID inside a transaction. No keepalive names more."""

    frames: bytes
    sent_lsn: Lsn


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """Who streams. ``pid`` is what BackendKeyData told it."""

    user: str
    application_name: str
    address: str
    port: int
    pid: int


class Feed(Protocol):
    """The log for one streaming session. One thread at a time calls `read`; `wake` may be called from any."""

    def read(self, max_bytes: int, timeout_s: float) -> list[Outgoing]:
        """About ``max_bytes`` of frames; nothing when time is up or `wake` was called. `Refused` when the log
        is no longer there; any error ends the session."""

    def listen(self, listener: Callable[[bool], None]) -> None:
        """Call ``listener`` when there may be more, from the thread that writes the log, which it must not hold up;
        with True where `read` is quick and somebody waits for what it gives. Once, before the first `read`."""

    def wake(self) -> None: ...

    def close(self) -> None: ...


class Backend(Protocol):
    """Names are those of replicas, which are slots to the protocol."""

    def identify(self) -> SystemInfo: ...

    def create(self, name: str, *, temporary: bool) -> Lsn:
        """Where the new replica starts. One that is ``temporary`` is forgotten with this program at the latest."""

    def drop(self, name: str) -> None: ...

    def read(self, name: str) -> SlotInfo | None: ...

    def start(self, name: str, start_lsn: Lsn, options: Mapping[str, str], client: ClientInfo) -> Feed:
        """The replica is served until `ended`; refused with 55006 while another session serves it."""

    def sent(self, name: str, lsn: Lsn) -> None:
        """Everything that ends there or before is on its way. Called in any thread: it never waits."""

    def status(self, name: str, write: Lsn, flush: Lsn, replay: Lsn) -> None:
        """What a replica says of itself. Called in the event loop: it never waits."""

    def ended(self, name: str) -> None: ...

    def publication_tables(self, publications: Sequence[str]) -> Rows:
        """As `logship.relay.catalogue.PUBLICATION_TABLES` has the columns."""

    def publications(self, publications: Sequence[str]) -> Rows:
        """As `logship.relay.catalogue.PUBLICATIONS` has the columns."""

    def show(self, name: str) -> tuple[Sequence[str], Sequence[str | None]]:
        """The columns and the one row of a setting that the relay itself doesn't know."""
