"""The replayer's role on the secondary, with the least rights that replaying needs.

In: a connection of whoever runs init. Out: a role that may read logship's state, write its reports,
call `logship.advance` and the owners' writers, take a replication origin, and read all tables. It
owns nothing, can't log in, and is given to the user that init came as. A right that this user can't
give, and that the role hasn't got, is named with the statement for an administrator.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import sql

from logship.errors import SecondaryError

_ADVANCE: Final = (
    "logship.advance(pg_catalog.text, pg_catalog.pg_lsn, pg_catalog.pg_lsn, pg_catalog.timestamptz, "
    "pg_catalog.int8, pg_catalog.int8, pg_catalog.int8, pg_catalog.int8, pg_catalog.int8)"
)
_NOTICE_COPIES: Final = "logship.notice_copies(pg_catalog.text)"
_SESSION_ORIGIN: Final = "logship.session_origin(pg_catalog.text, pg_catalog.int4)"
_NOTE_MENDED: Final = "logship.note_mended(pg_catalog.text, pg_catalog.text, pg_catalog.text)"

_OF_DDL: Final = (
    "logship.ddl_keys()",
    "logship.ddl_object_at(pg_catalog.text, pg_catalog._text, pg_catalog._text)",
    "logship.ddl_object(pg_catalog.oid, pg_catalog.oid, pg_catalog.int4)",
    "logship.ddl_described(pg_catalog.oid, pg_catalog.oid, pg_catalog.int4)",
    "logship.ddl_owner(pg_catalog.oid, pg_catalog.oid)",
    "logship.ddl_facts(pg_catalog.oid, pg_catalog.oid)",
    "logship.ddl_type(pg_catalog.oid)",
    "logship.ddl_routine(pg_catalog.oid)",
    "logship.ddl_other(pg_catalog.oid, pg_catalog.oid)",
    "logship.ddl_relation(pg_catalog.oid, pg_catalog.text)",
    "logship.ddl_family(pg_catalog.oid)",
    'logship.ddl_acl(pg_catalog._aclitem, pg_catalog."char", pg_catalog.oid)',
    "logship.ddl_sorted(pg_catalog._text)",
    "logship.ddl_foreign(pg_catalog._text)",
)


@dataclass(frozen=True, slots=True)
class Right:
    """Something to be given to ``{role}``. ``has`` is a query with %(role)s: whether the role has it."""

    statement: str
    has: str
    why: str


# What init gives by itself, as the owner of logship's schemas.
OWN: Final = (
    Right(
        "grant usage on schema logship, logship_writers to {role}",
        "select pg_catalog.has_schema_privilege(%(role)s, 'logship', 'usage') "
        "and pg_catalog.has_schema_privilege(%(role)s, 'logship_writers', 'usage')",
        "its state, and the functions that write with the owners' rights, lie there",
    ),
    Right(
        "grant select on all tables in schema logship to {role}",
        "select not exists (select from pg_catalog.pg_class c where c.relkind in ('r', 'v') "
        "and c.relnamespace = pg_catalog.to_regnamespace('logship') "
        "and not pg_catalog.has_table_privilege(%(role)s, c.oid, 'select'))",
        "it reads which replica it serves, and where that stands",
    ),
    Right(
        "grant insert, update, delete on table logship.replay_report, logship.object_report, "
        "logship.ddl_replayed, logship.hold, logship.memory_question, logship.memory_request, "
        "logship.memory_reply to {role}",
        "select pg_catalog.bool_and(pg_catalog.has_table_privilege(%(role)s, c.oid, p.privilege)) "
        "from pg_catalog.pg_class c, pg_catalog.unnest(array['insert', 'update', 'delete']) p (privilege) "
        "where c.relnamespace = pg_catalog.to_regnamespace('logship') "
        "and c.relname in ('replay_report', 'object_report', 'ddl_replayed', 'hold', 'memory_question', "
        "'memory_request', 'memory_reply')",
        "it reports once a second what the views show",
    ),
    Right(
        "grant insert on table logship.left_out to {role}",
        "select pg_catalog.has_table_privilege(%(role)s, 'logship.left_out', 'insert')",
        "it notes new tables that have no key, where those are to be left out",
    ),
    Right(
        "grant update (skipped_at, changes) on table logship.skip to {role}",
        "select pg_catalog.has_column_privilege(%(role)s, 'logship.skip', 'skipped_at', 'update') "
        "and pg_catalog.has_column_privilege(%(role)s, 'logship.skip', 'changes', 'update')",
        "it notes which transactions it passed over, as an operator wanted it",
    ),
    Right(
        "grant update (shipper_epoch) on table logship.replica to {role}",
        "select pg_catalog.has_column_privilege(%(role)s, 'logship.replica', 'shipper_epoch', 'update')",
        "it keeps the epoch of the shipper it follows, so that one that was succeeded is refused",
    ),
    Right(
        f"grant execute on function {_ADVANCE} to {{role}}",
        f"select pg_catalog.has_function_privilege(%(role)s, '{_ADVANCE}', 'execute')",
        "it moves the position, in the transaction that writes the rows",
    ),
    Right(
        f"grant execute on function {_NOTICE_COPIES}, {_NOTE_MENDED} to {{role}}",
        f"select pg_catalog.has_function_privilege(%(role)s, '{_NOTICE_COPIES}', 'execute') "
        f"and pg_catalog.has_function_privilege(%(role)s, '{_NOTE_MENDED}', 'execute')",
        "it asks which tables were copied or mended beside the log, and `logship repair` tells it",
    ),
    Right(
        f"grant execute on function {_SESSION_ORIGIN} to {{role}}",
        f"select pg_catalog.has_function_privilege(%(role)s, '{_SESSION_ORIGIN}', 'execute')",
        "it writes with several sessions, and each of them needs a replication origin",
    ),
    Right(
        f"grant execute on function {', '.join(_OF_DDL)} to {{role}}",
        "select "
        + " and ".join(
            f"pg_catalog.has_function_privilege(%(role)s, '{function}', 'execute')" for function in _OF_DDL
        ),
        "it proves schema changes, and compares what they made with the primary's catalog",
    ),
)
# What only a superuser can give (or who has the right to give it on).
OF_THE_SERVER: Final = (
    Right(
        "grant pg_read_all_data to {role}",
        "select pg_catalog.pg_has_role(%(role)s, 'pg_read_all_data', 'usage')",
        "it loads tables into memory",
    ),
    Right(
        "grant set on parameter session_replication_role to {role}",
        "select pg_catalog.has_parameter_privilege(%(role)s, 'session_replication_role', 'set')",
        "triggers and foreign keys don't fire on rows that were written on the primary already",
    ),
    *(
        Right(
            f"grant execute on function pg_catalog.{function} to {{role}}",
            f"select pg_catalog.has_function_privilege(%(role)s, 'pg_catalog.{function}', 'execute')",
            "it marks what it writes with a replication origin, which also keeps a second replayer out",
        )
        for function in (
            "pg_replication_origin_session_setup(pg_catalog.text)",
            "pg_replication_origin_session_reset()",
            "pg_replication_origin_session_is_setup()",
            "pg_replication_origin_session_progress(pg_catalog.bool)",
            "pg_replication_origin_xact_setup(pg_catalog.pg_lsn, pg_catalog.timestamptz)",
            "pg_replication_origin_xact_reset()",
            "pg_replication_origin_oid(pg_catalog.text)",
            "pg_replication_origin_progress(pg_catalog.text, pg_catalog.bool)",
        )
    ),
)


def identifier(prefix: str, database: str, *, limit: int = 63) -> str:
    """``prefix`` and the database in letters that a slot's name may have; never that of another."""
    plain = re.sub(r"[^a-z0-9_]", "_", database)
    if plain == database and len(prefix) + len(plain) <= limit:
        return prefix + plain
    mark = hashlib.sha256(database.encode()).hexdigest()[:8]
    return f"{(prefix + plain)[: limit - 9]}_{mark}"


