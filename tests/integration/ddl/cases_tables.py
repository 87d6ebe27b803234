"""Tables, their columns and constraints."""

from __future__ import annotations

from typing import Final

from tests.integration.ddl.matrix import Case

CASES: Final = (
    Case(
        "table",
        create=(
            "create table tab (id int primary key, v text)",
            "insert into tab values (1, 'a'), (2, null)",
            'create table "Odd ""name""" ("Ünï" int primary key, "select" text default \'x\'\'y\')',
            "create table if not exists tab (id int)",
        ),
        alter=(
            "alter table tab add column n int",
            "update tab set n = 3 where id = 1",
            "alter table tab add column d int default 7 not null, add column e text",
            'alter table "Odd ""name""" rename to plain',
            'alter table plain rename column "Ünï" to id',
            "alter table tab rename column v to w",
            "alter table tab rename to tab_renamed",
            "insert into tab_renamed (id, w) values (3, 'c')",
            "alter table tab_renamed drop column n",
            "alter table if exists nothing_here add column n int",
        ),
        drop=("drop table tab_renamed", "drop table plain, tab", "drop table if exists tab")[:1]
        + ("drop table plain", "drop table if exists tab"),
    ),
    Case(
        "column settings",
        create=("create table col (id int primary key, v text, n int)",),
        alter=(
            "alter table col alter column v set default 'x', alter column n set default 5",
            "alter table col alter v set not null",
            "alter table col alter v drop not null, alter v drop default",
            "alter table col alter v set storage external",
            "alter table col alter v set statistics 200",
            "alter table col alter v set (n_distinct = 5)",
            "alter table col alter v reset (n_distinct)",
            "alter table col alter v set compression pglz",
            "alter table col set (fillfactor = 70, autovacuum_enabled = off)",
            "alter table col reset (fillfactor)",
        ),
        drop=("drop table col",),
    ),
    Case(
        "constraints",
        create=(
            "create table con_p (id int, code text, primary key (id), constraint code_once unique (code))",
            "create table con (id int primary key, p int references con_p on delete cascade, n int check (n > 0), "
            "unique nulls not distinct (n), period int4range, exclude using gist (period with &&) deferrable)",
        ),
        alter=(
            "alter table con add constraint n_small check (n < 100) not valid",
            "alter table con validate constraint n_small",
            "alter table con rename constraint n_small to n_brief",
            "alter table con drop constraint n_brief",
            "alter table con add column q text, add constraint q_known foreign key (q) references con_p (code) "
            "deferrable initially deferred",
            "alter table con alter constraint q_known not deferrable",
            "create unique index con_q on con (q)",
            "alter table con add constraint con_q_once unique using index con_q",
            "insert into con_p values (1, 'a')",
            "insert into con values (1, 1, 5, '[1,3)', 'a')",
            "alter table con drop constraint con_pkey",
            "alter table con add primary key (id)",
            "alter table con_p drop constraint code_once cascade",
        ),
        drop=("drop table con_p cascade", "drop table con"),
    ),
    Case(
        "unlogged table",
        create=("create unlogged table unl (id int primary key)",),
        alter=("alter table unl add column v text",),
        drop=("drop table unl",),
    ),
)
