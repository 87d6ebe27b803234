"""Cases of the statement matrix: types of every kind, domains, casts, collations, conversions, transforms."""

from __future__ import annotations

from tests.integration.ddl.matrix import OTHER, OWNER, Case

CASES = (
    Case(
        "CREATE TYPE … AS ENUM, ALTER TYPE … ADD VALUE, RENAME VALUE, DROP TYPE",
        create=(
            "create type mood as enum ('sad', 'it''s ok', 'happy')",
            'create type "Empty Enum" as enum ()',
            "create table felt (id int primary key, m mood, ms mood[])",
            "insert into felt values (1, 'sad', '{sad,happy}')",
        ),
        alter=(
            "alter type mood add value 'glad' before 'happy'",
            "alter type mood add value if not exists 'glad'",
            "insert into felt values (2, 'glad', null)",
            "alter type mood rename value 'sad' to 'blue'",
            "alter type \"Empty Enum\" add value 'first'",
            "alter type mood rename to feeling",
            f"alter type feeling owner to {OTHER}",
            f'alter type feeling owner to "{OWNER}"',
            f"grant usage on type feeling to {OTHER}",
            "revoke usage on type feeling from public",
            "comment on type feeling is 'how it goes'",
            "create schema typed",
            "alter type feeling set schema typed",
        ),
        drop=("drop table felt", 'drop type typed.feeling, "Empty Enum"', "drop schema typed"),
    ),
    Case(
        "types renamed between rows",  # the walsender has announced them, and doesn't again
        create=(
            "create type met as enum ('a'); create domain met_by as text; "
            "create table meeting (id int primary key, m met, ms met[], d met_by)",
            "insert into meeting values (1, 'a', '{a}', 'd')",
            "alter type met rename to met_once",
            "update meeting set id = 2",
            "begin; insert into meeting values (3, 'a', '{a}', 'd'); alter type met_once rename to met_twice; "
            "alter domain met_by rename to met_with; insert into meeting values (4, 'a', '{a}', 'd'); commit",
            "insert into meeting values (5, 'a', '{a}', 'd')",
        ),
        drop=("drop table meeting", "drop type met_twice", "drop domain met_with"),
    ),
    Case(
        "schemas and row types renamed between rows",
        create=(
            "create schema seen; create type seen.enough as enum ('a'); create type seen.both as (a int, b int); "
            "create table row_of_it (a int primary key)",
            "create table sighting (id int primary key, e seen.enough, es seen.enough[], c seen.both, r row_of_it)",
            "insert into sighting values (1, 'a', '{a}', (1, 2), row(1))",
            'alter schema seen rename to "Seen again"',
            "insert into sighting values (2, 'a', '{a}', (1, 2), row(1))",
            'alter type "Seen again".both rename to pair_of_them; alter table row_of_it rename to row_of_them',
            "begin; insert into sighting values (3, 'a', '{a}', (1, 2), row(1)); "
            'alter schema "Seen again" rename to seen; alter table public.row_of_them set schema seen; '
            "insert into sighting values (4, 'a', '{a}', (1, 2), row(1)); commit",
            "insert into sighting values (5, 'a', '{a}', (1, 2), row(1))",
        ),
        drop=("drop table sighting", "drop schema seen cascade"),
    ),
    Case(
        "CREATE TYPE … AS (composite), ALTER TYPE … ATTRIBUTE, DROP TYPE",
        create=(
            'create type pair as (a int, b varchar(10) collate "C")',
            "create table paired (id int primary key, p pair)",
            "insert into paired values (1, (1, 'x'))",
            "create type nothing_in_it as ()",
        ),
        alter=(
            "alter type pair add attribute c numeric(6, 2) cascade",
            "alter type pair rename attribute a to first cascade",
            "insert into paired values (2, (2, 'y', 3.5))",
            "alter type pair drop attribute b cascade",
            "alter type nothing_in_it add attribute a text, add attribute b date",
            "alter type nothing_in_it alter attribute a type varchar(5)",
            "alter type pair rename to couple",
            "comment on column couple.first is 'an attribute'",
        ),
        drop=(
            "drop type couple cascade",
            "drop table paired",
            "drop type if exists nothing_in_it, not_there",
        ),
    ),
    Case(
        "CREATE TYPE … AS RANGE, DROP TYPE",
        create=(
            "create type spans as range (subtype = float8, subtype_diff = float8mi)",
            'create type words_from as range (subtype = text, collation = "C", multirange_type_name = many_words)',
            "create table spanned (id int primary key, s spans, w many_words)",
            "insert into spanned values (1, '[1,2)', '{[a,c)}')",
        ),
        alter=(
            "alter type spans rename to spans_of_float",
            "alter type many_words rename to multi_words",
            f"grant usage on type spans_of_float to {OTHER}",
        ),
        drop=("drop type spans_of_float, words_from cascade", "drop table spanned"),
    ),
    Case(
        "CREATE TYPE (a shell, then a base type), ALTER TYPE … SET, DROP TYPE",
        create=(
            "create type whole",
            "create function whole_in(cstring) returns whole language internal immutable strict as 'int4in'",
            "create function whole_out(whole) returns cstring language internal immutable strict as 'int4out'",
            "create type whole (input = whole_in, output = whole_out, internallength = 4, passedbyvalue, "
            "alignment = int4)",
            "create table wholes (id int primary key, w whole)",
            "insert into wholes values (1, '7')",
        ),
        alter=(
            "create function whole_send(whole) returns bytea language internal immutable strict as 'int4send'",
            "alter type whole set (send = whole_send)",
        ),
        drop=("drop table wholes", "drop type whole cascade"),
        as_superuser=True,
    ),
    Case(
        "CREATE DOMAIN, ALTER DOMAIN, DROP DOMAIN",
        create=(
            "create domain price as numeric(9, 2) default 0 not null constraint not_negative check (value >= 0)",
            'create domain word as text collate "C" check (length(value) < 20)',
            "create domain word_of as word check (value <> '')",
            "create table priced (id int primary key, p price, w word_of, ws word[])",
            "insert into priced values (1, 2.5, 'a', '{b}')",
        ),
        alter=(
            "alter domain price set default 1",
            "alter domain price drop default",
            "alter domain price drop not null",
            "alter domain price set not null",
            "alter domain price add constraint small check (value < 1000) not valid",
            "alter domain price validate constraint small",
            "alter domain price rename constraint small to smaller",
            "comment on constraint smaller on domain price is 'below a thousand'",
            "alter domain price drop constraint smaller",
            "alter domain price drop constraint if exists smaller",
            "alter domain price rename to cost",
            "comment on domain cost is 'money'",
            "insert into priced values (2, 3.5, 'c', '{}')",
            f"grant usage on domain cost to {OTHER}",
            f"alter domain cost owner to {OTHER}",
            "create schema domains",
            "alter domain word set schema domains",
        ),
        drop=(
            "drop table priced",
            "drop domain cost, word_of",
            "drop domain domains.word",
            "drop schema domains",
        ),
    ),
    Case(
        "CREATE CAST, COMMENT ON CAST, DROP CAST",
        create=(
            "create type celsius as (t float8)",
            "create type kelvin as (t float8)",
            "create function to_kelvin(celsius) returns kelvin language sql immutable as 'select row(($1).t "
            "+ 273)::kelvin'",
            "create cast (celsius as kelvin) with function to_kelvin(celsius) as assignment",
            "create cast (kelvin as celsius) with inout as implicit",
            "comment on cast (celsius as kelvin) is 'warmer'",
        ),
        alter=(),
        drop=(
            "drop cast (celsius as kelvin)",
            "drop cast if exists (kelvin as celsius)",
            "drop function to_kelvin",
            "drop type celsius, kelvin",
        ),
    ),
    Case(
        "CREATE CAST … WITHOUT FUNCTION",
        create=("create cast (text as bytea) without function",),
        drop=("drop cast (text as bytea)",),
        as_superuser=True,
    ),
    Case(
        "CREATE COLLATION, ALTER COLLATION, DROP COLLATION",
        create=(
            "create collation plain (locale = 'C')",
            "create collation if not exists plain (locale = 'C')",
            'create collation copied from "POSIX"',
            "create table sorted (id int primary key, v text collate plain)",
            "insert into sorted values (1, 'a')",
        ),
        alter=(
            "alter collation plain rename to simple",
            f"alter collation simple owner to {OTHER}",
            "comment on collation copied is 'one that was copied'",
            "create schema collated",
            "alter collation copied set schema collated",
        ),
        drop=("drop table sorted", "drop collation simple", "drop schema collated cascade"),
    ),
    Case(
        "CREATE CONVERSION, ALTER CONVERSION, DROP CONVERSION",
        create=(
            "create conversion latin for 'LATIN1' to 'UTF8' from iso8859_1_to_utf8",
            "comment on conversion latin is 'from the west'",
        ),
        alter=(
            "alter conversion latin rename to western",
            f"alter conversion western owner to {OTHER}",
            "create schema converted",
            "alter conversion western set schema converted",
        ),
        drop=("drop conversion converted.western", "drop schema converted"),
    ),
    Case(
        "CREATE TRANSFORM, DROP TRANSFORM",
        create=(
            "create type heard as enum ('a')",
            "create function heard_from(internal) returns internal language internal immutable as 'prsd_end'",
            "create transform for heard language plpgsql (from sql with function heard_from(internal))",
            "comment on transform for heard language plpgsql is 'between languages'",
        ),
        alter=(
            "create or replace transform for heard language plpgsql (from sql with function heard_from(internal))",
        ),
        drop=("drop transform for heard language plpgsql", "drop function heard_from", "drop type heard"),
        as_superuser=True,
    ),
)
