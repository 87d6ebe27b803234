"""Named places where a test can make the process die, as a power cut or `kill -9` would.

In: the environment variable ``LOGSHIP_FAILPOINTS``, read once at import: ``name[=nth],...``, e.g.
``journal.seal.written,journal.fsync.before=3``. Out: at the nth time that the code passes `hit(name)`
(by default the first) the process kills itself with SIGKILL: no handler, no ``finally``, no flush.
Unset, which is how it runs in production, a hit costs one test of an empty dictionary.

Every window between two steps that a crash may separate has a name, where it is documented beside
the code, and a test that kills the process there.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Final

from logship.errors import UsageError

VARIABLE: Final = "LOGSHIP_FAILPOINTS"


def parse(text: str) -> dict[str, int]:
    """``name[=nth],...`` as a mapping from a name to the hits that are left."""
    armed: dict[str, int] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, _, nth = item.partition("=")
        count = nth or "1"
        if not name or not count.isascii() or not count.isdigit() or int(count) < 1:
            raise UsageError(
                f"{VARIABLE}: {item!r} is not a failpoint",
                hint="write it like name or name=3 (die the third time), separated by commas",
            )
        armed[name] = int(count)
    return armed


_armed: Final = parse(os.environ.get(VARIABLE, ""))
_lock: Final = threading.Lock()


def hit(name: str) -> None:
    """Die here if ``name`` is armed and this is its time."""
    if _armed and name in _armed:
        _count_down(name)


def _count_down(name: str) -> None:
    with _lock:  # two threads may pass the same place
        _armed[name] -= 1
        if _armed[name] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
