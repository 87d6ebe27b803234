"""What init waits for, it names."""

from __future__ import annotations

import threading
from collections.abc import Callable

import psycopg

from logship.service.demo.servers import Server
from logship.service.initial.init import Progress, initialise
from tests.servers import Database, eventually


def test_commits_that_wait_for_a_synchronous_standby(
    make_server: Callable[..., Server], make_database: Callable[[Server], Database], secondary: Database
) -> None:
    server = make_server("waits", durable=False)
    primary = make_database(server)
    primary.execute("create table public.t (a int primary key)")
    primary.execute("alter system set synchronous_standby_names = 'nobody'")
    primary.execute("select pg_reload_conf()")
    told: list[str] = []

    def tell(progress: Progress) -> None:
        told.append(progress.text)

    waiting = psycopg.connect(primary.conninfo, autocommit=True)
    committer = threading.Thread(target=lambda: waiting.execute("insert into public.t values (1)"))
    init = threading.Thread(
        target=initialise, args=(primary.conninfo, secondary.conninfo), kwargs={"progress": tell}
    )
    committer.start()
    try:
        eventually(
            lambda: primary.value("select count(*) from pg_stat_activity where wait_event = 'SyncRep'")
        )
        init.start()
        eventually(lambda: any("wait for a synchronous standby" in text for text in told), 60)
    finally:
        with psycopg.connect(primary.conninfo, autocommit=True) as link:
            link.execute("set synchronous_commit = local")
            link.execute("alter system reset synchronous_standby_names")
            link.execute("select pg_reload_conf()")
        committer.join(20)
        init.join(60)
        waiting.close()
    assert secondary.value("select count(*) from public.t") == 1


def test_a_transaction_that_was_running_already(primary: Database, secondary: Database) -> None:
    primary.execute("create table public.t (a int primary key)")
    told: list[str] = []
    init = threading.Thread(
        target=initialise,
        args=(primary.conninfo, secondary.conninfo),
        kwargs={"progress": lambda progress: told.append(progress.text)},
    )
    with primary.connect(autocommit=False) as holder:
        holder.execute("insert into public.t values (1)")
        init.start()
        eventually(lambda: any("running already to end: 1" in text for text in told), 60)
        holder.commit()
    init.join(60)
    assert secondary.value("select count(*) from public.t") == 1