def ensure_replayer(connection: psycopg.Connection) -> tuple[str, list[str]]:
    """The role's name, and warnings. Where init may not create roles, its own user is the replayer."""
    database, user = connection.info.dbname, connection.info.user
    role = identifier("logship_replayer_", database)
    warnings: list[str] = []
    found = connection.execute("select from pg_catalog.pg_roles where rolname = %s", [role]).fetchone()
    if found is None:
        try:
            connection.execute(sql.SQL("create role {} nologin").format(sql.Identifier(role)))
        except psycopg.errors.InsufficientPrivilege:
            warnings.append(f'user "{user}" may not create roles: it is the replayer itself')
            role = user
    if role != user:
        _give(connection, role, user)
    _grant(connection, role)
    return role, warnings


def _give(connection: psycopg.Connection, role: str, user: str) -> None:
    row = connection.execute(
        # From 16 on, who creates a role is a member that inherits nothing; a superuser has everything unasked.
        "select case when r.rolsuper then exists (select from pg_catalog.pg_auth_members m "
        "join pg_catalog.pg_roles g on g.oid = m.roleid where m.member = r.oid and g.rolname = %(role)s) "
        "else pg_catalog.pg_has_role(r.oid, %(role)s, 'usage') end "
        "from pg_catalog.pg_roles r where r.rolname = %(user)s",
        {"role": role, "user": user},
    ).fetchone()
    if row is not None and not row[0]:
        statement = sql.SQL("grant {} to {}").format(sql.Identifier(role), sql.Identifier(user))
        _or_explain(connection, [statement], role)


def _grant(connection: psycopg.Connection, role: str) -> None:
    name = sql.Identifier(role)
    _or_explain(connection, [sql.SQL(right.statement).format(role=name) for right in OWN], role)
    lacking = []
    for right in OF_THE_SERVER:
        row = connection.execute(right.has.encode(), {"role": role}).fetchone()
        if not (row and row[0]):
            lacking.append(sql.SQL(right.statement).format(role=name))
    _or_explain(connection, lacking, role)


def _or_explain(connection: psycopg.Connection, statements: list[sql.Composed], role: str) -> None:
    try:
        with connection.transaction():
            for statement in statements:
                connection.execute(statement)
    except psycopg.errors.InsufficientPrivilege as error:
        text = "; ".join(statement.as_string(connection) for statement in statements)
        raise SecondaryError(
            f'user "{connection.info.user}" may not give the replayer\'s role "{role}" what it needs',
            hint=f"on the secondary, as a superuser: {text};",
        ) from error
