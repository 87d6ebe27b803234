"""Cases of the statement matrix: grants, default privileges, owners."""

from __future__ import annotations

from tests.integration.ddl.matrix import LEAVER, OTHER, OWNER, Case

CASES = (
    Case(
        "GRANT and REVOKE on tables, columns, sequences, functions, types, schemas",
        create=(
            "create schema rights",
            "create table rights.one (id int primary key, v text, w text)",
            "create table rights.two (id int primary key)",
            "create sequence rights.numbers",
            "create function rights.f(int) returns int language sql as 'select 1'",
            "create procedure rights.p() language sql as ''",
            "create type rights.kind as enum ('a')",
            f"grant select, insert on rights.one to {OTHER} with grant option",
            "grant all on table rights.one, rights.two to public",
            f"grant select (v, w), update (v) on rights.one to {OTHER}",
            f"grant usage, select on sequence rights.numbers to {OTHER}",
            f"grant execute on all functions in schema rights to {OTHER}",
            f"grant execute on all procedures in schema rights to {OTHER}",
            f"grant all on all tables in schema rights to {OTHER}",
            f"grant all on all sequences in schema rights to {OTHER} granted by current_user",
            f"grant usage on type rights.kind to {OTHER}",
            f"grant all on schema rights to {OTHER}, public",
        ),
        alter=(
            f"revoke grant option for select on rights.one from {OTHER}",
            f"revoke select (v), update (v) on rights.one from {OTHER} cascade",
            f"revoke all on all tables in schema rights from public, {OTHER}",
            f"revoke all on sequence rights.numbers from {OTHER}",
            f"revoke execute on routine rights.f(int) from public, {OTHER}",
            f"revoke usage on type rights.kind from public, {OTHER}",
            f"revoke create on schema rights from {OTHER}",
            f"revoke select on rights.one from {OTHER}",
            f'revoke all on rights.two from "{OWNER}"',
            f'grant all on rights.two to "{OWNER}"',
        ),
        drop=("drop schema rights cascade",),
    ),
    Case(
        "GRANT and REVOKE by a superuser, on what others own",
        create=(
            f'create schema lent authorization "{OWNER}"',
            f'create table lent.t (id int primary key); alter table lent.t owner to "{OWNER}"',
            f"create function lent.f() returns int language sql as 'select 1'; alter function lent.f() owner "
            f"to {OTHER}",
            f"grant select on lent.t to {OTHER} with grant option",
            "grant usage on schema lent to public",
            f"set role {OTHER}; grant select on lent.t to public; reset role",
        ),
        alter=(
            f"set role {OTHER}; revoke select on lent.t from public; reset role",
            f"set role {OTHER}; grant select on lent.t to public; reset role",
            f"revoke select on lent.t from {OTHER} cascade",
            "revoke all on function lent.f from public",
            f"grant truncate on lent.t to {OTHER}",
        ),
        drop=("drop schema lent cascade",),
        as_superuser=True,
    ),
    Case(
        "GRANT and REVOKE by members of who may, and by who may not; CURRENT_USER",
        create=(
            "create table lent_out (id int primary key, v text)",
            f"grant select, insert on lent_out to {OTHER} with grant option; "
            f"grant select (v), update (v) on lent_out to {OTHER} with grant option",
            f'set session authorization "{OWNER}"',  # a member of OTHER
            f"grant select on lent_out to {LEAVER}; grant update (v) on lent_out to {LEAVER}",
            f"revoke insert on lent_out from {OTHER} cascade",  # no privileges could be revoked
            f"do $$ begin grant insert on lent_out to {LEAVER}; end $$",
            "reset session authorization",
            f"create view lent_view as select 1 as n; alter view lent_view owner to {OTHER}",
        ),
        alter=(
            f'set session authorization "{OWNER}"; revoke select on lent_out from {LEAVER}; '
            "reset session authorization",
            "alter view lent_view owner to current_user; grant select on lent_view to session_user",
            f'alter view lent_view owner to "{OWNER}"; grant select on lent_view to current_user',
            f'set role "{OWNER}"; grant insert on lent_view to current_role, session_user; '
            "revoke insert on lent_view from session_user granted by current_user; "
            "create schema lent_to authorization current_user; reset role",
            "alter table lent_out enable row level security; "
            "create policy lends on lent_out to current_user using (true)",
        ),
        drop=("drop view lent_view; drop table lent_out; drop schema lent_to",),
        as_superuser=True,
    ),
    Case(
        "ALTER DEFAULT PRIVILEGES",
        create=(
            "create schema defaults",
            f"alter default privileges grant select on tables to {OTHER}",
            f"alter default privileges in schema defaults grant insert, update on tables to {OTHER}",
            f"alter default privileges in schema defaults grant usage on sequences to {OTHER} with grant option",
            "alter default privileges revoke execute on functions from public",
            f"alter default privileges grant all on schemas to {OTHER}",
            f"alter default privileges for role {OTHER} grant usage on types to public",
            "create table defaults.given (id serial primary key)",
            "create function defaults.f() returns int language sql as 'select 1'",
            "insert into defaults.given default values",
        ),
        alter=(
            f"alter default privileges in schema defaults revoke update on tables from {OTHER}",
            f"alter default privileges in schema defaults revoke grant option for usage on sequences from {OTHER}",
            f"alter default privileges revoke select on tables from {OTHER}",
        ),
        drop=(
            f"alter default privileges in schema defaults revoke all on tables from {OTHER}",
            f"alter default privileges in schema defaults revoke all on sequences from {OTHER}",
            "alter default privileges grant execute on functions to public",
            f"alter default privileges revoke all on schemas from {OTHER}",
            f"alter default privileges for role {OTHER} revoke usage on types from public",
            f"alter default privileges for role {OTHER} grant usage on types to public",
            "drop schema defaults cascade",
        ),
    ),
    Case(
        "ALTER … OWNER TO, and rights of the new owner",
        create=(
            "create table handed (id int primary key, v text)",
            "create view handed_view as select id from handed",
            "create sequence handed_numbers",
            "create function handed_f() returns int language sql as 'select 1'",
            "create type handed_type as enum ('a')",
            "insert into handed values (1, 'one')",
        ),
        alter=(
            f"alter table handed owner to {OTHER}",
            "insert into handed values (2, 'two')",
            f"alter view handed_view owner to {OTHER}",
            f"alter sequence handed_numbers owner to {OTHER}",
            f"alter function handed_f() owner to {OTHER}",
            f"alter type handed_type owner to {OTHER}",
            "alter table handed add column w int",
            f"set role {OTHER}; alter table handed add column x int default 3; reset role",
            "insert into handed values (3, 'three', 4, 5)",
            f'alter table handed owner to "{OWNER}"',
        ),
        drop=(
            "drop view handed_view",
            "drop table handed",
            "drop sequence handed_numbers",
            "drop function handed_f",
            "drop type handed_type",
        ),
    ),
    Case(
        "DROP OWNED",
        create=(
            f"create table lent_table (id int primary key, v text); grant select, update (v) on lent_table to {LEAVER}",
            f"create table owned_table (id int primary key); alter table owned_table owner to {LEAVER}",
            "insert into owned_table values (1)",
            f"create schema owned_schema authorization {LEAVER}; create table owned_schema.t (id int primary key)",
        ),
        drop=(f"drop owned by {LEAVER} cascade", "drop table lent_table"),
        as_superuser=True,
    ),
    Case(
        "Not carried: roles, large objects, publications, event triggers, what changes no definition",
        create=(
            "create role matrix_elsewhere; alter role matrix_elsewhere with createdb; "
            "comment on role matrix_elsewhere is 'x'",
            f"grant matrix_elsewhere to {OTHER}; revoke matrix_elsewhere from {OTHER}",
            "do $$ begin execute format('grant connect on database %I to matrix_elsewhere', current_database()); "
            "execute format('comment on database %I is $c$x$c$', current_database()); "
            "execute format('revoke connect on database %I from matrix_elsewhere', current_database()); end $$",
            "grant set on parameter work_mem to matrix_elsewhere",
            "select lo_create(4711); comment on large object 4711 is 'x'; "
            "grant select on large object 4711 to public; alter large object 4711 owner to matrix_elsewhere",
            "create publication matrix_own for table of_owner; comment on publication matrix_own is 'x'",
            "alter publication matrix_own rename to matrix_owned",
            "create subscription matrix_sub connection 'dbname=none' publication none "
            "with (connect = false, slot_name = none)",
            "create function on_ddl() returns event_trigger language plpgsql as 'begin end'",
            "create event trigger matrix_event on ddl_command_start execute function on_ddl()",
            "alter event trigger matrix_event disable; comment on event trigger matrix_event is 'x'",
        ),
        alter=(
            "reindex table of_owner; analyze of_owner; begin; lock table of_owner; commit",
            "create temp table passing (id int); alter table passing add v text; drop table passing",
        ),
        drop=(
            "drop event trigger matrix_event; drop function on_ddl",
            "drop subscription matrix_sub; drop publication matrix_owned",
            "select lo_unlink(4711)",
            "revoke set on parameter work_mem from matrix_elsewhere; drop role matrix_elsewhere",
        ),
        as_superuser=True,
    ),
)
