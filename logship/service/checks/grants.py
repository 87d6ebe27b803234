"""The rights that each side's roles need, as SQL: one list, for `check`, for `--print-grants`, for the docs.

In: facts and the name of a role. Out: `Grant`: the statement, a query that tells whether the role has it
already, and why it is needed. Nothing is granted here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg import sql

from logship.catalog.requirements import lacking_rights
from logship.catalog.requirements_relations import quoted
from logship.catalog.roles import OF_THE_SERVER, OWN, Right
from logship.service.checks.finding import BOTH, SUPERUSER, Place, Stage

if TYPE_CHECKING:
    from logship.service.checks.facts import Facts

YES: Final = "select true"


@dataclass(frozen=True, slots=True)
class Grant:
    """``has`` is asked with %(role)s, of ``holder``. ``superuser`` says why PostgreSQL demands one."""

    place: Place
    stage: Stage
    statement: str
    has: str
    why: str
    holder: str
    by: str = SUPERUSER
    superuser: str = ""
    optional: bool = False  # less is seen without it, and everything works

    @property
    def key(self) -> str:
        return self.statement


def literal(text: str) -> str:
    return sql.Literal(text).as_string(None)


def _query(text: str, **values: str) -> str:
    """A query for `Grant.has`: values as literals, and their % doubled for the driver."""
    for name, value in values.items():
        text = text.replace("{" + name + "}", literal(value).replace("%", "%%"))
    return text


# -- the primary ---------------------------------------------------------------------------------


def on_primary(facts: Facts, role: str, stage: Stage) -> Iterator[Grant]:
    """What ``role`` needs on the primary, for init or for run."""
    name, database = quoted(role), facts.primary.database
    yield Grant(
        "primary", BOTH, f"alter role {name} login replication",
        "select r.rolsuper or r.rolcanlogin and r.rolreplication "
        "from pg_catalog.pg_roles r where r.rolname = %(role)s",
        "who makes a slot, or streams from one, must have REPLICATION", role,
        superuser="only a superuser gives REPLICATION (from 16 on, also who has it and CREATEROLE)",
    )  # fmt: skip
    yield _connect("primary", facts.primary.database, role)
    if Stage.INIT in stage:
        yield from _to_init_primary(facts, role, name, database)
    elif facts.primary_schema.present:
        yield from _to_run_primary(role, name)


def _to_run_primary(role: str, name: str) -> Iterator[Grant]:
    tables = "logship.replica, logship.shipper, logship.replication_report"
    yield Grant(
        "primary", Stage.RUN,
        f"grant usage on schema logship to {name}; grant select on table {tables} to {name}",
        "select pg_catalog.has_schema_privilege(%(role)s, n.oid, 'usage') "
        "and (select pg_catalog.bool_and(pg_catalog.has_table_privilege(%(role)s, c.oid, 'select')) "
        "       from pg_catalog.pg_class c where c.relnamespace = n.oid "
        "        and c.relname in ('replica', 'shipper', 'replication_report')) "
        "from pg_catalog.pg_namespace n where n.nspname = 'logship'",
        "which replicas there are, and who ships, stands there", role, by="the schema's owner",
    )  # fmt: skip
    yield Grant(
        "primary", Stage.RUN, f"grant insert, update on table logship.shipper to {name}",
        _may("shipper", "insert", "update"),
        "a start takes the slot's next epoch, and an older shipper ends", role, by="the schema's owner",
    )  # fmt: skip
    yield Grant(
        "primary", Stage.RUN,
        f"grant insert, update, delete on table logship.replication_report to {name}",
        _may("replication_report", "insert", "update", "delete"),
        "the view logship.stat_replication shows what is reported there once a second", role,
        by="the schema's owner", optional=True,
    )  # fmt: skip
    yield Grant(
        "primary", Stage.RUN, f"grant select on table logship.stat_replication to {name}",
        _may("stat_replication", "select"),
        "`logship status --primary` shows the replicas of the shipper", role,
        by="the schema's owner", optional=True,
    )  # fmt: skip


def _may(table: str, *privileges: str) -> str:
    """Whether the role has all of them on a table of ours; also yes where an older schema lacks the table."""
    names = ", ".join(f"'{privilege}'" for privilege in privileges)
    return (
        "select coalesce(pg_catalog.bool_and(pg_catalog.has_table_privilege(%(role)s, c.oid, p.privilege)), true) "
        f"from pg_catalog.pg_class c, pg_catalog.unnest(array[{names}]) p (privilege) "
        f"where c.relnamespace = pg_catalog.to_regnamespace('logship') and c.relname = '{table}'"
    )


def _connect(place: Place, database: str, role: str) -> Grant:
    return Grant(
        place, BOTH, f"grant connect on database {quoted(database)} to {quoted(role)}",
        _query("select pg_catalog.has_database_privilege(%(role)s, {database}, 'connect')", database=database),
        "it comes to this database", role, by="the database's owner",
    )  # fmt: skip


def _to_init_primary(facts: Facts, role: str, name: str, database: str) -> Iterator[Grant]:
    yield _schema_right("primary", facts.primary_schema.present, facts.primary_schema.owner, database, role)
    if any(not relation.may_read for relation in facts.primary_relations) or role != facts.primary.user:
        yield Grant(
            "primary", Stage.INIT, f"grant pg_read_all_data to {name}",
            "select pg_catalog.pg_has_role(%(role)s, 'pg_read_all_data', 'usage')",
            "init copies every table, pg_dump locks them against ALTER, and sequences are read", role,
        )  # fmt: skip
    if any(relation.rls for relation in facts.primary_relations):
        yield Grant(
            "primary", Stage.INIT, f"alter role {name} bypassrls",
            "select r.rolsuper or r.rolbypassrls or not exists ("
            "  select from pg_catalog.pg_class c where c.relrowsecurity and (c.relforcerowsecurity "
            "  or not pg_catalog.pg_has_role(r.oid, c.relowner, 'usage'))) "
            "from pg_catalog.pg_roles r where r.rolname = %(role)s",
            "tables with row security must be copied whole", role,
            superuser="only a superuser gives BYPASSRLS (from 16 on, also who has it and CREATEROLE)",
        )  # fmt: skip
    # Before the publication: published without an identity, their UPDATEs would fail.
    if facts.asked.keyless != "refuse":
        yield from _identities(facts, role)
    publication = facts.names.publication
    if facts.source.publication is None:
        root = " with (publish_via_partition_root = true)" if facts.asked.partitions == "root" else ""
        yield Grant(
            "primary", Stage.INIT, f"create publication {quoted(publication)} for all tables{root}",
            _query(
                "select r.rolsuper or exists (select from pg_catalog.pg_publication p "
                "where p.pubname = {publication}) from pg_catalog.pg_roles r where r.rolname = %(role)s",
                publication=publication,
            ),
            "the slot's log is read through it", role,
            superuser="only a superuser may publish all tables (and tables that are made later with them)",
        )  # fmt: skip
    yield Grant(
        "primary", Stage.INIT, f"grant pg_read_all_stats to {name}",
        "select pg_catalog.pg_has_role(%(role)s, 'pg_read_all_stats', 'usage')",
        "init and check then see which transactions hold up the making of a slot", role, optional=True,
    )  # fmt: skip


def _identities(facts: Facts, role: str) -> Iterator[Grant]:
    for key in facts.keyless:
        yield Grant(
            "primary", Stage.INIT, f"alter table only {quoted(*key)} replica identity full",
            _query(
                "select c.relreplident = 'f' or pg_catalog.pg_has_role(%(role)s, c.relowner, 'usage') "
                "from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace "
                "where n.nspname = {schema} and c.relname = {table}",
                schema=key[0], table=key[1],
            ),
            "it has no replica identity, and only its owner may give it one", role, by="its owner",
        )  # fmt: skip


def _schema_right(place: Place, present: bool, owner: str, database: str, role: str) -> Grant:
    if present:
        return Grant(
            place, Stage.INIT, f"grant {quoted(owner)} to {quoted(role)}",
            _query("select pg_catalog.pg_has_role(%(role)s, {owner}, 'usage')", owner=owner),
            "schema logship is there, and only its owner may upgrade it", role,
        )  # fmt: skip
    return Grant(
        place, Stage.INIT, f"grant create on database {quoted(database)} to {quoted(role)}",
        _query("select pg_catalog.has_database_privilege(%(role)s, {database}, 'create')", database=database),
        "init makes the schema logship", role, by="the database's owner",
    )  # fmt: skip


# -- the secondary -------------------------------------------------------------------------------


def on_secondary_to_init(facts: Facts, role: str) -> Iterator[Grant]:
    database = facts.secondary.database
    yield _connect("secondary", database, role)
    yield _schema_right(
        "secondary", facts.secondary_schema.present, facts.secondary_schema.owner, database, role
    )
    yield Grant(
        "secondary", Stage.INIT, f"grant temporary on database {quoted(database)} to {quoted(role)}",
        _query("select pg_catalog.has_database_privilege(%(role)s, {database}, 'temporary')", database=database),
        "rows of tables with code of the users' go through a temporary table to their owner's writer", role,
        by="the database's owner",
    )  # fmt: skip
    if facts.asked.schema == "dump" and not facts.again:
        if facts.secondary_schema.present:
            yield _schema_right("secondary", False, "", database, role)
        yield from _schemas(facts, role)
    for owner, superuser in facts.owners:
        if not superuser:
            yield _membership(facts, owner, role)
    function = "pg_catalog.pg_replication_origin_create(pg_catalog.text)"
    if not facts.origin_exists:
        yield Grant(
            "secondary", Stage.INIT, f"grant execute on function {function} to {quoted(role)}",
            f"select pg_catalog.has_function_privilege(%(role)s, '{function}', 'execute')",
            "init makes the replication origin that the replayer takes", role,
            superuser="functions on replication origins belong to the bootstrap superuser",
        )  # fmt: skip
    yield from replayer(facts, role)


def _schemas(facts: Facts, role: str) -> Iterator[Grant]:
    """CREATE in the schemas that are there: for who is to own something in them, and, through its membership,
    for init; for init itself where superusers own all of it."""
    for schema in sorted({relation.schema for relation in facts.primary_relations} & facts.secondary_schemas):
        owners = {r.owner for r in facts.primary_relations if r.schema == schema and not r.owner_superuser}
        for holder in sorted(owners) or [role]:
            yield Grant(
                "secondary", Stage.INIT, f"grant create on schema {quoted(schema)} to {quoted(holder)}",
                _query("select pg_catalog.has_schema_privilege(%(role)s, {schema}, 'create')", schema=schema),
                "the primary's objects are made there, and who owns them must be allowed to make them", holder,
                by="the schema's owner",
            )  # fmt: skip


def _membership(facts: Facts, owner: str, role: str) -> Grant:
    set_too = "and pg_catalog.pg_has_role(%(role)s, {owner}, 'set')" if facts.secondary.major >= 16 else ""
    return Grant(
        "secondary", Stage.INIT, f"grant {quoted(owner)} to {quoted(role)}",
        _query(
            "select pg_catalog.pg_has_role(%(role)s, g.oid, 'usage') "
            + set_too.replace("{owner}", "g.oid")
            + " from pg_catalog.pg_roles g where g.rolname = {owner}",
            owner=owner,
        ),
        "init makes its tables, and the function that writes with its rights", role,
    )  # fmt: skip


def replayer(facts: Facts, role: str) -> Iterator[Grant]:
    """The replayer's role, with what only a superuser can give it; and that ``role`` may use it."""
    replayer = facts.replayer_role
    yield Grant(
        "secondary", Stage.INIT, f"create role {quoted(replayer)} nologin", YES,
        "it has what replaying needs, and no login: give it to one that owns no tables", replayer,
    )  # fmt: skip
    for right in OF_THE_SERVER:
        yield _right(right, replayer, Stage.INIT)
    yield _of_replayer(replayer, role, Stage.INIT)


