"""Forms of ALTER that are seldom written: modes of triggers and rules, logging, what depends on an extension."""

from __future__ import annotations

from typing import Final

from tests.integration.ddl.matrix import Case

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
