"""A question to a memory that is there no more, as after a replay that began anew while it waited."""

from __future__ import annotations

import time

from logship.config import Cold
from logship.connection import Side, connect
from logship.lsn import Lsn
from logship.replay.memory.memory import Memory
from logship.replay.memory.reading import Order, Reading
from logship.replay.memory.store import Caster
from logship.service.memory.reader import MemoryReader, Work
from logship.service.memory.words import Came, Question
from logship.service.positions import Positions
from tests.servers import Database


class Nobody:
    """Reads nothing for memory, and has everything."""

    most = 1

    def start(self, order: Order, caster: Caster) -> Reading:
        raise AssertionError(order)

    def close(self) -> None: ...

    def reached(self, lsn: Lsn) -> bool:
        return True

    def wait(self, lsn: Lsn) -> None: ...


def test_it_is_answered_elsewhere(upgraded_secondary: Database) -> None:
    upgraded_secondary.execute(
        "insert into logship.replica (name, system_identifier, timeline, database, slot, publication, origin,"
        " keyless, created_at) values ('r', 1, 1, 'd', 's', 'p', 'o', 'full', now());"
        "insert into logship.position (replica, replay_lsn) values ('r', '0/10')"
    )
    closed = Memory(Nobody(), start_lsn=Lsn(0x10), budget_bytes=64 << 20, behind=Nobody())
    closed.close()
    reader = MemoryReader(
        "r", memory=lambda: closed, wake=lambda: None, switched_on=True, positions=Positions(), cold=Cold.PERSISTENCE
    )  # fmt: skip
    question = Question("select 1", ("public",), 5, 1 << 20)
    with connect(upgraded_secondary.conninfo, Side.SECONDARY) as link:
        head, _ = reader.answer(link, Work(question, link.info.user, time.monotonic() + 5))
    assert (head.came, head.reason) == (Came.ELSEWHERE, "memory is being made anew")
