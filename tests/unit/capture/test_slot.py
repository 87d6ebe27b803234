"""What is pure of the slot's client: its command, its judgements, the meaning of a server's errors."""

from __future__ import annotations

from dataclasses import replace

import pytest

from logship.capture.slot import start_command
from logship.capture.slot_state import Gap, SlotState, gap, judge
from logship.capture.stream_errors import stream_error
from logship.errors import PrimaryError, PublicationMissing, SlotActive, SlotLost, StreamBroken
from logship.lsn import INVALID, Lsn

FIT = SlotState("s", "pgoutput", "app", None, "reserved", Lsn(10), Lsn(20), None, None)


def test_names_are_quoted_as_identifiers_inside_a_string() -> None:
    assert start_command('a"b', ["p", "it's", 'q"r', "a,b.c"], Lsn(0x1_0000_00AB)) == (
        'START_REPLICATION SLOT "a""b" LOGICAL 1/AB (proto_version \'1\', '
        """publication_names '"p","it''s","q""r","a,b.c"', messages 'true')"""
    )


def test_a_fit_slot_passes() -> None:
    judge(FIT, "app")
    judge(replace(FIT, wal_status="unreserved"), "app")  # in danger, but all there


@pytest.mark.parametrize(
    ("state", "kind", "what"),
    [
        (replace(FIT, plugin="wal2json"), PrimaryError, "wal2json"),
        (replace(FIT, plugin=None, database=None), PrimaryError, "physical"),
        (replace(FIT, database="other"), PrimaryError, '"other"'),
        (replace(FIT, wal_status="lost", restart_lsn=INVALID), SlotLost, "lost"),
        (replace(FIT, wal_status="lost", invalidation="idle_timeout"), SlotLost, "idle_timeout"),
        (replace(FIT, invalidation="conflicting with recovery"), SlotLost, "conflicting"),
        (replace(FIT, active_pid=42), SlotActive, "process 42"),
    ],
)
def test_an_unfit_slot_says_why(state: SlotState, kind: type[PrimaryError], what: str) -> None:
    with pytest.raises(kind, match=what) as caught:
        judge(state, "app")
    assert caught.value.hint


def test_a_gap_is_what_the_slot_has_confirmed_and_the_journal_has_not() -> None:
    assert gap(FIT, Lsn(20)) is None
    assert gap(FIT, Lsn(30)) is None
    assert gap(FIT, Lsn(19)) == Gap(Lsn(19), Lsn(20))


@pytest.mark.parametrize(
    ("sqlstate", "message", "kind", "transient"),
    [
        (None, "server closed the connection unexpectedly", StreamBroken, True),
        (None, "", StreamBroken, True),
        ("57P01", "terminating connection due to administrator command", StreamBroken, True),
        ("42704", 'publication "p" does not exist', PublicationMissing, False),
        ("42704", "la publication « p » n'existe pas", StreamBroken, False),
        ("58P01", "requested WAL segment 0000 has already been removed", SlotLost, False),
        ("55006", 'replication slot "s" is active for PID 1', SlotActive, True),
        ("42501", "permission denied", StreamBroken, False),
        ("53300", "too many clients", StreamBroken, True),
    ],
)
def test_what_an_error_of_the_walsender_means(
    sqlstate: str | None, message: str, kind: type[PrimaryError], transient: bool
) -> None:
    error = stream_error(sqlstate, message, "s", ["o", "p"])
    assert type(error) is kind
    assert error.transient is transient
    assert error.sqlstate == sqlstate


def test_bytes_of_rows_are_not_repeated() -> None:
    error = stream_error("22021", 'invalid byte sequence for encoding "UTF8": 0xe9', "s", ["p"])
    assert "0xe9" not in str(error)


def test_a_missing_publication_is_known_in_any_language() -> None:
    error = stream_error("42704", "la publication « p » n'existe pas", "s", ["p"])
    assert isinstance(error, PublicationMissing)
    assert error.publication == "p"
