"""Forms of ALTER that are seldom written: modes of triggers and rules, logging, what depends on an extension."""

from __future__ import annotations

from typing import Final

from tests.integration.ddl.matrix import OTHER, Case

CASES: Final = (
    Case(
        "modes of triggers and rules",
        create=(
            "create table mode (id int primary key, v text)",
            "create function mode_trigger() returns trigger language plpgsql as 'begin return new; end'",
            "create trigger one before insert on mode for each row execute function mode_trigger()",
            "create trigger two before update on mode for each row execute function mode_trigger()",
            "create rule gone as on delete to mode where old.id < 0 do instead nothing",
            "insert into mode values (1, 'a')",
        ),
        alter=(
            "alter table mode enable always trigger one, enable replica trigger two",
            "insert into mode values (2, 'b'); update mode set v = 'c' where id = 1",
            "alter table mode disable trigger user",
            "alter table mode enable trigger all",
            "alter table mode enable replica rule gone",
            "delete from mode where id = 2",
            "alter table mode enable rule gone",
            "alter trigger one on mode rename to won; alter rule gone on mode rename to stays",
        ),
        drop=("drop table mode", "drop function mode_trigger()"),
    ),
    Case(
        "ALTER TABLE … SET UNLOGGED, SET LOGGED, SET WITHOUT OIDS, SET TABLESPACE",
        create=("create table log (id int primary key, v text)", "insert into log values (1, 'a')"),
        alter=(
            "alter table log set unlogged",
            "insert into log values (2, 'b'); alter table log set logged",
            "insert into log values (3, 'c')",
            "alter table log set without oids; alter table log set tablespace pg_default; "
            "alter index log_pkey set tablespace pg_default",
        ),
        drop=("drop table log",),
    ),
    Case(
        "names with dots, quotes, newlines and percent signs",
        create=(
            'create schema "Dot.""ted\nschema"; create table "Dot.""ted\nschema"."Ta.ble ☃" '
            '("co.l\n1" int primary key, "sel""ect" text default \'x\ny\', "ALTER TABLE x" int)',
            'insert into "Dot.""ted\nschema"."Ta.ble ☃" values (1)',
            'create index "i.dx\n%s" on "Dot.""ted\nschema"."Ta.ble ☃" ("sel""ect")',
            """create type "Dot.""ted\nschema"."ty.pe" as enum ('a.b', 'c\nd')""",
            'create function "Dot.""ted\nschema"."f.n"("a.b" "Dot.""ted\nschema"."ty.pe", '
            '"Dot.""ted\nschema"."ty.pe"[]) '
            "returns int language sql as 'select 1'",
            'create sequence "Dot.""ted\nschema"."s.%I"',
        ),
        alter=(
            """alter type "Dot.""ted\nschema"."ty.pe" add value 'e.f'""",
            """alter table "Dot.""ted\nschema"."Ta.ble ☃" add column "☃" "Dot.""ted\nschema"."ty.pe"[] """
            "default '{a.b}'",
            'alter table "Dot.""ted\nschema"."Ta.ble ☃" rename "co.l\n1" to "c2.""x"',
            'select 1; alter table "Dot.""ted\nschema"."Ta.ble ☃" drop column "ALTER TABLE x"; '
            'alter function "Dot.""ted\nschema"."f.n" rename to "g.n"',
            'do $$ begin alter table "Dot.""ted\nschema"."Ta.ble ☃" add "in""do" int; end $$',
            'alter sequence "Dot.""ted\nschema"."s.%I" owned by "Dot.""ted\nschema"."Ta.ble ☃"."c2.""x"',
            'drop function "Dot.""ted\nschema"."g.n"("Dot.""ted\nschema"."ty.pe", "Dot.""ted\nschema"."ty.pe"[])',
        ),
        drop=('drop schema "Dot.""ted\nschema" cascade',),
    ),
    Case(
        "temporary objects, however they are spelled",
        create=(
            "create table lasting (id int primary key)",
            "create temp table t_one (id int); create local temporary table t_two (id serial primary key)",
            "create table pg_temp.t_three (id int); create temp table t_four as select 1 as n; "
            "select 1 as n into temp t_five",
            "create temp sequence t_numbers; create temp view t_view as select 1 as n; "
            "create view t_seen as table t_one",
            "create type pg_temp.t_kind as (a int); create domain pg_temp.t_domain as int; "
            "create function pg_temp.t_f() returns int language sql as 'select 1'",
            "create temp table t_parts (a int) partition by list (a); "
            "create temp table t_part partition of t_parts for values in (1)",
            "create temp table t_heir () inherits (lasting); insert into lasting values (1); "
            "insert into t_heir values (2)",
        ),
        alter=(
            "create index on t_one (id); alter table t_one add column b int; comment on table t_one is 'x'; "
            f"grant select on t_one to {OTHER}; create statistics pg_temp.t_statistics on id, b from t_one",
            "create trigger t_trigger before update on t_one for each row "
            "execute function suppress_redundant_updates_trigger(); "
            "create rule t_rule as on insert to t_one do also nothing; "
            "create policy t_policy on t_one using (true); alter table t_one enable row level security",
            "begin; create temp table t_gone (id int) on commit drop; create table lasting_too (id int primary key); "
            "insert into t_gone values (1); insert into lasting_too select id from t_gone; commit",
            "alter table lasting add column v text default 'z'",
        ),
        drop=("discard temp", "drop table lasting, lasting_too"),
    ),
    Case(
        "ALTER … DEPENDS ON EXTENSION, ALTER COLLATION … REFRESH VERSION",
        create=(
            "create extension intarray",
            "create table hung (id int primary key, v text)",
            "create index hung_v on hung (v)",
            "create materialized view hung_seen as select 1 as n",
            "create function hung_f() returns int language sql as 'select 1'",
            "create procedure hung_p() language plpgsql as 'begin end'",
            "create function hung_t() returns trigger language plpgsql as 'begin return new; end'",
            "create trigger hung_one before insert on hung for each row execute function hung_t()",
            "create collation hung_c (provider = libc, locale = 'C')",
        ),
        alter=(
            "alter function hung_f() depends on extension intarray; alter index hung_v depends on extension intarray",
            "alter materialized view hung_seen depends on extension intarray",
            "alter procedure hung_p() depends on extension intarray; "
            "alter routine hung_p() no depends on extension intarray",
            "alter trigger hung_one on hung depends on extension intarray",
            "alter index hung_v no depends on extension intarray",
            "alter collation hung_c refresh version",
        ),
        drop=("drop extension intarray", "drop table hung; drop procedure hung_p(); drop function hung_t()",
              "drop collation hung_c"),
        as_superuser=True,
    ),
)  # fmt: skip
