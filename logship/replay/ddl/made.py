"""Statements made from what the primary's catalog says, where its text can't be run again.

In: an `Object` with its facts. Out: SQL for one statement, every name quoted and qualified. No I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from logship.replay.ddl.message import Object


def create_table(made: Object) -> str:
    """The table that CREATE TABLE AS or SELECT INTO made, without its rows, which the log brings."""
    facts = made.facts or {}
    columns = ", ".join(_column(column) for column in facts.get("columns") or ())
    unlogged = "unlogged " if facts.get("persistence") == "u" else ""
    name = ".".join(quote(part) for part in made.names)
    method = f" using {quote(facts['access_method'])}" if facts.get("access_method") else ""
    options = f" with ({', '.join(facts['options'])})" if facts.get("options") else ""
    space = f" tablespace {quote(facts['tablespace'])}" if facts.get("tablespace") else ""
    return f"create {unlogged}table {name} ({columns}){method}{options}{space}"


def quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _column(column: Mapping[str, Any]) -> str:
    collation = f" collate {column['collation']}" if column.get("collation") else ""
    return f"{quote(column['name'])} {column['type']}{collation}"
