"""A policy that can't be met, with degrade: commits wait so long and go on, and the replica is fractured everywhere;
when it returns it catches up, and is in sync by itself."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

from logship.service.demo.servers import Server
from tests.acceptance.relayed import Relayed, free_port, streams
from tests.servers import Database, Logship, eventually

STATE = "select coalesce(state, '') from logship.stat_replication where application_name = 'one'"


class Seen:
    """What view, status and figures say of the replica and of the policy."""

    def __init__(self, primary: Database, logship: Logship, port: int) -> None:
        self._primary = primary
        self._logship = logship
        self._url = f"http://127.0.0.1:{port}/metrics"

    def figures(self) -> str:
        with urlopen(self._url) as answer:
            return str(answer.read().decode())

    def policy_is(self, state: str) -> bool:
        return f'logship_relay_policy_state{{state="{state}"}} 1.0' in self.figures()

    def everywhere(self, state: str, policy: str) -> None:
        eventually(lambda: self.policy_is(policy), 30, what=f"the policy is {policy}")
        eventually(lambda: self._primary.value(STATE) == state, 30, what=f"the replica is {state}")
        assert f'logship_relay_replica_state{{replica="one",state="{state}"}} 1.0' in self.figures()
        arguments = ("status", "--primary", self._primary.conninfo)
        (shipper,) = json.loads(self._logship.run(*arguments, "--json").stdout)["shippers"]
        (replica,) = shipper["replicas"]
        assert (shipper["epoch"], replica["replica"], replica["state"]) == (1, "one", state)
        assert state in self._logship.run(*arguments).stdout


def test_a_policy_that_cannot_be_met_degrades_and_comes_back_by_itself(
    make_server: Callable[..., Server], secondary: Database, logship: Logship, tmp_path: Path
) -> None:
    primary = Database(make_server("degrading", durable=False), "postgres")
    primary.execute("create table t (id int primary key)")
    relayed, metrics = Relayed(logship, tmp_path, primary), free_port()
    relayed.init(secondary, "one")
    shipper = streams(
        relayed.ship(
            "--synchronous", "ANY 1 (one)", "--when-unmet", "degrade", "--degrade-after", "1s",
            "--metrics", f"127.0.0.1:{metrics}",
        )
    )  # fmt: skip
    replayer = streams(relayed.replay(secondary, "one"))
    seen = Seen(primary, logship, metrics)
    primary.execute("alter system set synchronous_standby_names = 'logship'")
    primary.execute("select pg_reload_conf()")
    primary.execute("insert into t values (1)")
    seen.everywhere("streaming", "in sync")
    replayer.kill()
    done = threading.Event()

    def commit() -> None:
        primary.execute("insert into t values (2)")
        done.set()

    waiting = threading.Thread(target=commit)
    waiting.start()
    eventually(lambda: seen.policy_is("blocked"), what="the commit waits")
    assert not done.is_set()
    waiting.join(30)
    assert done.is_set()  # after a second, for the shipper's journal alone
    seen.everywhere("fractured", "fractured")
    replayer = streams(relayed.replay(secondary, "one"))
    seen.everywhere("streaming", "in sync")
    primary.execute("set synchronous_commit = remote_apply; insert into t values (3)")
    assert secondary.execute("select id from t order by id") == [(1,), (2,), (3,)]
    assert (replayer.terminate(20).exit_code, shipper.terminate(20).exit_code) == (0, 0)