def on_secondary_to_run(facts: Facts, role: str, *, replayer_exists: bool) -> Iterator[Grant]:
    """What ``role`` needs to replay: through the replayer's role where there is one, or by itself."""
    yield _connect("secondary", facts.secondary.database, role)
    holder = facts.replayer_role if replayer_exists else role
    if facts.secondary_schema.present:
        for right in OWN:
            yield _right(right, holder, Stage.RUN)
        yield Grant(
            "secondary", Stage.RUN,
            f"grant execute on all functions in schema logship_writers to {quoted(holder)}",
            "select not exists (select from pg_catalog.pg_proc p "
            "where p.pronamespace = pg_catalog.to_regnamespace('logship_writers') "
            "and not pg_catalog.has_function_privilege(%(role)s, p.oid, 'execute'))",
            "rows are written by them, with their owners' rights", holder,
        )  # fmt: skip
    for right in OF_THE_SERVER:
        yield _right(right, holder, Stage.RUN)
    if replayer_exists:
        yield _of_replayer(facts.replayer_role, role, Stage.RUN)


def _of_replayer(replayer: str, role: str, stage: Stage) -> Grant:
    return Grant(
        "secondary", stage, f"grant {quoted(replayer)} to {quoted(role)}",
        _query(
            "select exists (select from pg_catalog.pg_roles g where g.rolname = {replayer} "
            "and pg_catalog.pg_has_role(%(role)s, g.oid, 'usage'))",
            replayer=replayer,
        ),
        "everything that replaying needs comes with it", role,
    )  # fmt: skip


