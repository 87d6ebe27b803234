"""Indexes and sequences."""

from __future__ import annotations

from typing import Final

from tests.integration.ddl.matrix import Case

CASES: Final = (
    Case(
        "index",
        create=(
            "create table ind (id int primary key, v text, n int, j jsonb)",
            "create index on ind (v)",
            "create index ind_many on ind using btree (n desc nulls last, lower(v) text_pattern_ops) include (id) "
            "with (fillfactor = 60) where n > 0",
            "create index if not exists ind_many on ind (n)",
            "create index on ind using gin (j jsonb_path_ops)",
            "create index on ind using hash (v)",
            "create index on ind using brin (n) with (pages_per_range = 4)",
        ),
        alter=(
            "alter index ind_many rename to ind_most",
            "alter index ind_most set (fillfactor = 50)",
            "alter index ind_most reset (fillfactor)",
            "alter index ind_most alter column 2 set statistics 300",
            "alter index ind_v_idx rename to ind_v",
            "alter table ind cluster on ind_v",
            "alter table ind set without cluster",
            "reindex table ind",
        ),
        drop=("drop index ind_most", "drop index if exists ind_most", "drop table ind"),
    ),
    Case(
        "index made concurrently",
        create=(
            "create table conc (id int primary key, v text)",
            "insert into conc values (1, 'a')",
            "create index concurrently conc_v on conc (v)",
            'create unique index concurrently if not exists "concurrently" on conc (v)',
            "create index concurrently on conc (id, v)",
        ),
        alter=(
            "reindex index concurrently conc_v",
            'alter index "concurrently" rename to conc_once',
            "insert into conc values (2, 'b')",
        ),
        drop=(
            "drop index concurrently conc_v",
            "drop index concurrently if exists conc_once",
            "drop table conc",
        ),
    ),
    Case(
        "sequence",
        create=(
            "create sequence seq as smallint start 5 increment 2 minvalue 1 maxvalue 100 cache 3 cycle",
            "create sequence if not exists seq",
            'create sequence "Seq two" owned by none',
            "create sequence seq_three",
        ),
        alter=(
            "alter sequence seq increment 3 maxvalue 200 no cycle",
            "alter sequence seq rename to seq_one",
            "alter sequence seq_one restart with 50",
            "create table seq_t (id int primary key default nextval('seq_one'))",
            "alter sequence seq_one owned by seq_t.id",
            "alter sequence seq_three as integer",
            "alter sequence if exists nothing_here increment 3",
            "alter sequence seq_three owner to matrix_other",
            'alter sequence seq_three owner to "matrix owner"',
        ),
        drop=("drop table seq_t", 'drop sequence "Seq two"', "drop sequence if exists seq_one, seq_three"),
    ),
)
