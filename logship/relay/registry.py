"""Which replicas there are, by name, how far each is, and which of them have lost something.

In: registrations, reports, what retention removed. Out: what must be kept for whom, and the bytes of the file
that remembers it. A replica's position here is what it has flushed: that is in its own journal, and it won't
ask for it again. Positions never move back. Pure: no I/O, no clock, no lock.

The file, UTF-8 JSON, one object (docs/journal.md tells operators of it):

  {"format": 1, "crc32c": …, "replicas": [{"name": …, "flush_lsn": "0/16B3748", "created_us": …,
                                           "noted": whether the primary has named it,
                                           "lost": null or the oldest LSN there was when it lost something}]}

``crc32c`` is that of the list of replicas with sorted keys and no spaces.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import google_crc32c

from logship.errors import LogshipError
from logship.lsn import Lsn

FORMAT: Final = 1


class MalformedRegistry(Exception):
    """The bytes are not a registry: whoever read the file names it to the operator."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True, slots=True)
class Registered:
    """``lost_lsn``: retention has dropped what it needed, and this was the oldest that was left then; it
    can't go on, and holds nothing up. ``created_us``: microseconds since 2000. ``noted``: the primary's
    `logship.replica` has had it; when it goes from there, it goes here. ``temporary``: never in the file."""

    name: str
    flush_lsn: Lsn
    created_us: int
    lost_lsn: Lsn | None = None
    noted: bool = False
    temporary: bool = False


class Registry:
    def __init__(self, replicas: Mapping[str, Registered] | None = None) -> None:
        self._replicas: dict[str, Registered] = dict(replicas or {})

    def __contains__(self, name: str) -> bool:
        return name in self._replicas

    def __iter__(self) -> Iterator[Registered]:
        return iter(sorted(self._replicas.values(), key=lambda replica: replica.name))

    def __len__(self) -> int:
        return len(self._replicas)

    def get(self, name: str) -> Registered | None:
        return self._replicas.get(name)

    def add(self, name: str, flush_lsn: Lsn, created_us: int, *, temporary: bool = False) -> Registered:
        """A replica that needs what follows ``flush_lsn``. One that is known stays as it is."""
        made = Registered(name, flush_lsn, created_us, temporary=temporary)
        return self._replicas.setdefault(name, made)

    def drop(self, name: str) -> bool:
        """Whether there was one."""
        return self._replicas.pop(name, None) is not None

    def note(self, name: str) -> bool:
        """The primary knows it; whether that is news."""
        known = self._replicas.get(name)
        if known is None or known.noted:
            return False
        self._replicas[name] = replace(known, noted=True)
        return True

    def flushed(self, name: str, lsn: Lsn) -> bool:
        """It has everything up to ``lsn`` in a journal of its own; whether that is news. Nobody of that name:
        its registration was dropped meanwhile, and there is nothing to note."""
        known = self._replicas.get(name)
        if known is None or lsn <= known.flush_lsn:
            return False
        # What it lacked it has got elsewhere (from a copy of another journal, say): then it lost nothing.
        caught_up = known.lost_lsn is not None and lsn >= known.lost_lsn
        lost_lsn = None if caught_up else known.lost_lsn
        self._replicas[name] = replace(known, flush_lsn=lsn, lost_lsn=lost_lsn)
        return True

    def begins_at(self, oldest_lsn: Lsn) -> list[str]:
        """The journal begins at ``oldest_lsn`` now; the replicas that have lost something by it only now."""
        found = [
            replica for replica in self._replicas.values()
            if replica.lost_lsn is None and replica.flush_lsn < oldest_lsn
        ]  # fmt: skip
        for replica in found:
            self._replicas[replica.name] = replace(replica, lost_lsn=oldest_lsn)
        return sorted(replica.name for replica in found)

    def needed(self) -> dict[str, Lsn]:
        """What each replica needs kept: all that follows its position. Those that lost something need nothing."""
        return {
            replica.name: replica.flush_lsn for replica in self._replicas.values() if replica.lost_lsn is None
        }

    def encode(self) -> bytes:
        rows = [_row(replica) for replica in self if not replica.temporary]
        return (
            json.dumps({"format": FORMAT, "crc32c": _sum(rows), "replicas": rows}, indent=1).encode() + b"\n"
        )

    @classmethod
    def decode(cls, data: bytes) -> Registry:
        """What `encode` wrote. `MalformedRegistry`, and nothing else, for any other bytes."""
        try:
            given = json.loads(data)
            rows = given["replicas"]
            if given["format"] != FORMAT:
                raise MalformedRegistry(f"it is of format {given['format']!r}, and this is format {FORMAT}")
            if given["crc32c"] != _sum(rows):
                raise MalformedRegistry("its checksum is wrong")
            replicas = [_read(row) for row in rows]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, LogshipError) as error:
            raise MalformedRegistry("it isn't what logship writes there") from error
        return cls({replica.name: replica for replica in replicas})


def _row(replica: Registered) -> dict[str, Any]:
    return {
        "name": replica.name,
        "flush_lsn": str(replica.flush_lsn),
        "created_us": replica.created_us,
        "noted": replica.noted,
        "lost": None if replica.lost_lsn is None else str(replica.lost_lsn),
    }


def _read(row: dict[str, Any]) -> Registered:
    lost = row["lost"]
    name, created_us, noted = row["name"], row["created_us"], row["noted"]
    if not isinstance(name, str) or not isinstance(created_us, int) or not isinstance(noted, bool):
        raise TypeError
    return Registered(
        name, Lsn.parse(row["flush_lsn"]), created_us, None if lost is None else Lsn.parse(lost), noted
    )


def _sum(rows: list[dict[str, Any]]) -> int:
    return int(google_crc32c.value(json.dumps(rows, sort_keys=True, separators=(",", ":")).encode()))
