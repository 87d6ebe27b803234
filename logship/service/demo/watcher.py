"""Processes that must not outlive the one that started them.

In: the id of a child process, and the directory that is its own. Out: a watcher that ends the child and
removes the directory when we die without doing so ourselves, SIGKILL included. Assumes Linux's /proc.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

# Ends when our end of its standard input closes, which the kernel does however this process dies.
_SCRIPT: Final = (
    'read -r word; [ "$word" = stopped ] && exit 0; '
    'kill -QUIT "$1" 2>/dev/null; '
    'i=0; while kill -0 "$1" 2>/dev/null && [ $i -lt 100 ]; do sleep 0.1; i=$((i+1)); done; '
    'kill -KILL "$1" 2>/dev/null; rm -rf "$2"'
)


class Watcher:
    """Watches ``pid`` from a process of its own. `dismiss` it once the child has ended."""

    def __init__(self, pid: int, directory: Path) -> None:
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT, "logship-watcher", str(pid), str(directory)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            cwd="/", start_new_session=True,
        )  # fmt: skip

    def dismiss(self) -> None:
        self._process.communicate(b"stopped\n")


def children(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            stat = _stat(int(entry.name))
            if stat is not None and int(stat[1]) == parent:
                found.append(int(entry.name))
    return found


def alive(pid: int) -> bool:
    """Gone, or a zombie that nobody reaps (a container without an init): both hold nothing any more."""
    stat = _stat(pid)
    return stat is not None and stat[0] not in "ZX"


def _stat(pid: int) -> list[str] | None:
    """State, parent … of /proc/<pid>/stat: the fields after the name, which may hold spaces (proc(5))."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
