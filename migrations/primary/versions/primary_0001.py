"""The primary's schema: which replicas follow this database.

Frozen history: what a revision needs stands in it, in files beside it or, where the two sides share it, in
``migrations/both``, and never in the package.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import UserDefinedType

revision = "primary_0001"
down_revision = None
branch_labels = None
depends_on = None


class PgLsn(UserDefinedType):
    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "pg_lsn"


def upgrade() -> None:
    op.create_table(
        "replica",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("slot", sa.Text, nullable=False),
        sa.Column("publication", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("initialised_at", sa.DateTime(timezone=True)),
        sa.Column("secondary_system_identifier", sa.Numeric(20)),
        sa.Column("secondary_database", sa.Text),
        schema="logship",
        comment="one row per replica that logship init made",
    )
    op.create_table(
        "identity_set",
        sa.Column("schemaname", sa.Text, primary_key=True),
        sa.Column("relname", sa.Text, primary_key=True),
        sa.Column("before", sa.Text, nullable=False),
        schema="logship",
        comment="tables that logship init gave REPLICA IDENTITY FULL, and what they had: default or nothing",
    )
    _shipper()
    _ddl()
    op.execute("revoke all on schema logship from public")
    op.execute("revoke all on all tables in schema logship from public")
    op.execute("comment on schema logship is 'logship: replicas that follow this database'")
    here = Path(__file__).parent / "primary_0001"
    both = Path(__file__).parents[2] / "both" / "0001"  # the same text on either side, to the letter
    for file in (
        here / "stat_replication.sql",
        both / "ddl_facts.sql",
        both / "ddl_key.sql",
        here / "ddl_keyless.sql",
        here / "ddl_sequences.sql",
        here / "ddl_echo.sql",
        here / "ddl_capture.sql",
    ):
        op.execute(sa.text(file.read_text(encoding="utf-8").replace(":", "\\:")))


def _shipper() -> None:
    op.create_table(
        "shipper",
        sa.Column("slot", sa.Text, primary_key=True),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("host", sa.Text),
        sa.Column("pid", sa.Integer),
        sa.Column("journal", sa.Text),
        schema="logship",
        comment="who reads each slot: the last that started, and with it a higher epoch, is the only one",
    )
    op.create_table(
        "replication_report",
        sa.Column("slot", sa.Text, primary_key=True),
        sa.Column("replica", sa.Text, primary_key=True),
        sa.Column("pid", sa.Integer),
        sa.Column("usename", sa.Text),
        sa.Column("client_addr", postgresql.INET),
        sa.Column("client_port", sa.Integer),
        sa.Column("backend_start", sa.DateTime(timezone=True)),
        sa.Column("state", sa.Text),
        *(sa.Column(name, PgLsn) for name in ("sent_lsn", "write_lsn", "flush_lsn", "replay_lsn")),
        *(sa.Column(name, sa.Interval) for name in ("write_lag", "flush_lag", "replay_lag")),
        sa.Column("sync_priority", sa.Integer),
        sa.Column("sync_state", sa.Text),
        sa.Column("reply_time", sa.DateTime(timezone=True)),
        sa.Column("reported_at", sa.DateTime(timezone=True), nullable=False),
        schema="logship",
        prefixes=["UNLOGGED"],
        comment="what the shipper last reported of its replicas; emptied by a crash of this server",
    )


def _ddl() -> None:
    op.create_table(
        "ddl_key",
        sa.Column("generation", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        schema="logship",
        comment="keys that sign schema changes, one half of each; the other is logship.ddl_share",
    )
    op.create_table(
        "ddl_setting",
        sa.Column("on_failure", sa.Text, primary_key=True),
        sa.Column("keyless", sa.Text, nullable=False, server_default=sa.text("'full'")),
        sa.Column("sequence_margin", sa.Integer, nullable=False, server_default=sa.text("10000")),
        sa.Column("rewrite_echo_bytes", sa.BigInteger, nullable=False, server_default=sa.text("16777216")),
        sa.CheckConstraint("sequence_margin >= 0", name="ddl_setting_sequence_margin"),
        sa.CheckConstraint("on_failure in ('error', 'warn')", name="ddl_setting_on_failure"),
        sa.CheckConstraint("keyless in ('full', 'refuse', 'leave-out')", name="ddl_setting_keyless"),
        schema="logship",
        comment="what becomes of a schema change that can't be written into the log, and of new tables without key",
    )
    op.create_table(
        "ddl_failure",
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("xid", sa.BigInteger, nullable=False),
        sa.Column("tag", sa.Text, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        schema="logship",
        comment="schema changes that are in no log, because on_failure was warn",
    )
    op.create_table(
        "ddl_echo",
        sa.Column("relation", postgresql.OID, primary_key=True, autoincrement=False),
        sa.Column("xid", sa.BigInteger, nullable=False),
        sa.Column("mode", sa.Text, nullable=False),
        schema="logship",
        prefixes=["UNLOGGED"],
        comment="tables that a statement under way rewrites, and whose rows follow it into the log",
    )
    op.create_table(
        "ddl_sequence",
        sa.Column("relation", postgresql.OID, primary_key=True, autoincrement=False),
        sa.Column("value", sa.BigInteger),
        sa.Column("ahead", sa.BigInteger),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=False),
        schema="logship",
        comment="what each sequence had reached when it was last written into the log, and what was written",
    )


def downgrade() -> None:
    _drop_ddl()
    op.execute("drop view logship.stat_replication, logship.replica_by_slot")
    op.drop_table("replication_report", schema="logship")
    op.drop_table("shipper", schema="logship")
    op.drop_table("identity_set", schema="logship")
    op.drop_table("replica", schema="logship")


def _drop_ddl() -> None:
    # With the event triggers that stand on them, whoever made those.
    op.execute("drop function logship.ddl_event() cascade")
    op.execute(
        "drop function logship.ddl_capture(text, text, text, json), "
        "logship.ddl_body(text, text, text, json, jsonb, text), logship.ddl_bodies(text, jsonb), "
        "logship.ddl_rewritten(), logship.ddl_dropped(text), logship.ddl_commands(text, text), "
        "logship.ddl_granted_object(regclass, oid), logship.ddl_granted(text, text), logship.ddl_made_here(xid), "
        "logship.ddl_ours(oid), "
        "logship.ddl_sequences_of(text, jsonb), logship.ddl_sequences(boolean), "
        "logship.ddl_sequence_state(oid, bigint), logship.ddl_sequence_ahead(oid, bigint, numeric), "
        "logship.ddl_sequence_send(jsonb), logship.ddl_missing_below(oid), logship.ddl_echo_rows(), "
        "logship.ddl_echo_of(oid, int), logship.ddl_new_columns(oid), logship.ddl_holds_code(oid), "
        "logship.ddl_calls_users(text), "
        "logship.ddl_keyless(jsonb), logship.ddl_keys_dropped(), logship.ddl_ignored(oid, oid), "
        "logship.ddl_sign(bytea), "
        "logship.ddl_capture_on(), "
        "logship.ddl_capture_off()"
    )
    op.execute("drop sequence logship.ddl_number")
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
    for table in ("ddl_echo", "ddl_sequence", "ddl_failure", "ddl_setting", "ddl_key"):
        op.drop_table(table, schema="logship")