def _right(right: Right, holder: str, stage: Stage) -> Grant:
    server = right in OF_THE_SERVER
    return Grant(
        "secondary", stage, right.statement.format(role=quoted(holder)), right.has, right.why, holder,
        by=SUPERUSER if server else "the owner of schema logship",
        superuser="it belongs to the bootstrap superuser" if server else "",
    )  # fmt: skip


# -- for roles by name ---------------------------------------------------------------------------


def on_primary_for(facts: Facts, init_role: str, run_role: str) -> Iterator[Grant]:
    """Everything for both roles on the primary, themselves included."""
    for role in dict.fromkeys((init_role, run_role)):
        yield _made("primary", role)
    yield from on_primary(facts, init_role, Stage.INIT)
    if run_role != init_role:
        yield from on_primary(facts, run_role, Stage.RUN)


def on_secondary_for(facts: Facts, init_role: str, run_role: str) -> Iterator[Grant]:
    """Everything for both roles on the secondary: the replayer's role, and owners that are missing, too."""
    for role in dict.fromkeys((init_role, run_role)):
        yield _made("secondary", role)
    for role in facts.missing_roles:
        yield Grant(
            "secondary", Stage.INIT, f"create role {quoted(role)} nologin", YES,
            "it owns, or may use, objects of the primary", role,
        )  # fmt: skip
    yield from on_secondary_to_init(facts, init_role)
    if run_role != init_role:
        init = {grant.key for grant in on_secondary_to_init(facts, init_role)}
        run = on_secondary_to_run(facts, run_role, replayer_exists=True)
        yield from (grant for grant in run if grant.key not in init)


