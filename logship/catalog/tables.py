"""logship's own tables, as SQLAlchemy declares them: what the Alembic revisions must add up to.

In: nothing. Out: one `MetaData` for each side, all of it in the schema ``logship``. The revisions
below ``migrations/`` are frozen history and never import this; a test compares the two. Views and
functions are not declared here: they are public interface, written down in the revisions' SQL.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Numeric,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import INET, OID
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.types import UserDefinedType

from logship.connection import Side

SCHEMA: Final = "logship"
# Functions that run with the rights of a table's owner. Nobody but the replayer may use this schema:
# a function's owner could otherwise name it in ALTER FUNCTION … SECURITY INVOKER.
WRITERS: Final = "logship_writers"


class PgLsn(UserDefinedType[str]):
    """PostgreSQL's pg_lsn, which SQLAlchemy doesn't have; its values are its text."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "pg_lsn"


ischema_names["pg_lsn"] = PgLsn  # so that comparing a database with these tables knows the type

PRIMARY: Final = MetaData(schema=SCHEMA)
SECONDARY: Final = MetaData(schema=SCHEMA)


def metadata(side: Side) -> MetaData:
    return PRIMARY if side is Side.PRIMARY else SECONDARY


def _time(name: str, *, nullable: bool = True) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


def _counter(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=text("0"))


def _replica(*, primary_key: bool = True) -> Column[str]:
    return Column(
        "replica",
        Text,
        ForeignKey(f"{SCHEMA}.replica.name", ondelete="CASCADE"),
        primary_key=primary_key,
        nullable=False,
    )


primary_replica: Final = Table(
    "replica",
    PRIMARY,
    Column("name", Text, primary_key=True),
    Column("slot", Text, nullable=False),
    Column("publication", Text, nullable=False),
    _time("created_at", nullable=False),
    _time("initialised_at"),
    # Whose name it is: two machines' sockets look the same.
    Column("secondary_system_identifier", Numeric(20)),
    Column("secondary_database", Text),
    comment="one row per replica that logship init made",
)

identity_set: Final = Table(
    "identity_set",
    PRIMARY,
    Column("schemaname", Text, primary_key=True),
    Column("relname", Text, primary_key=True),
    Column("before", Text, nullable=False),
    comment="tables that logship init gave REPLICA IDENTITY FULL, and what they had: default or nothing",
)

# One half of each key; the other lies in a materialized view: see the revision's ddl_key.sql.
primary_ddl_key: Final = Table(
    "ddl_key",
    PRIMARY,
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    comment="keys that sign schema changes, one half of each; the other is logship.ddl_share",
)

ddl_setting: Final = Table(
    "ddl_setting",
    PRIMARY,
    Column("on_failure", Text, primary_key=True),  # error: the statement fails; warn: the replica is marked
    Column("keyless", Text, nullable=False, server_default=text("'full'")),
    Column("sequence_margin", Integer, nullable=False, server_default=text("10000")),
    Column("rewrite_echo_bytes", BigInteger, nullable=False, server_default=text("16777216")),
    comment="what becomes of a schema change that can't be written into the log, and of new tables without key",
)

ddl_failure: Final = Table(
    "ddl_failure",
    PRIMARY,
    _time("failed_at", nullable=False),
    Column("xid", BigInteger, nullable=False),
    Column("tag", Text, nullable=False),
    Column("error", Text, nullable=False),
    comment="schema changes that are in no log, because on_failure was warn",
)

ddl_echo: Final = Table(
    "ddl_echo",
    PRIMARY,
    Column("relation", OID, primary_key=True, autoincrement=False),
    Column("xid", BigInteger, nullable=False),
    Column("mode", Text, nullable=False),
    prefixes=["UNLOGGED"],
    comment="tables that a statement under way rewrites, and whose rows follow it into the log",
)

ddl_sequence: Final = Table(
    "ddl_sequence",
    PRIMARY,
    Column("relation", OID, primary_key=True, autoincrement=False),
    Column("value", BigInteger),
    Column("ahead", BigInteger),
    _time("sent_at", nullable=False),
    comment="what each sequence had reached when it was last written into the log, and what was written",
)

secondary_ddl_key: Final = Table(
    "ddl_key",
    SECONDARY,
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    comment="keys that sign the primary's schema changes, one half of each; the other is logship.ddl_share",
)

