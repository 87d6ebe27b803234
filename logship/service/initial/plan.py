"""What init is asked for, what it tells on its way, and what came of it. Plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from logship.catalog.selection import Selection
from logship.lsn import Lsn
from logship.snapshot.progress import Standing

Keyless = Literal["full", "refuse", "leave-out"]
SchemaMode = Literal["dump", "existing"]
Partitions = Literal["leaf", "root"]
Existing = Literal["refuse", "replace", "keep"]
SchemaChanges = Literal["on", "off"]
Roles = Literal["refuse", "create-nologin"]


@dataclass(frozen=True, slots=True)
class Progress:
    """Something to tell the operator. With a table: it is copied, ``done`` of ``total``. With an empty
    text: only ``standing`` is new, several times a second."""

    text: str
    table: str | None = None
    rows: int = 0
    size_bytes: int = 0  # of the table on the primary
    done: int = 0
    total: int = 0
    standing: Standing | None = None


@dataclass(slots=True)
class InitResult:
    replica: str
    slot: str
    publication: str
    origin: str
    already: bool = False  # nothing was left to do
    replayer_role: str = ""
    snapshot_lsn: Lsn | None = None  # where the replica starts: the oldest of its tables' LSNs
    tables: int = 0  # copied by this run
    rows: int = 0
    size_bytes: int = 0  # as COPY carried them
    seconds: float = 0.0
    identity_full: list[str] = field(default_factory=list)  # REPLICA IDENTITY FULL was set
    left_out: list[str] = field(default_factory=list)  # --keyless leave-out
    not_selected: list[str] = field(default_factory=list)  # --tables, --exclude
    roles_made: list[str] = field(default_factory=list)  # --roles create-nologin
    roles_mapped: dict[str, str] = field(
        default_factory=dict
    )  # --map-role: the secondary's name by the primary's
    resumed: list[str] = field(default_factory=list)  # finished by an init that was interrupted
    replaced: list[str] = field(default_factory=list)  # --existing replace: rows that stood there are gone
    kept: list[str] = field(default_factory=list)  # --existing keep: taken for right as they are
    not_copied: dict[str, str] = field(default_factory=dict)  # unlogged and foreign tables
    large_objects: int = 0  # on the primary; not copied, not replicated
    staged: dict[str, str] = field(default_factory=dict)  # filled by their owners' writers, and why
    schema_changes: bool = False  # they are captured, and the secondary has the key
    unchecked: list[str] = field(default_factory=list)  # statements that check foreign keys later
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Options:
    """What the operator asked for."""

    primary: str
    secondary: str
    name: str | None
    slot: str | None
    publication: str | None
    keyless: Keyless
    schema: SchemaMode
    pg_dump: str | None
    jobs: int
    partitions: Partitions
    selection: Selection
    existing: Existing
    ddl: SchemaChanges | None = None
    roles: Roles = "refuse"
    map_roles: Mapping[str, str] = field(default_factory=dict)
