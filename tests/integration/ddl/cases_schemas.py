"""Cases of the statement matrix: schemas, and what stands in one besides tables."""

from __future__ import annotations

from tests.integration.ddl.matrix import OTHER, OWNER, Case

CASES = (
    Case(
        "CREATE SCHEMA, ALTER SCHEMA, DROP SCHEMA",
        create=(
            "create schema plain",
            "create schema if not exists plain",
            f'create schema authorization "{OWNER}"',
            'create schema "Odd ""schema"',
            f"create schema of_another authorization {OTHER}",
            "comment on schema plain is 'a schema''s comment'",
        ),
        alter=(
            'alter schema plain rename to "Renamed"',
            f'alter schema "Renamed" owner to {OTHER}',
            f'alter schema "Renamed" owner to "{OWNER}"',
            f'grant usage, create on schema "Renamed" to {OTHER} with grant option',
            f'revoke grant option for create on schema "Renamed" from {OTHER}',
        ),
        drop=(
            f'drop schema "Renamed", "Odd ""schema", "{OWNER}"',
            "drop schema if exists of_another, plain cascade",
        ),
    ),
    Case(
        "CREATE SCHEMA with its elements, DROP SCHEMA CASCADE",
        create=(
            "create schema elements create table a (id int primary key, v text) create index a_v on a (v) "
            "create sequence q create view w as select id from a grant select on a to public",
            "insert into elements.a values (1, 'one')",
            "set search_path = elements, public",
            "create table b (id int primary key references a)",
            "create function f() returns int language sql as 'select 1'",
            "insert into b values (1)",
            "reset search_path",
        ),
        alter=("alter schema elements rename to parts", "insert into parts.a values (2, 'two')"),
        drop=("drop schema parts cascade",),
    ),
    Case(
        "CREATE SEQUENCE, ALTER SEQUENCE in a schema of its own",
        create=(
            "create schema counted",
            "create sequence counted.n as smallint start 5 increment by -2 maxvalue 9 cycle",
        ),
        alter=(
            "alter sequence counted.n rename to m",
            "alter sequence counted.m set schema public",
            "alter sequence m no cycle",
        ),
        drop=("drop sequence m", "drop schema counted restrict"),
    ),
)
