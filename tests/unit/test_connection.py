from __future__ import annotations

import traceback

import psycopg
import pytest

from logship.connection import Side, connect, describe, unreachable
from logship.errors import PrimaryError, SecondaryError, UsageError, reason_of, waited_out


def test_a_conninfo_that_cannot_be_read_is_not_quoted() -> None:
    """libpq would name the word that it stumbled over: half of a password with a space in it."""
    with pytest.raises(UsageError) as caught:
        connect("host=a password=ge heim", Side.PRIMARY)
    shown = "".join(traceback.format_exception(caught.value)) + caught.value.hint
    assert "heim" not in shown.replace('connect("host=a password=ge heim"', "")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("password", ["ge@heim", "heim/x"])
def test_a_part_of_a_password_that_libpq_takes_for_host_or_port_is_not_quoted(password: str) -> None:
    """Characters of a URI that were to be written as %40, %2F …"""
    conninfo = f"postgresql://u:{password}@nowhere.invalid/d"
    with pytest.raises(UsageError) as caught:
        connect(conninfo, Side.PRIMARY)
    assert "heim" not in str(caught.value) + caught.value.hint + describe(conninfo)
    assert "%40" in caught.value.hint


def test_sockets_and_lists_of_hosts_are_hosts() -> None:
    for host in ("/tmp/a@b", "@abstract", "a,b", "::1"):
        assert describe(f"host={host} port=5432,") == f"host={host} port=5432,"


@pytest.mark.parametrize(
    ("side", "kind", "code"), [(Side.PRIMARY, PrimaryError, 3), (Side.SECONDARY, SecondaryError, 4)]
)
def test_a_refused_connection_says_why_and_where(side: Side, kind: type[Exception], code: int) -> None:
    with pytest.raises(kind) as caught:
        connect("host=127.0.0.1 port=1 dbname=x user=u password=geheim", side)
    error = caught.value
    assert str(error) == (
        f"can't connect to the {side.value} (host=127.0.0.1 port=1 dbname=x user=u): Connection refused"
    )
    assert error.exit_code == code  # type: ignore[attr-defined]
    assert "psql" in error.hint  # type: ignore[attr-defined]
    assert isinstance(error.__cause__, psycopg.OperationalError)


def test_describe_shows_no_password() -> None:
    assert describe("postgresql://u:geheim@h:5/d?sslpassword=x") == "host=h port=5 dbname=d user=u"
    assert describe("host=a password=ge heim") == "unreadable conninfo"
    assert describe("") == "libpq's defaults"


@pytest.mark.parametrize(
    ("text", "reason", "hinted"),
    [
        ('FATAL:  password authentication failed for user "u"', "credentials", True),
        ("fe_sendauth: no password supplied", "credentials", True),
        ('FATAL:  no pg_hba.conf entry for host "::1", user "u"', "credentials", True),
        ('FATAL:  role "u" does not exist', "credentials", True),
        ('FATAL:  database "d" does not exist', "no_database", True),
        ('FATAL:  permission denied for database "d"', "link_lost", False),
        ("Connection refused", "link_lost", False),
    ],
)
def test_what_waiting_does_not_mend_is_said_with_what_does(text: str, reason: str, hinted: bool) -> None:
    error = unreachable(Side.PRIMARY, "host=h", psycopg.OperationalError(f"connection failed: {text}"))
    assert reason_of(error) == reason
    assert (error.hint in waited_out(error)) is hinted
    assert error.message in waited_out(error)
