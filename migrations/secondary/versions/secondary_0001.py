"""The secondary's schema: replicas, positions, reports, and the public views.

Frozen history: what a revision needs stands in it, in files beside it or, where the two sides share it, in
``migrations/both``, and never in the package.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import UserDefinedType

revision = "secondary_0001"
down_revision = None
branch_labels = None
depends_on = None


class PgLsn(UserDefinedType):
    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "pg_lsn"


def _replica(*, primary_key: bool = True) -> sa.Column:
    return sa.Column(
        "replica",
        sa.Text,
        sa.ForeignKey("logship.replica.name", ondelete="CASCADE"),
        primary_key=primary_key,
        nullable=False,
    )


def _time(name: str, *, nullable: bool = True) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _relation() -> list[sa.Column]:
    return [
        sa.Column("schemaname", sa.Text, primary_key=True),
        sa.Column("relname", sa.Text, primary_key=True),
    ]


def upgrade() -> None:
    _state()
    _reports()
    _ddl_key()
    here = Path(__file__).parent / "secondary_0001"
    both = Path(__file__).parents[2] / "both" / "0001"  # the same text on either side, to the letter
    for file in (
        here / "views.sql",
        here / "memory_request.sql",
        here / "wait_for.sql",
        here / "advance.sql",
        here / "notice_copies.sql",
        here / "session_origin.sql",
        here / "note_mended.sql",
        both / "ddl_facts.sql",
        both / "ddl_key.sql",
        here / "rights.sql",
    ):
        op.execute(sa.text(file.read_text(encoding="utf-8").replace(":", "\\:")))


def _state() -> None:
    op.create_table(
        "replica",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("system_identifier", sa.Numeric(20), nullable=False),
        sa.Column("timeline", sa.Integer, nullable=False),
        *(
            sa.Column(name, sa.Text, nullable=False)
            for name in ("database", "slot", "publication", "origin", "keyless")
        ),
        sa.Column("snapshot_lsn", PgLsn),
        _time("created_at", nullable=False),
        _time("initialised_at"),
        *(
            sa.Column(name, sa.ARRAY(sa.Text), nullable=False, server_default=sa.text("'{}'"))
            for name in ("tables", "excluded")
        ),
        sa.Column("shipper_epoch", sa.BigInteger),
        schema="logship",
        comment="one row per replica kept in this database; initialised_at NULL: init did not finish",
    )
    op.create_table(
        "position",
        _replica(),
        sa.Column("replay_lsn", PgLsn, nullable=False),
        _time("commit_time"),
        *(
            sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0"))
            for name in ("transactions", "changes", "batches", "coalesced", "bytes")
        ),
        schema="logship",
        postgresql_with={"fillfactor": 50},
        comment="how far each replica is, committed together with its rows; counters since init",
    )
    op.create_table(
        "left_out",
        _replica(),
        *_relation(),
        schema="logship",
        comment="tables without replica identity that init was told to leave out",
    )
    op.create_table(
        "copy_progress",
        _replica(),
        *_relation(),
        _time("done_at"),
        sa.Column("lsn", PgLsn),
        sa.Column("rows", sa.BigInteger),
        schema="logship",
        comment="tables that an init is filling or has filled; empty once it has finished",
    )
    op.create_table(
        "copy_part",
        _replica(),
        *_relation(),
        sa.Column("xid", sa.BigInteger, primary_key=True),
        schema="logship",
        comment="transactions of this server in which an init filled a table; empty once it has finished",
    )
    op.create_table(
        "copy_made",
        _replica(),
        sa.Column("entry", sa.Text, primary_key=True),
        schema="logship",
        comment="indexes and constraints that an init has made, by digest; empty once it has finished",
    )
    op.create_table(
        "copied",
        _replica(),
        *_relation(),
        sa.Column("lsn", PgLsn, nullable=False),
        sa.Column("noticed", sa.Boolean, nullable=False, server_default=sa.text("false")),
        schema="logship",
        comment="tables whose rows are newer than the position: what was committed before lsn is passed over",
    )


def _reports() -> None:
    op.create_table(
        "replay_report",
        _replica(),
        sa.Column("state", sa.Text),
        *(sa.Column(name, PgLsn) for name in ("received_lsn", "flush_lsn", "memory_lsn", "primary_lsn")),
        _time("primary_lsn_at"),
        *(
            sa.Column(name, sa.Interval)
            for name in ("received_lag", "flushed_lag", "memory_lag", "persistence_lag")
        ),
        sa.Column("last_error", sa.Text),
        _time("last_error_time"),
        _time("reported_at"),
        schema="logship",
        prefixes=["UNLOGGED"],
        comment="what the replayer last reported of itself; emptied by a crash of this server",
    )
    op.create_table(
        "object_report",
        _replica(),
        *_relation(),
        sa.Column("residence", sa.Text),
        *(
            sa.Column(name, sa.BigInteger)
            for name in (
                "rows",
                "bytes",
                "loads",
                "evictions",
                "dml_memory",
                "dml_persistence",
                "ddl_memory",
                "ddl_persistence",
            )
        ),
        sa.Column("last_change_lsn", PgLsn),
        sa.Column("hits", sa.BigInteger),
        sa.Column("merges", sa.BigInteger),
        sa.Column("merge_time", sa.Interval),
        sa.Column("reason", sa.Text),
        schema="logship",
        prefixes=["UNLOGGED"],
        comment="what the replayer last reported of each relation; emptied by a crash of this server",
    )
    op.create_table(
        "ddl_replayed",
        _replica(primary_key=False),
        sa.Column("lsn", PgLsn, nullable=False),
        _time("replayed_at", nullable=False),
        *(sa.Column(name, sa.Text) for name in ("owner", "tag", "statement", "target", "made_from")),
        sa.Column("duration", sa.Interval),
        sa.Column("number", sa.BigInteger),
        sa.Column("renamed", sa.Text),
        schema="logship",
        comment="schema changes replayed here",
    )
    op.create_table(
        "ddl_skip",
        _replica(),
        sa.Column("lsn", PgLsn, primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        _time("asked_at", nullable=False),
        sa.Column("asked_by", sa.Text, nullable=False),
        schema="logship",
        comment="schema changes that an operator named, to be passed over: logship ddl skip",
    )
    op.create_table(
        "skip",
        _replica(),
        sa.Column("lsn", PgLsn, primary_key=True),
        _time("asked_at", nullable=False),
        sa.Column("asked_by", sa.Text, nullable=False),
        _time("skipped_at"),
        sa.Column("changes", sa.BigInteger),
        schema="logship",
        comment="transactions that an operator named, to be passed over: logship skip",
    )
    op.create_table(
        "role_map",
        _replica(),
        sa.Column("primary_role", sa.Text, primary_key=True),
        sa.Column("secondary_role", sa.Text, nullable=False),
        schema="logship",
        comment="roles of the primary that have another name here: --map-role",
    )
    op.create_table(
        "hold",
        _replica(),
        sa.Column("token", sa.Text, nullable=False),
        sa.Column("up_to", PgLsn),
        sa.Column("held_at", PgLsn),
        _time("expires_at", nullable=False),
        schema="logship",
        prefixes=["UNLOGGED"],
        comment="who asked the replayer to stand still for a moment; it goes on by itself at expires_at",
    )
    op.create_table(
        "memory_question",
        _replica(),
        sa.Column("token", sa.Text, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("question", sa.Text),
        sa.Column("answered", sa.Integer, nullable=False),
        sa.Column("answer", sa.Text),
        sa.Column("pid", sa.Integer),
        _time("expires_at", nullable=False),
        schema="logship",
        prefixes=["UNLOGGED"],
        comment="what a command asks the replayer about its memory, and the answer; over at expires_at",
    )
    op.create_index("ddl_replayed_replica_lsn", "ddl_replayed", ["replica", "lsn"], schema="logship")


def _ddl_key() -> None:
    op.create_table(
        "ddl_key",
        sa.Column("generation", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        schema="logship",
        comment="keys that sign the primary's schema changes, one half of each; the other is logship.ddl_share",
    )


def downgrade() -> None:
    op.execute("drop function logship.ddl_keys()")
    op.execute("drop materialized view logship.ddl_share")
    op.execute("drop function logship.ddl_share(), logship.ddl_xor(bytea, bytea)")
    op.execute(
        "drop function logship.ddl_object_at(text, text[], text[]), logship.ddl_object(oid, oid, int), "
        "logship.ddl_described(oid, oid, int), logship.ddl_owner(oid, oid), "
        "logship.ddl_family(oid), logship.ddl_facts(oid, oid), logship.ddl_type(oid), logship.ddl_routine(oid), "
        "logship.ddl_other(oid, oid), logship.ddl_relation(oid, text), "
        'logship.ddl_acl(aclitem[], "char", oid), logship.ddl_sorted(text[]), logship.ddl_foreign(text[])'
    )
    op.drop_table("ddl_key", schema="logship")
    op.execute("drop schema logship_writers cascade")
    op.execute("drop function logship.wait_for(pg_catalog.pg_lsn, interval, text)")
    op.execute(
        "drop function logship.advance(text, pg_catalog.pg_lsn, pg_catalog.pg_lsn, timestamptz, "
        "bigint, bigint, bigint, bigint, bigint)"
    )
    op.execute("drop function logship.note_mended(text, text, text)")
    op.execute("drop function logship.session_origin(text, int)")
    op.execute("drop function logship.notice_copies(text)")
    for view in (
        "my_memory_reply", "my_memory_request", "replica_lag", "stat_replay", "stat_object", "stat_ddl",
    ):  # fmt: skip
        op.execute(f"drop view logship.{view}")
    for table in (
        "memory_reply",
        "memory_request",
        "memory_question",
        "hold",
        "role_map",
        "skip",
        "ddl_skip",
        "ddl_replayed",
        "object_report",
        "replay_report",
        "copied",
        "copy_made",
        "copy_part",
        "copy_progress",
        "left_out",
        "position",
        "replica",
    ):
        op.drop_table(table, schema="logship")
