"""A further session that writes, and the thread that feeds it.

In: work, one piece at a time. Out: a word when it is done. What the work is, and everything else that is to be sent
over the session, is the owner's business; between two pieces the session is the owner's alone.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue

from logship.errors import SecondaryError
from logship.replay import origins
from logship.replay.session import ServerError, Session
from logship.replay.shape import SecondaryTarget

log = logging.getLogger(__name__)


class Lane:
    """``owned`` False: the session is somebody else's, and stays open when the lane closes."""

    def __init__(self, session: Session, number: int, *, owned: bool) -> None:
        self.session = session
        self.writers: dict[int, bytes] = {}
        self.not_copied: dict[int, SecondaryTarget] = {}
        self._owned = owned
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"persistence-{number}", daemon=True)
        self._thread.start()

    def begin(self, work: Callable[[], None]) -> None:
        """``work`` raises nothing, and says by itself that it is done."""
        self._work.put(work)

    def close(self) -> None:
        """Not while there is work under way."""
        self._work.put(None)
        if self._owned:
            self.session.close()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()


def open_lanes(
    first: Session,
    replica: str,
    origin: str,
    *,
    wanted: int,
    open_one: Callable[[], Session],
    wait: Callable[[float], None],
) -> tuple[list[Lane], str]:
    """Lanes for ``wanted`` sessions in all, with their origins taken, and why there are fewer; none for one session.
    Afterwards no session of a predecessor's, but for its first, can commit any more. ``first`` doesn't have
    its origin yet, and is the first lane's; but the server has a place for it, which further ones can't take."""
    taken: list[Session] = []
    names: list[bytes] = []
    why = ""
    try:
        if wanted > 1:
            origins.outlast(first, [origin.encode()], wait)
        while len(taken) + 1 < wanted and not why:
            try:
                name = origins.make(first, replica, len(taken) + 2)
                if name is None:
                    break
                session = open_one()
                taken.append(session)
                origins.take(session, name, wait)
                names.append(name)
            except SecondaryError as error:
                why = str(error)
            except ServerError as error:
                if error.sqlstate is None:
                    raise
                why = f"{error.reason} (SQLSTATE {error.sqlstate})"
                for session in taken[len(names) :]:
                    session.close()
                del taken[len(names) :]
        rest = [name for name in origins.existing(first, origin) if name not in names]
        origins.outlast(first, rest, wait)
    except BaseException:
        for session in taken:
            session.close()
        raise
    if not taken:
        return [], why
    lanes = [Lane(first, 1, owned=False)]
    lanes += [Lane(session, number, owned=True) for number, session in enumerate(taken, 2)]
    return lanes, why


def close(session: Session, lanes: Sequence[Lane]) -> None:
    for lane in lanes:
        lane.close()
    session.close()
