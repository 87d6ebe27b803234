"""Ways of the copy: encrypted, in ranges and frozen, and what `--schema existing` makes of tables without a key."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from psycopg import conninfo as libpq

from logship.connection import Side, connect
from logship.errors import LogshipError
from logship.service.compare.resync import resync
from logship.service.demo.servers import Server
from logship.service.initial.init import InitResult, initialise
from logship.snapshot.copy_stream import is_plain
from tests.conftest import Pair
from tests.follow import Follower, assert_equal
from tests.servers import Database, eventually

ROWS = (
    "create table public.large (a int primary key, b text);"
    "insert into public.large select n, repeat('x', 400) from generate_series(1, 90000) n;"
    "create table public.middle (a int primary key, b text);"
    "insert into public.middle select n, repeat('y', 100) from generate_series(1, 5000) n"
)
KEYLESS = "create table public.bare (a int); create table public.keyed (a int primary key)"


def run(pair: Pair, **options: Any) -> InitResult:
    return initialise(pair.primary.conninfo, pair.secondary.conninfo, **options)


@contextmanager
def encrypted(server: Server, directory: Path) -> Iterator[None]:
    """The server speaks TLS over TCP, with a certificate of its own making."""
    key, certificate = directory / "server.key", directory / "server.crt"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    installed = []
    for file, mode in ((key, 0o600), (certificate, 0o644)):
        there = server.data_directory / file.name
        subprocess.run(
            ["install", f"--mode={mode:o}", f"--owner={server.data_directory.owner()}", file, there],
            check=True,
        )
        installed.append(there)
    on = Database(server, "postgres")
    on.execute("alter system set ssl = on")
    server.reload()
    try:
        yield
    finally:
        on.execute("alter system reset ssl")
        server.reload()
        for file in installed:
            file.unlink()


def over_tls(database: Database) -> str:
    return libpq.make_conninfo(database.conninfo_as("postgres", tcp=True), sslmode="require")


def test_over_tls_in_ranges_and_frozen(pair: Pair, tmp_path: Path) -> None:
    """The bytes on the socket aren't the protocol's own: they pass through libpq. What one worker writes alone is
    frozen, also beside others; a table in ranges is written by several transactions, and can't be."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    pair.primary.execute(ROWS)
    with encrypted(pair.primary.server, tmp_path), encrypted(pair.secondary.server, tmp_path):
        primary, secondary = over_tls(pair.primary), over_tls(pair.secondary)
        eventually(lambda: is_encrypted(primary, Side.PRIMARY) and is_encrypted(secondary, Side.SECONDARY))
        # The one that is found by itself may be the wheel's, which has no TLS.
        result = initialise(primary, secondary, "tls", jobs=2, pg_dump=str(pair.primary.program("pg_dump")))
        assert (result.tables, result.rows) == (2, 95_000)
        assert_equal(pair.primary, pair.secondary)
        assert_frozen(pair.secondary)
        again = resync(primary, secondary, ["public.large"], "tls")
        assert again.tables == {'"public"."large"': 90_000}
        assert pair.secondary.value("select count(*) from public.large") == 90_000


def assert_frozen(secondary: Database) -> None:
    secondary.execute("analyze public.middle")  # counts the pages that the visibility map has
    # Since 16 a table grows by more pages than it needs: those without rows are in no map.
    filled = secondary.value("select count(distinct (ctid::text::point)[0]) from public.middle")
    visible = secondary.value("select relallvisible from pg_class where oid = 'public.middle'::regclass")
    assert filled == visible > 50
    transactions = "select count(distinct xmin::text) from public.{}"
    assert secondary.value(transactions.format("middle")) == 1
    assert secondary.value(transactions.format("large")) == 2


def is_encrypted(conninfo: str, side: Side) -> bool:
    """False, too, until the server has read its configuration again."""
    try:
        with connect(conninfo, side) as link:
            return not is_plain(link)
    except LogshipError:
        return False


@pytest.mark.parametrize("keyless", ["leave-out", "refuse"])
def test_tables_without_key_that_exist(pair: Pair, tmp_path: Path, keyless: Any) -> None:
    for side in pair:
        side.execute(KEYLESS)
    pair.primary.execute("insert into public.bare values (1), (1); insert into public.keyed values (1)")
    result = run(pair, schema="existing", keyless=keyless)
    left_out = keyless == "leave-out"
    assert result.left_out == (['"public"."bare"'] if left_out else [])
    identity = "select relreplident::text from pg_class where oid = 'public.bare'::regclass"
    assert (pair.primary.value(identity), pair.secondary.value(identity)) == ("f" if left_out else "d", "d")
    assert pair.secondary.value("select count(*) from public.bare") == (0 if left_out else 2)
    with Follower(pair.primary, pair.secondary, tmp_path, memory=False, initialised=True) as follower:
        pair.primary.execute("insert into public.bare values (2); insert into public.keyed values (2)")
        follower.catch_up()
    assert pair.secondary.value("select count(*) from public.bare") == (0 if left_out else 3)
    assert pair.secondary.value("select count(*) from public.keyed") == 2


def test_a_table_that_is_left_out_need_not_exist(pair: Pair) -> None:
    pair.primary.execute(KEYLESS)
    pair.secondary.execute("create table public.keyed (a int primary key)")
    assert run(pair, schema="existing", keyless="leave-out").left_out == ['"public"."bare"']


def test_a_second_replica_is_filled_while_the_first_follows(
    pair: Pair, tmp_path: Path, make_database: Callable[[Server], Database]
) -> None:
    """One slot, one log: the second is as of its own snapshot, and what it needs from there on is in the journal."""
    pair.primary.execute(KEYLESS + "; insert into public.bare select n % 7 from generate_series(1, 1000) n")
    with Follower(pair.primary, pair.secondary, tmp_path, memory=False, name="first") as first:
        second = make_database(pair.secondary.server)
        pair.primary.execute("insert into public.keyed select generate_series(1, 100)")
        result = initialise(pair.primary.conninfo, second.conninfo, "second", jobs=2)
        assert result.slot == pair.primary.value(
            "select slot_name from pg_replication_slots where not temporary and database = %s",
            [pair.primary.name],
        )
        assert_equal(pair.primary, second)
        pair.primary.execute(
            "insert into public.bare values (1), (1); update public.bare set a = 9 where a = 3;"
            "delete from public.keyed where a < 50"
        )
        first.assert_equal()
    with Follower(pair.primary, second, tmp_path, memory=False, initialised=True) as follower:
        follower.catch_up()
    assert_equal(pair.primary, second)
