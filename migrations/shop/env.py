"""Runs the demo's revisions where `logship.service.demo.shop_migrations` says, each in a transaction of its own."""

import psycopg
from alembic import context
from sqlalchemy import create_engine, pool


def _connect() -> psycopg.Connection:
    return psycopg.connect(context.config.attributes["conninfo"], application_name="alembic")


engine = create_engine(
    "postgresql+psycopg://", creator=_connect, poolclass=pool.NullPool, use_native_hstore=False
)
with engine.connect() as connection:
    context.configure(connection=connection, version_table_schema="shop", transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
