"""The in-memory store: objects as tables of DuckDB, loaded, replayed, merged, asked and evicted.

In: `Batch`es in order, persistence to load from. Out: tables that many read at one LSN. To read it in order:

- `memory`, the writer's thread: one batch after another; `residency` and `room`, what comes and goes; `policy`;
- `resident`, what is known of one object, and its residence; `reading`, `source` and `load`, how it comes;
- `replay`, a batch on the tables; `changes`, `follow`, `reshape` and `schema`, schema changes on them;
- `parts` and `main`, segments and delta; `keys`, `merge`; `table`, `types`, `rows` and `cells`, SQL and values;
- `store`, the database; `staging`, Arrow tables in it; `query` and `pin`, readers.
"""
