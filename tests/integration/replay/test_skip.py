"""`logship skip`: one transaction that can't be replayed is named, passed over, noted; nothing else is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from logship.errors import ReplayError
from logship.lsn import Lsn
from tests.conftest import Pair
from tests.follow import Follower
from tests.servers import Logship


def ids(f: Follower, query: str) -> list[Any]:
    return [value for (value,) in f.secondary.execute(query)]


def test_a_transaction_is_passed_over(pair: Pair, logship: Logship, tmp_path: Path) -> None:
    pair.primary.execute("create table t (id int primary key, v text); create table u (id int primary key)")
    secondary = ("--secondary", pair.secondary.conninfo)

    def ask(command: str, *arguments: str, code: int = 0) -> Any:
        done = logship.run(command, *secondary, *arguments, "--json")
        assert done.exit_code == code, done.stderr
        return json.loads(done.stdout if code == 0 else done.stderr.splitlines()[0])

    with Follower(*pair, tmp_path) as f:
        f.catch_up()
        f.stop()
        # A row that only the secondary has; the transaction that meets it stands among many others in one batch.
        f.secondary.execute("insert into t values (5, 'of the secondary')")
        for number in range(1, 10):
            f.primary.execute(
                f"begin; insert into t values ({number}, 'v'); insert into u values ({number}); commit"
            )
        f.restart()
        error = f.failed()
        assert isinstance(error, ReplayError)
        named = re.search(r"transaction committed at (\S+):", error.message)
        assert named is not None, error.message
        assert f"logship skip --lsn {named[1]}" in error.hint
        assert ids(f, "select id from u order by 1") == [1, 2, 3, 4], "all before it is there"

        assert ask("skip", "--lsn", str(f.position), code=6)["kind"] == "RefusedAsUnsafe"
        assert "has not received" in ask("skip", "--lsn", "F/FFFFFFFF", code=6)["error"]
        other = ask("skip", "--lsn", str(Lsn(f.position + 1)))
        assert (other["new"], other["failing"]) == (True, f"--lsn {named[1]}")
        f.secondary.execute("delete from logship.skip")
        f.restart()
        assert isinstance(f.failed(), ReplayError), "nothing is skipped that isn't named"

        right = ask("skip", "--lsn", named[1])
        assert (right["new"], right["failing"]) == (True, None)
        assert ask("skip", "--lsn", named[1])["new"] is False
        assert ask("status")["replicas"][0]["skipped"][0]["skipped_at"] is None
        f.restart()
        f.catch_up()
        assert ids(f, "select id from u order by 1") == [1, 2, 3, 4, 6, 7, 8, 9]
        assert ids(f, "select v from t where id = 5") == ["of the secondary"]
        (noted,) = ask("status")["replicas"][0]["skipped"]
        assert (noted["lsn"], noted["changes"], noted["skipped_at"] is not None) == (named[1], 2, True)
        assert "(2 row changes)" in logship.run("status", *secondary).stdout

        # Memory holds what persistence holds, and the rest goes on in both.
        assert f.run.memory.query("select id from public.u where id = 5")[0].num_rows == 0
        f.primary.execute("insert into t values (10, 'v'); update u set id = 50 where id = 9")
        f.catch_up()
        assert ids(f, "select id from u where id > 8") == [50]

        sides = ("--primary", pair.primary.conninfo, *secondary)
        assert logship.run("verify", *sides).exit_code == 1
        repaired = logship.run("repair", *sides)
        assert repaired.exit_code == 0, repaired.stderr
        f.assert_equal()
