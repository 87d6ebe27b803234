"""Checks of the journal's directory, when one is named: whether it can be written, and for how long."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from logship.service.checks.facts import Facts
from logship.service.checks.finding import Check, Finding, Severity

_BLOCKS, _WARNS = Severity.BLOCKS, Severity.WARNS
_LITTLE: Final = 1024**3


def directory(facts: Facts) -> Iterator[Finding]:
    """`run` makes the directory when it is missing; so its nearest parent that exists is looked at."""
    wanted = facts.asked.journal
    if wanted is None:
        return
    nearest = _nearest(wanted)
    if not nearest.is_dir():
        yield Finding(
            _BLOCKS, "logship", f"{nearest} is not a directory, and the journal is to be there",
            "the journal is a directory of files", action="name another --journal",
        )  # fmt: skip
    elif not os.access(nearest, os.W_OK | os.X_OK):
        yield Finding(
            _BLOCKS, "logship", f"{nearest} can't be written by this user", "the journal is written there",
            action=f"give this user (uid {os.geteuid()}) the right to write there, or name another --journal",
        )  # fmt: skip


def room(facts: Facts) -> Iterator[Finding]:
    if facts.asked.journal is None:
        return
    found = os.statvfs(_nearest(facts.asked.journal))
    free = found.f_bavail * found.f_frsize
    if free < _LITTLE:
        yield Finding(
            _WARNS, "logship", f"{free // 2**20} MB are free where the journal is to be",
            "it holds what the secondary hasn't committed yet; when it is full, replication stops, and the slot keeps "
            "the log on the primary",
            action="make room, or name another --journal; --journal-limit bounds it",
        )  # fmt: skip


def _nearest(path: Path) -> Path:
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


CHECKS: Final = (
    Check("journal", (_BLOCKS,), "the journal's directory can be written (`--journal`)", directory),
    Check("journal-room", (_WARNS,), "room in the journal's file system (`--journal`)", room),
)  # fmt: skip
