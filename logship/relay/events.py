"""What a client of the relay asks, and the answers it is given, as plain values.

In: nothing; `logship.relay.session.Session.receive` makes the events, the pump makes the answers.
Frozen and slotted; no I/O.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from logship.lsn import Lsn
from logship.relay.refusal import Refusal

# -- what the client asks ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartTls:
    """Write `outgoing`, do the handshake, then `tls_started`. No byte may be received before that."""


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The client is in; nothing is to be answered. ``replication``: it may send replication commands.
    ``options`` are all parameters of its startup packet."""

    user: str
    database: str
    application_name: str
    options: Mapping[str, str]
    replication: bool


@dataclass(frozen=True, slots=True)
class Identify:
    """Answer: `identified`."""


@dataclass(frozen=True, slots=True)
class Show:
    """A setting that the core doesn't know itself. Answer: `rows` with tag SHOW."""

    name: str


@dataclass(frozen=True, slots=True)
class PublicationTables:
    """Answer: `rows` of `logship.relay.catalogue.PUBLICATION_TABLES` (``with_columns``) or its first two
    columns, tag SELECT n."""

    publications: tuple[str, ...]
    with_columns: bool


@dataclass(frozen=True, slots=True)
class Publications:
    """Which of these are there? Answer: `rows` of `logship.relay.catalogue.PUBLICATIONS`, tag SELECT n."""

    publications: tuple[str, ...]


class Snapshot(enum.Enum):
    """What a client wants to have of the moment at which its slot begins. The relay has no rows to see:
    EXPORT is PostgreSQL's default when nothing is said, and is answered without a name."""

    EXPORT = "export"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class CreateSlot:
    """Answer: `created`."""

    name: str
    plugin: str
    temporary: bool
    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class DropSlot:
    """Answer: `dropped`. ``wait``: until nobody streams from it."""

    name: str
    wait: bool


@dataclass(frozen=True, slots=True)
class ReadSlot:
    """Answer: `slot_read`."""

    name: str


@dataclass(frozen=True, slots=True)
class StartReplication:
    """Answer: `streaming`. ``options`` are judged by `logship.relay.options.parse`."""

    slot: str
    start_lsn: Lsn
    options: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Status:
    """A Standby Status Update. ``reply_requested``: answer with `keepalive`, at once."""

    write: Lsn
    flush: Lsn
    replay: Lsn
    time_us: int
    reply_requested: bool


@dataclass(frozen=True, slots=True)
class CopyEnded:
    """The client ended the stream. Answer: `end_stream`, once what is half sent is sent."""


@dataclass(frozen=True, slots=True)
class Terminated:
    """The client said goodbye: close."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """On a connection of its own: end the command of the session with this pid and key. Close."""

    pid: int
    key: int


@dataclass(frozen=True, slots=True)
class RefusedCommand:
    """The core refused a command by itself and the session goes on. For the log; nothing to answer."""

    error: Refusal


@dataclass(frozen=True, slots=True)
class Failed:
    """The core ended the session with this error: write `outgoing`, close."""

    error: Refusal


Event: TypeAlias = (
    StartTls | Authenticated | Identify | Show | PublicationTables | Publications | CreateSlot | DropSlot
    | ReadSlot | StartReplication | Status | CopyEnded | Terminated | Cancel | RefusedCommand | Failed
)  # fmt: skip

# -- answers -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SystemInfo:
    """IDENTIFY_SYSTEM. ``xlogpos``: where the primary's log ended when last asked."""

    system_identifier: int
    timeline: int
    xlogpos: Lsn
    database: str


@dataclass(frozen=True, slots=True)
class CreatedSlot:
    name: str
    consistent_point: Lsn
    plugin: str = "pgoutput"
    snapshot_name: str | None = None


@dataclass(frozen=True, slots=True)
class SlotInfo:
    restart_lsn: Lsn
    restart_tli: int
    slot_type: str = "logical"
