"""The replicas that the primary names are registered, and those that it names no more aren't, also after a restart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from logship.catalog import migrate
from logship.connection import Side
from logship.lsn import Lsn
from logship.relay import policy
from logship.relay.synchrony import Block
from logship.relay.syncrep import SyncRep
from logship.service.crew import Crew
from logship.service.ship.registered import RegisteredReplicas
from logship.service.ship.registrar import Registrar
from logship.service.ship.replicas import Replicas
from tests.servers import Database, eventually

NOTED = "insert into logship.replica (name, slot, publication, created_at) values (%s, 's', 'p', now())"


@contextmanager
def registrar(primary: Database, directory: Path) -> Iterator[RegisteredReplicas]:
    registered = RegisteredReplicas(directory)
    replicas = Replicas(SyncRep(policy.parse(None), Block()), registered, lambda: None)
    part = Registrar(primary.conninfo, "s", registered, replicas, lambda: Lsn(10), interval_s=0.05)
    crew = Crew(part.stop)
    crew.start("registrar", part.run)
    try:
        yield registered
    finally:
        crew.stop()
        assert crew.join(20)
    assert crew.error is None


def names(registered: RegisteredReplicas) -> set[str]:
    return {replica.name for replica in registered.all()}


def test_a_replica_that_was_dropped_while_nobody_shipped_is_unregistered(
    primary: Database, tmp_path: Path
) -> None:
    migrate.upgrade(primary.conninfo, Side.PRIMARY)
    for name in ("a", "b"):
        with primary.connect() as connection:
            connection.execute(NOTED, [name])
    with registrar(primary, tmp_path) as registered:
        registered.add("client", Lsn(5))  # with CREATE_REPLICATION_SLOT: the primary doesn't know it
        eventually(lambda: {"a", "b"} <= names(registered), what="both are registered")
        registered.drop("b")  # DROP_REPLICATION_SLOT by a client; `init` makes it anew
        eventually(lambda: {"a", "b"} <= names(registered), what="one that is named is registered again")
        primary.execute("delete from logship.replica where name = 'a'")
        eventually(lambda: names(registered) == {"b", "client"}, what="the one that went is unregistered")
    primary.execute("delete from logship.replica where name = 'b'")
    with registrar(primary, tmp_path) as registered:
        eventually(lambda: names(registered) == {"client"}, what="so is the other, after a restart")
    assert names(RegisteredReplicas(tmp_path)) == {"client"}
