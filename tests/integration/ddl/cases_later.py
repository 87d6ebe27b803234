"""What PostgreSQL has since 16, 17 and 18: both servers must."""

from __future__ import annotations

from typing import Final

from tests.integration.ddl.matrix import Case

CASES: Final = (
    Case(
        "column storage in CREATE TABLE (16)",
        create=("create table since_16 (id int primary key, v text storage external)",),
        alter=("alter table since_16 alter v set storage default", "insert into since_16 values (1, 'x')"),
        drop=("drop table since_16",),
        since=16,
    ),
    Case(
        "expressions of generated columns, identity in partitions (17)",
        create=(
            "create table since_17 (id int primary key, n int, twice int generated always as (n * 2) stored)",
            "create table since_17_p (id int generated always as identity, at int) partition by range (at)",
            "create table since_17_1 partition of since_17_p for values from (0) to (10)",
            "insert into since_17_p (at) values (1), (2)",
        ),
        alter=(
            "alter table since_17 alter twice set expression as (n * 3)",
            "insert into since_17 (id, n) values (1, 5)",
            "alter table since_17_p set access method heap",
        ),
        drop=("drop table since_17, since_17_p",),
        since=17,
    ),
    Case(
        "virtual columns, constraints not enforced, NOT NULL by name, periods (18)",
        create=(
            "create table since_18 (id int primary key, n int, twice int generated always as (n * 2), "
            "constraint n_there not null n, constraint n_small check (n < 10) not enforced)",
            "create table since_18_f (id int references since_18 not enforced, v text)",
            "insert into since_18 (id, n) values (1, 50)",
        ),
        alter=(
            "create table since_18_v (id int primary key, n int, twice int generated always as (n * 2))",
            "alter table since_18_v alter twice set expression as (n * 3)",
            "alter table since_18 drop constraint n_there",
            "alter table since_18 add constraint n_again not null n not valid",
            "alter table since_18 validate constraint n_again",
            "alter table since_18 alter constraint n_again no inherit",
            "alter table since_18_f alter constraint since_18_f_id_fkey enforced",
            "alter table since_18_f add constraint v_there not null v",
            "insert into since_18 (id, n) values (2, 6)",
            "insert into since_18_f values (1, 'v')",
            "create table since_18_l (like since_18 including all)",
        ),
        drop=("drop table since_18_f", "drop table since_18, since_18_l, since_18_v"),
        since=18,
    ),
    Case(
        "SQL functions that alter a table (18)",
        create=(
            "create function later_sql() returns void language sql as $$ create table later_t "
            "(id int primary key, n int, twice int generated always as (n * 2) virtual, check (n < 9) not enforced) $$",
            "select later_sql()",
        ),
        alter=("insert into later_t values (1, 2)",),
        drop=("drop table later_t", "drop function later_sql()"),
        since=18,
    ),
)
