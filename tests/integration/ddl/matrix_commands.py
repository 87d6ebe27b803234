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


_CLUSTER_WIDE: Final = "it belongs to the whole server, not to the database"
_OWN: Final = "each side has its own"
_NO_CHANGE: Final = "it changes no definition"
_ON_EACH: Final = "run it on each server"


def _not(name: str, why: str, instead: str) -> Command:
    return Command(name, How.NOT, why, instead)


def _objects(*kinds: str) -> list[Command]:
    return [Command(f"{verb} {kind}") for kind in kinds for verb in ("CREATE", "ALTER", "DROP")]


COMMANDS: Final = (
    # Tables and what is on them.
    *_objects("TABLE", "INDEX", "SEQUENCE", "TRIGGER", "RULE", "POLICY"),
    Command("CREATE TABLE AS", How.FACTS, "its rows come in the log"),
    Command("SELECT INTO", How.FACTS, "its rows come in the log"),
    _not("TRUNCATE", "it is no schema change: it is replicated as rows are", "nothing"),
    _not("REINDEX", _NO_CHANGE, _ON_EACH),
    _not("CLUSTER", "the order of rows in a table is each server's own", _ON_EACH),
    _not("VACUUM", _NO_CHANGE, "autovacuum does it"),
    _not("ANALYZE", _NO_CHANGE, "autovacuum does it"),
    # Everything else in a database: see cases_schemas.py and its like.
)