def _made(place: Place, role: str) -> Grant:
    return Grant(
        place, BOTH, f"create role {quoted(role)} login", YES, "give it a password: \\password", role
    )


# -- what is lacking -----------------------------------------------------------------------------


def lacking(facts: Facts, primary: psycopg.Connection, secondary: psycopg.Connection) -> tuple[Grant, ...]:
    """What the two users who came lack for what comes next: init, or run."""
    stage = Stage.RUN if facts.initialised else Stage.INIT
    found: list[Grant] = []
    if not facts.primary.superuser:
        found += missing(primary, on_primary(facts, facts.primary.user, stage))
    if not facts.secondary.superuser:
        exists = facts.replayer_role in facts.secondary_roles
        user = facts.secondary.user
        wanted = list(
            on_secondary_to_run(facts, user, replayer_exists=exists)
            if stage is Stage.RUN
            else on_secondary_to_init(facts, user)
        )
        if stage is Stage.INIT and not exists and not facts.secondary.createrole:
            # Then init's own user becomes the replayer, if it has what that needs.
            own = [_right(right, user, Stage.INIT) for right in OF_THE_SERVER]
            if not missing(secondary, own):
                wanted = [g for g in wanted if g not in set(replayer(facts, user))]
        found += missing(secondary, wanted)
    return tuple(found)


def missing(connection: psycopg.Connection, grants: Iterable[Grant]) -> list[Grant]:
    """Those whose holder hasn't got them; all of a holder that doesn't exist."""
    return [grant for grant in grants if lacking_rights(connection, grant.holder, {grant.key: grant.has})]
