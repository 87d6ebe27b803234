"""The few queries and settings that clients of the replication protocol ask for beside its commands.

In: the words of a query. Out: an event for what the pump must look up, or an `Answer` for what is the same
for every relay; `Refused` for any other SQL. A query is known when it is word for word one of these, names
in it apart: nothing is interpreted. Pure.

Source: src/backend/replication/libpqwalreceiver/libpqwalreceiver.c,
src/backend/commands/subscriptioncmds.c (fetch_table_list, check_publications), src/bin/pg_basebackup/streamutil.c.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from logship.relay.events import Publications, PublicationTables
from logship.relay.messages import NAME, NAME_ARRAY, Column
from logship.relay.refusal import NOT_SUPPORTED, Refusal, Refused
from logship.relay.scanner import Kind, Token, Words, scan

SERVER_VERSION: Final = "15.0"  # what a subscriber of 16 and later asks is shaped by it

# What every client is told when it is in; `user` and `application_name` come from its startup packet.
PARAMETERS: Final = {
    "server_version": SERVER_VERSION,
    "server_encoding": "UTF8",
    "client_encoding": "UTF8",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "integer_datetimes": "on",
    "standard_conforming_strings": "on",
    "is_superuser": "off",
    "in_hot_standby": "off",
    "default_transaction_read_only": "off",
}
_SETTINGS: Final = {name.lower(): value for name, value in PARAMETERS.items()} | {
    "data_directory_mode": "0700",
    "wal_segment_size": "16MB",
    "server_version_num": "150000",
}

PUBLICATION_TABLES: Final = (
    Column("schemaname", NAME), Column("tablename", NAME), Column("attnames", NAME_ARRAY),
)  # fmt: skip
PUBLICATIONS: Final = (Column("pubname", NAME),)


@dataclass(frozen=True, slots=True)
class Answer:
    """A result that needs no looking up."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str | None, ...], ...]
    tag: str


Query = Answer | PublicationTables | Publications

_NAMES: Final = "…"  # stands for a list of strings in parentheses
_TABLES: Final = f"from pg_catalog.pg_publication_tables t where t.pubname in {_NAMES}"
_UNKNOWN: Final = Refusal(
    NOT_SUPPORTED,
    "this query is not served by the relay",
    "the relay serves replication commands and what subscriptions ask: ask the primary for anything else, and "
    "subscribe with connect = false and copy_data = false",
)


def _template(text: str) -> tuple[Token | None, ...]:
    """The tokens of ``text``; None where names go."""
    before, found, _ = text.partition(_NAMES)
    return (*scan(before)[:-1], None) if found else scan(before)[:-1]


_SET_CONFIG: Final = _template("select pg_catalog.set_config('search_path', '', false)")
_WITH_COLUMNS: Final = _template(f"select distinct t.schemaname, t.tablename, t.attnames {_TABLES}")
_WITHOUT_COLUMNS: Final = _template(f"select distinct t.schemaname, t.tablename {_TABLES}")
_PUBLICATIONS: Final = _template(
    f"select t.pubname from pg_catalog.pg_publication t where t.pubname in {_NAMES}"
)


def parse(words: Words) -> Query:
    """The known query that ``words`` are, to their end."""
    tokens = words.rest()
    if _matches(tokens, _SET_CONFIG) is not None:
        return Answer((Column("set_config"),), (("",),), "SELECT 1")
    names = _matches(tokens, _WITH_COLUMNS)
    if names is not None:
        return PublicationTables(names, with_columns=True)
    names = _matches(tokens, _WITHOUT_COLUMNS)
    if names is not None:
        return PublicationTables(names, with_columns=False)
    names = _matches(tokens, _PUBLICATIONS)
    if names is not None:
        return Publications(names)
    raise Refused(_UNKNOWN)


def setting(name: str) -> Answer | None:
    """The answer to SHOW, when it is the same for every relay."""
    value = _SETTINGS.get(name.lower())
    return None if value is None else Answer((Column(name.lower()),), ((value,),), "SHOW")


def _matches(tokens: tuple[Token, ...], template: tuple[Token | None, ...]) -> tuple[str, ...] | None:
    """The names where the template has a place for them (none: empty); None when it is another query."""
    words = Words(tokens)
    names: tuple[str, ...] = ()
    for wanted in template:
        if wanted is None:
            try:
                names = _names(words)
            except Refused:
                return None
        elif words.take() != wanted:
            return None
    words.has(Kind.MARK, ";")
    return names if words.next.kind is Kind.END else None


def _names(words: Words) -> tuple[str, ...]:
    """A list of strings in parentheses."""
    words.expect(Kind.MARK, "(")
    names = [words.expect(Kind.STRING)]
    while words.has(Kind.MARK, ","):
        names.append(words.expect(Kind.STRING))
    words.expect(Kind.MARK, ")")
    return tuple(names)
