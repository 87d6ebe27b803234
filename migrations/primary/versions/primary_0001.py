"""The primary's schema: which replicas follow this database.

Frozen history: what a revision needs stands in it, or in files beside it, and never in the package.
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
    op.execute("revoke all on schema logship from public")
    op.execute("revoke all on all tables in schema logship from public")
    op.execute("comment on schema logship is 'logship: replicas that follow this database'")
    here = Path(__file__).parent / "primary_0001"
    op.execute(sa.text((here / "stat_replication.sql").read_text(encoding="utf-8").replace(":", "\\:")))


def _shipper() -> None:
    op.create_table(
        "shipper",
        sa.Column("slot", sa.Text, primary_key=True),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("host", sa.Text),
        sa.Column("pid", sa.Integer),
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


def downgrade() -> None:
    op.execute("drop view logship.stat_replication")
    op.drop_table("replication_report", schema="logship")
    op.drop_table("shipper", schema="logship")
    op.drop_table("identity_set", schema="logship")
    op.drop_table("replica", schema="logship")
