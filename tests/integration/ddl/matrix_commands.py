"""PostgreSQL 18's commands that change a schema, and what becomes of each: read by `matrix_page`.

Names are those of PostgreSQL's command tags (a GRANT on a table and one on a schema are one command).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final


class How(enum.Enum):
    TEXT = "its text"
    FACTS = "made from the catalog"
    NOT = "not carried"


@dataclass(frozen=True, slots=True)
class Command:
    """``why``: of what isn't carried; of what is, what should be known. ``instead``: what to do then."""

    name: str
    how: How = How.TEXT
    why: str = ""
    instead: str = ""


_SERVER: Final = "it belongs to the whole server, and event triggers don't see it"
_EACH: Final = "run it on each server"
_ROLES: Final = (
    "create roles on the secondary before what they own or are granted is made on the primary: see ddl.md"
)
_OWN: Final = "each server has its own: it says who replicates what to whom"


def _not(why: str, instead: str, *names: str) -> list[Command]:
    return [Command(name, How.NOT, why, instead) for name in names]


def _objects(*kinds: str) -> list[Command]:
    return [Command(f"{verb} {kind}") for kind in kinds for verb in ("CREATE", "ALTER", "DROP")]


COMMANDS: Final = (
    *_objects("TABLE"),
    Command("CREATE TABLE AS", How.FACTS, "its rows come in the log"),
    Command("SELECT INTO", How.FACTS, "its rows come in the log"),
    *_objects("INDEX", "SEQUENCE", "TRIGGER", "RULE", "POLICY", "VIEW", "MATERIALIZED VIEW"),
    Command("REFRESH MATERIALIZED VIEW", why="the secondary runs its query"),
    *_objects("SCHEMA", "TYPE", "DOMAIN", "FUNCTION", "PROCEDURE"),
    Command("ALTER ROUTINE"),
    Command("DROP ROUTINE"),
    *_objects("AGGREGATE", "OPERATOR", "OPERATOR CLASS", "OPERATOR FAMILY", "COLLATION", "CONVERSION"),
    Command("CREATE CAST"),
    Command("DROP CAST"),
    Command("CREATE TRANSFORM"),
    Command("DROP TRANSFORM"),
    Command("CREATE ACCESS METHOD"),
    Command("DROP ACCESS METHOD"),
    *_objects("STATISTICS", "LANGUAGE"),
    *_objects("TEXT SEARCH CONFIGURATION", "TEXT SEARCH DICTIONARY", "TEXT SEARCH PARSER", "TEXT SEARCH TEMPLATE"),
    *(Command(f"{verb} EXTENSION", why="its files must be on the secondary") for verb in ("CREATE", "ALTER", "DROP")),
    *(Command(f"{verb} {kind}", why="values of OPTIONS, which may be passwords, are not kept: see ddl.md, Secrets")
      for kind in ("FOREIGN DATA WRAPPER", "SERVER", "USER MAPPING", "FOREIGN TABLE")
      for verb in ("CREATE", "ALTER")),
    *(Command(f"DROP {kind}") for kind in ("FOREIGN DATA WRAPPER", "SERVER", "USER MAPPING", "FOREIGN TABLE")),
    Command("COMMENT", why="not on what belongs to the whole server: databases, roles, tablespaces"),
    *(Command(name, why="not of membership in a role, nor on databases, tablespaces, parameters and large objects")
      for name in ("GRANT", "REVOKE")),
    Command("ALTER DEFAULT PRIVILEGES"),
    Command("DROP OWNED"),
    Command("IMPORT FOREIGN SCHEMA", why="the secondary asks the foreign server itself: the answers must be the same"),
    *_not("PostgreSQL tells nobody of it", "ALTER … OWNER TO for each object, or run it on each server",
          "REASSIGN OWNED"),
    *_not("untested, for want of a label provider: its text is run, the labels aren't compared",
          "compare pg_seclabels of both sides", "SECURITY LABEL"),
    *_not(_SERVER, _ROLES, "CREATE ROLE", "ALTER ROLE", "DROP ROLE", "CREATE USER", "ALTER USER", "DROP USER",
          "CREATE GROUP", "ALTER GROUP", "DROP GROUP"),
    *_not(_SERVER, _EACH, "CREATE DATABASE", "ALTER DATABASE", "DROP DATABASE", "CREATE TABLESPACE", "ALTER TABLESPACE",
          "DROP TABLESPACE", "ALTER SYSTEM"),
    *_not("event triggers don't fire for each other", _EACH, "CREATE EVENT TRIGGER", "ALTER EVENT TRIGGER",
          "DROP EVENT TRIGGER"),
    *_not(_OWN, _EACH, "CREATE PUBLICATION", "ALTER PUBLICATION", "DROP PUBLICATION"),
    *_not(_OWN + "; nothing of it is written into the log, its password neither", _EACH, "CREATE SUBSCRIPTION",
          "ALTER SUBSCRIPTION", "DROP SUBSCRIPTION"),
    *_not("large objects aren't replicated: see check.md", "keep what they hold in columns of type bytea",
          "ALTER LARGE OBJECT"),
    *_not("it changes no definition", _EACH, "REINDEX", "CLUSTER", "VACUUM", "ANALYZE", "LOCK", "CHECKPOINT", "LOAD"),
    *_not("it is no schema change: it is replicated as rows are", "nothing", "TRUNCATE"),
    *_not("it is no schema change itself: what runs in it is carried", "nothing", "DO", "CALL"),
)  # fmt: skip
# The rest of PostgreSQL's list, which changes no schema.
OTHERS: Final[dict[str, tuple[str, ...]]] = {
    "what a transaction has done is carried whole, in one; what is rolled back, not at all":
        ("ABORT", "BEGIN", "COMMIT", "COMMIT PREPARED", "END", "PREPARE TRANSACTION", "RELEASE SAVEPOINT", "ROLLBACK",
         "ROLLBACK PREPARED", "ROLLBACK TO SAVEPOINT", "SAVEPOINT", "SET CONSTRAINTS", "SET TRANSACTION",
         "START TRANSACTION"),
    "rows are carried, and what a function does that it calls":
        ("CLOSE", "COPY", "DEALLOCATE", "DECLARE", "DELETE", "EXECUTE", "FETCH", "INSERT", "MERGE", "MOVE",
         "PREPARE", "SELECT", "TABLE", "UPDATE", "VALUES", "WITH"),
    "its own rows are carried; but PostgreSQL fires no event trigger for what `EXPLAIN ANALYZE` of `CREATE TABLE AS`, "
    "`SELECT INTO` or `CREATE MATERIALIZED VIEW` makes, so that isn't carried: see [ddl.md](ddl.md)": ("EXPLAIN",),
    "a statement brings along the settings that change its meaning":
        ("DISCARD", "RESET", "SET", "SET ROLE", "SET SESSION AUTHORIZATION", "SHOW"),
    "not replicated: they go from one session to another": ("LISTEN", "NOTIFY", "UNLISTEN"),
}  # fmt: skip