# The last that started is the only one: logship.service.ship.epoch.
shipper: Final = Table(
    "shipper",
    PRIMARY,
    Column("slot", Text, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    _time("started_at", nullable=False),
    Column("host", Text),
    Column("pid", Integer),
    Column("journal", Text),  # identity of the one it is read into; null: none since the slot was made
    comment="who reads each slot: the last that started, and with it a higher epoch, is the only one",
)

replication_report: Final = Table(
    "replication_report",
    PRIMARY,
    Column("slot", Text, primary_key=True),
    Column("replica", Text, primary_key=True),
    Column("pid", Integer),
    Column("usename", Text),
    Column("client_addr", INET),
    Column("client_port", Integer),
    _time("backend_start"),
    Column("state", Text),
    Column("sent_lsn", PgLsn),
    Column("write_lsn", PgLsn),
    Column("flush_lsn", PgLsn),
    Column("replay_lsn", PgLsn),
    Column("write_lag", Interval),
    Column("flush_lag", Interval),
    Column("replay_lag", Interval),
    Column("sync_priority", Integer),
    Column("sync_state", Text),
    _time("reply_time"),
    _time("reported_at", nullable=False),
    prefixes=["UNLOGGED"],
    comment="what the shipper last reported of its replicas; emptied by a crash of this server",
)

replica: Final = Table(
    "replica",
    SECONDARY,
    Column("name", Text, primary_key=True),
    Column("system_identifier", Numeric(20), nullable=False),
    Column("timeline", Integer, nullable=False),
    Column("database", Text, nullable=False),
    Column("slot", Text, nullable=False),
    Column("publication", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("keyless", Text, nullable=False),
    Column("snapshot_lsn", PgLsn),
    _time("created_at", nullable=False),
    _time("initialised_at"),  # null: init did not finish
    # What --tables and --exclude said; nothing: all tables.
    Column("tables", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("excluded", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    Column("shipper_epoch", BigInteger),  # the highest that a shipper it followed had; null: none yet
    comment="one row per replica kept in this database; initialised_at NULL: init did not finish",
)

# One row, updated with every commit of the replayer: room on the page keeps those updates HOT.
position: Final = Table(
    "position",
    SECONDARY,
    _replica(),
    Column("replay_lsn", PgLsn, nullable=False),
    _time("commit_time"),
    _counter("transactions"),
    _counter("changes"),
    _counter("batches"),
    _counter("coalesced"),
    _counter("bytes"),
    postgresql_with={"fillfactor": 50},
    comment="how far each replica is, committed together with its rows; counters since init",
)

left_out: Final = Table(
    "left_out",
    SECONDARY,
    _replica(),
    Column("schemaname", Text, primary_key=True),
    Column("relname", Text, primary_key=True),
    comment="tables without replica identity that init was told to leave out",
)

# Tables that an init is filling: what may be emptied when that init is run again.
copy_progress: Final = Table(
    "copy_progress",
    SECONDARY,
    _replica(),
    Column("schemaname", Text, primary_key=True),
    Column("relname", Text, primary_key=True),
    _time("done_at"),
    Column("lsn", PgLsn),  # what the finished rows are true at
    Column("rows", BigInteger),
    comment="tables that an init is filling or has filled; empty once it has finished",
)

# Rows that another transaction put there are somebody else's.
copy_part: Final = Table(
    "copy_part",
    SECONDARY,
    _replica(),
    Column("schemaname", Text, primary_key=True),
    Column("relname", Text, primary_key=True),
    Column("xid", BigInteger, primary_key=True),
    comment="transactions of this server in which an init filled a table; empty once it has finished",
)

copy_made: Final = Table(
    "copy_made",
    SECONDARY,
    _replica(),
    Column("entry", Text, primary_key=True),
    comment="indexes and constraints that an init has made, by digest; empty once it has finished",
)

# A row goes when the position has passed its lsn.
copied: Final = Table(
    "copied",
    SECONDARY,
    _replica(),
    Column("schemaname", Text, primary_key=True),
    Column("relname", Text, primary_key=True),
    Column("lsn", PgLsn, nullable=False),
    Column("noticed", Boolean, nullable=False, server_default=text("false")),
    comment="tables whose rows are newer than the position: what was committed before lsn is passed over",
)

replay_report: Final = Table(
    "replay_report",
    SECONDARY,
    _replica(),
    Column("state", Text),
    Column("received_lsn", PgLsn),
    Column("flush_lsn", PgLsn),
    Column("memory_lsn", PgLsn),
    Column("primary_lsn", PgLsn),
    _time("primary_lsn_at"),  # by the primary's clock
    Column("received_lag", Interval),
    Column("flushed_lag", Interval),
    Column("memory_lag", Interval),
    Column("persistence_lag", Interval),
    Column("last_error", Text),
    _time("last_error_time"),
    _time("reported_at"),
    prefixes=["UNLOGGED"],
    comment="what the replayer last reported of itself; emptied by a crash of this server",
)

object_report: Final = Table(
    "object_report",
    SECONDARY,
    _replica(),
    Column("schemaname", Text, primary_key=True),
    Column("relname", Text, primary_key=True),
    Column("residence", Text),
    Column("rows", BigInteger),
    Column("bytes", BigInteger),
    Column("loads", BigInteger),
    Column("evictions", BigInteger),
    Column("dml_memory", BigInteger),
    Column("dml_persistence", BigInteger),
    Column("ddl_memory", BigInteger),
    Column("ddl_persistence", BigInteger),
    Column("last_change_lsn", PgLsn),
    Column("hits", BigInteger),
    Column("merges", BigInteger),
    Column("merge_time", Interval),
    Column("reason", Text),
    prefixes=["UNLOGGED"],
    comment="what the replayer last reported of each relation; emptied by a crash of this server",
)

skip: Final = Table(
    "skip",
    SECONDARY,
    _replica(),
    Column("lsn", PgLsn, primary_key=True),
    _time("asked_at", nullable=False),
    Column("asked_by", Text, nullable=False),
    _time("skipped_at"),
    Column("changes", BigInteger),
    comment="transactions that an operator named, to be passed over: logship skip",
)

ddl_skip: Final = Table(
    "ddl_skip",
    SECONDARY,
    _replica(),
    Column("lsn", PgLsn, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    _time("asked_at", nullable=False),
    Column("asked_by", Text, nullable=False),
    comment="schema changes that an operator named, to be passed over: logship ddl skip",
)

role_map: Final = Table(
    "role_map",
    SECONDARY,
    _replica(),
    Column("primary_role", Text, primary_key=True),
    Column("secondary_role", Text, nullable=False),
    comment="roles of the primary that have another name here: --map-role",
)

ddl_replayed: Final = Table(
    "ddl_replayed",
    SECONDARY,
    _replica(primary_key=False),
    Column("lsn", PgLsn, nullable=False),
    _time("replayed_at", nullable=False),
    Column("owner", Text),
    Column("tag", Text),
    Column("statement", Text),
    Column("target", Text),
    Column("made_from", Text),
    Column("duration", Interval),
    Column("number", BigInteger),
    Column("renamed", Text),  # types: what the log calls them until they are announced again, JSON
    Index("ddl_replayed_replica_lsn", "replica", "lsn"),
    comment="schema changes replayed here",
)

# A request of `logship verify` to the running replayer, see logship.service.replay.hold. Gone with a crash of the
# server, and then nobody is held.
hold: Final = Table(
    "hold",
    SECONDARY,
    _replica(),
    Column("token", Text, nullable=False),
    Column("up_to", PgLsn),  # null: stand where you are; else: replay what ends here or before, then stand
    Column("held_at", PgLsn),  # the replayer's answer: it stands, and persistence is there
    _time("expires_at", nullable=False),
    prefixes=["UNLOGGED"],
    comment="who asked the replayer to stand still for a moment; it goes on by itself at expires_at",
)

# What a command asks the running replayer about its memory, see logship.service.memory.answers. Gone with a
# crash of the server, like the hold.
memory_question: Final = Table(
    "memory_question",
    SECONDARY,
    _replica(),
    Column("token", Text, nullable=False),
    Column("number", Integer, nullable=False),  # of the question; 0: none was asked yet
    Column("question", Text),  # JSON
    Column("answered", Integer, nullable=False),  # the number of the question that the answer is for
    Column("answer", Text),  # JSON
    Column("pid", Integer),  # of the replayer's session that answers; null: it hasn't begun
    _time("expires_at", nullable=False),
    prefixes=["UNLOGGED"],
    comment="what a command asks the replayer about its memory, and the answer; over at expires_at",
)

# What clients ask the running replayer's memory, each through views that show a role its own rows: see
# logship.catalog.memory_request.
memory_request: Final = Table(
    "memory_request",
    SECONDARY,
    _replica(),
    Column("asker", Text, primary_key=True, nullable=False, server_default=text("current_user")),
    Column("slot", Integer, primary_key=True, autoincrement=False, nullable=False),
    Column("token", Text, nullable=False, unique=True),
    Column("question", Text, nullable=False),  # JSON
    Column("asked_at", DateTime(timezone=True), nullable=False, server_default=text("clock_timestamp()")),
    _time("expires_at", nullable=False),
    Column("pid", Integer),  # of the replayer's session that answers; null: none does yet
    Column("head", Text),  # JSON: what is said of the answer; its rows are memory_reply's
    prefixes=["UNLOGGED"],
    comment="what a client asks the replayer's memory, and what is said of the answer; over at expires_at",
)

memory_reply: Final = Table(
    "memory_reply",
    SECONDARY,
    Column("token", Text, ForeignKey(f"{SCHEMA}.memory_request.token", ondelete="CASCADE"), primary_key=True),
    Column("part", Integer, primary_key=True, autoincrement=False),
    Column("content", LargeBinary, nullable=False),
    prefixes=["UNLOGGED"],
    comment="rows that answer a question to memory: parts of an Arrow stream",
)
