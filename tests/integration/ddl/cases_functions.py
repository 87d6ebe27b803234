"""Cases of the statement matrix: functions, procedures, aggregates, languages, operators and their classes."""

from __future__ import annotations

from tests.integration.ddl.matrix import OTHER, OWNER, Case

CASES = (
    Case(
        "CREATE FUNCTION, ALTER FUNCTION, DROP FUNCTION",
        create=(
            "create function plus(a int, b int default 1) returns int language sql immutable as 'select a + b'",
            "create function plus(a text, b text) returns text language sql as $$ select a || ';' || b; $$",
            "create function twice(a int) returns int return a * 2",
            "create function one_and(a int) returns int begin atomic; select 1; select a; end",
            "create function rows_of(out a int, out b text) returns setof record language plpgsql "
            "as $f$ begin a := 1; b := 'create table x ();'; return next; end $f$",
            "create function named(n int) returns table (id int, v text) language sql as 'select n, ''v''::text'",
            "create function many(variadic a int[]) returns int language plpgsql strict security definer cost 7 "
            "set search_path = public, pg_temp as 'begin return a[1]; end'",
            'create function "Odd (name"("A" timestamp with time zone, double precision, varchar(3)[]) returns void '
            "language plpgsql as 'begin end'",
        ),
        alter=(
            "create or replace function plus(a int, b int default 2) returns int language sql immutable as "
            "'select a - b'",
            "alter function plus(int, int) strict parallel safe cost 9",
            "alter function plus(int, int) set work_mem = '5MB'",
            "alter function plus(int, int) reset all",
            "alter function plus(text, text) rename to joined",
            "alter function joined stable",
            f"alter function joined(text, text) owner to {OTHER}",
            f"grant execute on function twice(int), one_and to {OTHER}",
            "revoke all on function twice from public",
            "comment on function twice(int) is 'two times'",
            "alter routine rows_of rows 10",
            'alter function "Odd (name"(timestamptz, float8, varchar[]) called on null input',
            "create schema functions",
            "alter function one_and(int) set schema functions",
            "alter function many(int[]) security invoker",
        ),
        drop=(
            "drop function plus(int, int), joined(text, text)",
            "drop function if exists plus(int, int), many",
            "drop function functions.one_and, rows_of(), named(int), twice",
            'drop function "Odd (name"(timestamp with time zone, double precision, character varying[])',
            "drop schema functions",
        ),
    ),
    Case(
        "CREATE PROCEDURE, ALTER PROCEDURE, DROP PROCEDURE; ALTER ROUTINE, DROP ROUTINE",
        create=(
            "create procedure does(inout a int) language plpgsql as 'begin a := a + 1; commit; end'",
            "create procedure does_not() begin atomic; end",
        ),
        alter=(
            "alter procedure does(int) rename to did",
            "alter procedure did(int) security definer",
            f"alter procedure did(inout int) owner to {OTHER}",
            f'grant execute on procedure did(int) to "{OWNER}"',
            "comment on procedure does_not is 'nothing'",
            "comment on routine did(int) is 'something'",
            "alter routine does_not() rename to nothing_done",
        ),
        drop=("drop procedure did(int)", "drop routine nothing_done"),
    ),
    Case(
        "CREATE AGGREGATE, ALTER AGGREGATE, DROP AGGREGATE",
        create=(
            "create aggregate total(int) (sfunc = int4pl, stype = int, initcond = '0', combinefunc = "
            "int4pl, parallel = safe)",
            "create aggregate total(float8) (sfunc = float8pl, stype = float8)",
            "create aggregate counted(*) (sfunc = int8inc, stype = int8, initcond = '0')",
            "create aggregate middle(float8 order by anyelement) (sfunc = ordered_set_transition, stype = internal, "
            "finalfunc = percentile_disc_final, finalfunc_extra = true, finalfunc_modify = read_write)",
            "create aggregate old_style (basetype = int4, sfunc = int4larger, stype = int, sortop = >)",
        ),
        alter=(
            "create or replace aggregate total(float8) (sfunc = float8pl, stype = float8, initcond = '1')",
            "alter aggregate total(int) rename to summed",
            f"alter aggregate summed(int) owner to {OTHER}",
            "comment on aggregate counted(*) is 'how many'",
            f"grant execute on function counted() to {OTHER}",
            "create schema aggregates",
            "alter aggregate middle(float8 order by anyelement) set schema aggregates",
        ),
        drop=(
            "drop aggregate summed(int), total(float8)",
            "drop aggregate counted(*)",
            "drop aggregate if exists old_style(int)",
            "drop schema aggregates cascade",
        ),
        as_superuser=True,
    ),
    Case(
        "CREATE OPERATOR, ALTER OPERATOR, DROP OPERATOR",
        create=(
            "create type at as (x int)",
            "create function at_equal(at, at) returns boolean language sql immutable as 'select ($1).x = ($2).x'",
            "create function at_flip(at) returns at language sql immutable as 'select $1'",
            "create operator === (leftarg = at, rightarg = at, function = at_equal, commutator = ===, "
            "restrict = eqsel, hashes)",
            "create operator @#@ (rightarg = at, procedure = at_flip)",
        ),
        alter=(
            "alter operator === (at, at) set (restrict = none, join = eqjoinsel)",
            f"alter operator === (at, at) owner to {OTHER}",
            "comment on operator @#@ (none, at) is 'turned around'",
            "create schema operators",
            "alter operator @#@ (none, at) set schema operators",
        ),
        drop=(
            "drop operator === (at, at)",
            "drop operator operators.@#@ (none, at)",
            "drop schema operators",
            "drop type at cascade",
        ),
    ),
    Case(
        "CREATE OPERATOR CLASS, CREATE OPERATOR FAMILY, ALTER, DROP",
        create=(
            "create operator family numbers using btree",
            "create operator class small for type int using btree family numbers as operator 1 <, operator 2 <=, "
            "operator 3 =, operator 4 >=, operator 5 >, function 1 btint4cmp(int, int)",
            "create operator class alone for type text using hash as operator 1 =, function 1 hashtext(text)",
            "create table classed (id int primary key, n int); create index on classed (n small)",
            "insert into classed values (1, 1)",
        ),
        alter=(
            "alter operator family numbers using btree add operator 1 < (int, bigint), function 1 "
            "btint48cmp(int, bigint)",
            "alter operator family numbers using btree drop operator 1 (int, bigint), function 1 (int, bigint)",
            "alter operator family numbers using btree rename to integers",
            "alter operator class small using btree rename to smaller",
            f"alter operator class alone using hash owner to {OTHER}",
            f"alter operator family alone using hash owner to {OTHER}",
            "comment on operator class smaller using btree is 'a class'",
            "comment on operator family integers using btree is 'a family'",
            "create schema classes",
            "alter operator class smaller using btree set schema classes",
            "alter operator family integers using btree set schema classes",
        ),
        drop=(
            "drop table classed",
            "drop operator class classes.smaller using btree",
            "drop operator family classes.integers using btree",
            "drop operator family alone using hash cascade",
            "drop schema classes",
        ),
        as_superuser=True,
    ),
    Case(
        "CREATE LANGUAGE, ALTER LANGUAGE, DROP LANGUAGE",
        create=(
            "create function own_handler() returns language_handler language c as '$libdir/plpgsql', "
            "'plpgsql_call_handler'",
            "create trusted language own handler own_handler",
        ),
        alter=(
            "alter language own rename to owned",
            f"grant usage on language owned to {OTHER}",
            "revoke usage on language owned from public",
            "comment on language owned is 'speaks'",
            "create function spoken() returns int language owned as 'begin return 1; end'",
            f'alter language owned owner to "{OWNER}"',
        ),
        drop=("drop language owned cascade", "drop function own_handler"),
        as_superuser=True,
    ),
    Case(
        "CREATE ACCESS METHOD, DROP ACCESS METHOD",
        create=(
            "create access method own_heap type table handler heap_tableam_handler",
            "comment on access method own_heap is 'the same'",
            "create table on_own (id int primary key) using own_heap",
            "insert into on_own values (1)",
        ),
        drop=("drop table on_own", "drop access method own_heap"),
        as_superuser=True,
    ),
)
