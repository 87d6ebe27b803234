"""What a session asks when it doesn't stream: who the primary is, slots, settings, the catalog.

In: events of the `Session`, answers of the `Backend`, which is asked in threads. Out: the answers, given to the
session. Knows which replicas go with the connection (temporary slots). Raises `Refused` for what is to be refused;
whoever runs the work tells the client.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Final, TypeVar

from logship.errors import LogshipError
from logship.relay.catalogue import PUBLICATION_TABLES, PUBLICATIONS
from logship.relay.events import (
    CreatedSlot,
    CreateSlot,
    DropSlot,
    Event,
    Identify,
    Publications,
    PublicationTables,
    ReadSlot,
    Show,
)
from logship.relay.messages import Column
from logship.relay.refusal import Refused
from logship.relay.session import Session

if TYPE_CHECKING:
    from logship.relay.server import Hub

log = logging.getLogger(__name__)

T = TypeVar("T")
Work = Coroutine[None, None, None]

_DROP_POLL_S: Final = 0.05
_IN_USE: Final = "55006"


class Questions:
    """Of one connection. ``who`` is what the log calls it, ``lost`` whether it is gone."""

    def __init__(
        self, hub: Hub, session: Session, *, who: Callable[[], str], lost: Callable[[], bool]
    ) -> None:
        self.temporary: set[str] = set()  # replicas that go with this connection
        self._hub = hub
        self._session = session
        self._who = who
        self._lost = lost

    def asked(self, event: Event) -> Work | None:
        """The work that answers it; None: it isn't a question."""
        backend, call = self._hub.backend, self._hub.call
        work: Work | None = None
        match event:
            case Identify():
                work = self._answer(call(backend.identify), self._session.identified)
            case Show():
                work = self._show(event)
            case PublicationTables() | Publications():
                work = self._catalogue(event)
            case CreateSlot():
                work = self._create(event)
            case DropSlot():
                work = self._drop(event)
            case ReadSlot():
                work = self._answer(call(backend.read, event.name), self._session.slot_read)
        return work

    async def let_go(self) -> None:
        """The client is gone: its temporary replicas go, too."""
        for name in self.temporary:
            try:
                await self._hub.call(self._hub.backend.drop, name)
            except (Refused, LogshipError) as error:
                log.warning('the temporary replica "%s" could not be dropped: %s', name, error)
        self.temporary.clear()

    async def _answer(self, asked: Coroutine[None, None, T], answer: Callable[[T], None]) -> None:
        answer(await asked)

    async def _show(self, event: Show) -> None:
        names, row = await self._hub.call(self._hub.backend.show, event.name)
        self._session.rows([Column(name) for name in names], [row], "SHOW")

    async def _catalogue(self, event: PublicationTables | Publications) -> None:
        if isinstance(event, Publications):
            rows = await self._hub.call(self._hub.backend.publications, event.publications)
            columns: tuple[Column, ...] = PUBLICATIONS
        else:
            rows = await self._hub.call(self._hub.backend.publication_tables, event.publications)
            columns = PUBLICATION_TABLES if event.with_columns else PUBLICATION_TABLES[:2]
        shown = [row[: len(columns)] for row in rows]
        self._session.rows(columns, shown, f"SELECT {len(shown)}")

    async def _create(self, event: CreateSlot) -> None:
        create = functools.partial(self._hub.backend.create, event.name, temporary=event.temporary)
        lsn = await self._hub.call(create)
        if event.temporary:
            self.temporary.add(event.name)
            if self._lost():
                await self.let_go()
        log.info('%s: created replica "%s" at %s', self._who(), event.name, lsn)
        self._session.created(CreatedSlot(event.name, lsn))

    async def _drop(self, event: DropSlot) -> None:
        while True:
            try:
                await self._hub.call(self._hub.backend.drop, event.name)
            except Refused as refused:
                if not event.wait or self._lost() or refused.refusal.sqlstate != _IN_USE:
                    raise
                await asyncio.sleep(_DROP_POLL_S)
            else:
                break
        self.temporary.discard(event.name)
        log.info('%s: dropped replica "%s"', self._who(), event.name)
        self._session.dropped()
