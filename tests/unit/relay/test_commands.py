"""Replication commands and the queries beside them: what they ask, and what refuses the others."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logship.lsn import Lsn
from logship.relay import commands, events
from logship.relay.catalogue import PUBLICATION_TABLES, Answer
from logship.relay.events import CreateSlot, DropSlot, Identify, ReadSlot, Show, Snapshot, StartReplication
from logship.relay.messages import Column
from logship.relay.refusal import Refused
from logship.relay.scanner import MAX_TOKENS


def slot(snapshot: Snapshot = Snapshot.EXPORT, *, temporary: bool = False) -> CreateSlot:
    return CreateSlot("s", "pgoutput", temporary, snapshot)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("IDENTIFY_SYSTEM", Identify()),
        (" identify_System\n;", Identify()),
        ('SHOW "logship.primary"', Show("logship.primary")),
        ("show Logship.Primary;", Show("logship.primary")),
        ("READ_REPLICATION_SLOT s", ReadSlot("s")),
        ('READ_REPLICATION_SLOT "s"', ReadSlot("s")),
        ("DROP_REPLICATION_SLOT s", DropSlot("s", False)),
        ("DROP_REPLICATION_SLOT S WAIT", DropSlot("s", True)),
        # psycopg2
        ('CREATE_REPLICATION_SLOT "s" LOGICAL "pgoutput"', slot()),
        # PostgreSQL before 15
        ("CREATE_REPLICATION_SLOT s TEMPORARY LOGICAL pgoutput", slot(temporary=True)),
        ("CREATE_REPLICATION_SLOT s LOGICAL pgoutput NOEXPORT_SNAPSHOT", slot(Snapshot.NOTHING)),
        ("CREATE_REPLICATION_SLOT s LOGICAL pgoutput EXPORT_SNAPSHOT", slot()),
        # pg_recvlogical, CREATE SUBSCRIPTION
        ("CREATE_REPLICATION_SLOT \"s\" LOGICAL \"pgoutput\" ( SNAPSHOT 'nothing')", slot(Snapshot.NOTHING)),
        ("CREATE_REPLICATION_SLOT \"s\" LOGICAL pgoutput (SNAPSHOT 'export', TWO_PHASE false)", slot()),
        ("CREATE_REPLICATION_SLOT s LOGICAL pgoutput (two_phase 0, failover 'off')", slot()),
        # psycopg2, then an apply worker of 15 and of 18
        ('START_REPLICATION SLOT "s" LOGICAL 00000000/00000000', StartReplication("s", Lsn(0), {})),
        (
            "START_REPLICATION SLOT \"s\" LOGICAL 0/16B3748 (proto_version '3', publication_names '\"p\"')",
            StartReplication("s", Lsn(0x16B3748), {"proto_version": "3", "publication_names": '"p"'}),
        ),
        (
            "START_REPLICATION SLOT s LOGICAL a/0 (proto_version '4', streaming 'parallel', origin 'any', "
            "publication_names '\"it''s \"\"p\"', binary 'true')",
            StartReplication(
                "s", Lsn(0xA00000000),
                {"proto_version": "4", "streaming": "parallel", "origin": "any",
                 "publication_names": "\"it's \"\"p\"", "binary": "true"},
            ),
        ),
        ("START_REPLICATION SLOT s LOGICAL 0/0 (\"logship\" '1', messages)",
         StartReplication("s", Lsn(0), {"logship": "1", "messages": "true"})),
        ("", None),
        (" ; ", None),
    ],
)  # fmt: skip
def test_a_command(text: str, command: commands.Command | None) -> None:
    assert commands.parse(text) == command


@pytest.mark.parametrize(
    ("text", "sqlstate"),
    [
        ("IDENTIFY_SYSTEM;;", "42601"),
        ("IDENTIFY_SYSTEM; IDENTIFY_SYSTEM", "42601"),
        ("IDENTIFY_SYSTEM -- now", "42601"),
        ("SHOW", "42601"),
        ("SHOW 'x'", "42601"),
        ("SHOW x.", "42601"),
        ("DROP_REPLICATION_SLOT", "42601"),
        ("DROP_REPLICATION_SLOT s NOW", "42601"),
        ('DROP_REPLICATION_SLOT "S"', "42602"),
        ('DROP_REPLICATION_SLOT "s', "42601"),
        ('DROP_REPLICATION_SLOT ""', "42601"),
        (f"DROP_REPLICATION_SLOT {'s' * 64}", "42602"),
        ("READ_REPLICATION_SLOT a.b", "42602"),
        ("CREATE_REPLICATION_SLOT s", "42601"),
        ("CREATE_REPLICATION_SLOT s PHYSICAL", "0A000"),
        ("CREATE_REPLICATION_SLOT s LOGICAL test_decoding", "0A000"),
        ("CREATE_REPLICATION_SLOT s LOGICAL pgoutput USE_SNAPSHOT", "0A000"),
        ("CREATE_REPLICATION_SLOT s LOGICAL pgoutput (SNAPSHOT 'use')", "0A000"),
        ("CREATE_REPLICATION_SLOT s LOGICAL pgoutput (SNAPSHOT 'foo')", "22023"),
        ("CREATE_REPLICATION_SLOT s LOGICAL pgoutput TWO_PHASE", "0A000"),
        ("CREATE_REPLICATION_SLOT s LOGICAL pgoutput (TWO_PHASE)", "0A000"),
        ("CREATE_REPLICATION_SLOT s LOGICAL pgoutput (TWO_PHASE maybe)", "42601"),
        ("CREATE_REPLICATION_SLOT s LOGICAL pgoutput (bogus 1)", "42601"),
        ("CREATE_REPLICATION_SLOT s LOGICAL pgoutput (two_phase 0, two_phase 0)", "42601"),
        ("CREATE_REPLICATION_SLOT s LOGICAL pgoutput ()", "42601"),
        ("CREATE_REPLICATION_SLOT s LOGICAL pgoutput (two_phase", "42601"),
        ("START_REPLICATION 0/0", "0A000"),
        ("START_REPLICATION SLOT s 0/0", "0A000"),
        ("START_REPLICATION SLOT s PHYSICAL 0/0", "0A000"),
        ("START_REPLICATION SLOT s LOGICAL", "42601"),
        ("START_REPLICATION SLOT s LOGICAL 0", "42601"),
        ("START_REPLICATION SLOT s LOGICAL 0/123456789", "42601"),
        ("START_REPLICATION SLOT s LOGICAL 0/0 (a '1', a '1')", "42601"),
        ("START_REPLICATION SLOT s LOGICAL 0/0 (a 1)", "42601"),
        ("START_REPLICATION SLOT s LOGICAL 0/0 ()", "42601"),
        ("START_REPLICATION SLOT s LOGICAL 0/0 (a '1'", "42601"),
        ("BASE_BACKUP", "0A000"),
        ("TIMELINE_HISTORY 1", "0A000"),
        ("ALTER_REPLICATION_SLOT s (failover)", "0A000"),
        ("(", "0A000"),
        ("select 1", "0A000"),
        ("BEGIN", "0A000"),
        ("x " * (MAX_TOKENS + 1), "54001"),
    ],
)
def test_a_command_that_is_refused(text: str, sqlstate: str) -> None:
    with pytest.raises(Refused) as refused:
        commands.parse(text)
    assert refused.value.refusal.sqlstate == sqlstate
    assert not refused.value.refusal.fatal


def test_a_refusal_does_not_repeat_what_was_sent() -> None:
    for text in (
        "alter role r password 'tops3cret'",
        "SHOW 'tops3cret'",
        'DROP_REPLICATION_SLOT "tops3cret!"',
    ):
        with pytest.raises(Refused) as refused:
            commands.parse(text)
        assert "tops3cret" not in str(refused.value.refusal)


# -- what subscriptions and pg_recvlogical ask ---------------------------------------------------


def test_the_query_that_every_walreceiver_begins_with() -> None:
    answer = commands.parse("SELECT pg_catalog.set_config('search_path', '', false);")
    assert answer == Answer((Column("set_config"),), (("",),), "SELECT 1")


def test_refresh_publication() -> None:
    """As src/backend/commands/subscriptioncmds.c spells it, for a server of 15 and for one before."""
    text = (
        "SELECT DISTINCT t.schemaname, t.tablename \n, t.attnames\nFROM pg_catalog.pg_publication_tables t\n"
        " WHERE t.pubname IN ('p', 'it''s')"
    )
    assert commands.parse(text) == events.PublicationTables(("p", "it's"), with_columns=True)
    assert commands.parse(text.replace(", t.attnames", "")) == events.PublicationTables(("p", "it's"), False)
    assert [column.name for column in PUBLICATION_TABLES] == ["schemaname", "tablename", "attnames"]
    check = "SELECT t.pubname FROM\n pg_catalog.pg_publication t WHERE\n t.pubname IN ('p')"
    assert commands.parse(check) == events.Publications(("p",))


@pytest.mark.parametrize(
    "text",
    [
        "SELECT pg_catalog.set_config('search_path', 'public', false)",
        "SELECT pg_catalog.set_config('search_path', '', false); drop table t",
        "SELECT pg_catalog.set_config('search_path', '', false);;",
        "SELECT \"pg_catalog\".set_config('search_path', '', false)",
        "SELECT t.pubname FROM pg_catalog.pg_publication t WHERE t.pubname IN ()",
        "SELECT t.pubname FROM pg_catalog.pg_publication t WHERE t.pubname IN ('p'",
        "SELECT t.pubname FROM pg_catalog.pg_publication t WHERE t.pubname IN ('p') or true",
        "SELECT t.pubname FROM pg_catalog.pg_publication t WHERE t.pubname IN (p)",
    ],
)
def test_only_the_known_queries_are_known(text: str) -> None:
    with pytest.raises(Refused) as refused:
        commands.parse(text)
    assert refused.value.refusal.sqlstate == "0A000"
    assert "copy_data = false" in refused.value.refusal.hint


def test_settings_that_every_relay_has_are_answered() -> None:
    assert commands.parse("SHOW data_directory_mode") == Answer(
        (Column("data_directory_mode"),), (("0700",),), "SHOW"
    )
    assert commands.parse("SHOW Server_Version", replication=False) == Answer(
        (Column("server_version"),), (("15.0",),), "SHOW"
    )
    with pytest.raises(Refused):
        commands.parse("IDENTIFY_SYSTEM", replication=False)


names = st.from_regex(r"\A[a-z0-9_]{1,63}\Z")
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@settings(deadline=None)
@given(names, st.integers(0, 2**64 - 1).map(Lsn), st.dictionaries(texts.filter(bool), texts, max_size=4))
def test_quoted_names_and_strings_are_read_back(name: str, lsn: Lsn, options: dict[str, str]) -> None:
    listed = ", ".join(
        "\"{}\" '{}'".format(key.replace('"', '""'), value.replace("'", "''"))
        for key, value in options.items()
    )
    text = f'START_REPLICATION SLOT "{name}" LOGICAL {lsn}' + (f" ({listed})" if options else "")
    assert commands.parse(text) == StartReplication(name, lsn, options)


SPOKEN = """
    IDENTIFY_SYSTEM SHOW START_REPLICATION CREATE_REPLICATION_SLOT DROP_REPLICATION_SLOT SLOT LOGICAL PHYSICAL
    READ_REPLICATION_SLOT s pgoutput ( ) , ; . 0/0 '1' "x" TEMPORARY two_phase SNAPSHOT 'use' 'nothing' WAIT
    SELECT 7 t.pubname FROM pg_catalog.pg_publication_tables
"""
WORDS = st.sampled_from(SPOKEN.split())


@settings(deadline=None)
@given(texts | st.lists(WORDS, max_size=12).map(" ".join))
def test_any_text_is_a_command_or_refused(text: str) -> None:
    try:
        commands.parse(text)
    except Refused as refused:
        assert refused.refusal.message
