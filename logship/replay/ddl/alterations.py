"""The commands of an ALTER TABLE that decide what the rows of before hold: ADD COLUMN, and ALTER COLUMN … TYPE.

In: the statement's text, which PostgreSQL's grammar takes. Out: those commands, with where their expressions stand
in it, in bytes. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import postgast


@dataclass(frozen=True, slots=True)
class Added:
    """``default``: where the expression behind DEFAULT stands. ``constant``: what it is, when it is a bare literal."""

    column: str
    if_not_exists: bool
    default: tuple[int, int] | None
    constant: str | None


@dataclass(frozen=True, slots=True)
class Retyped:
    """``using``: the expression, '' for none."""

    column: str
    using: str


def alterations(text: str) -> tuple[Added | Retyped, ...]:
    """In their order; none for other statements."""
    statement = postgast.parse(text).stmts[0].stmt
    if statement.WhichOneof("node") != "alter_table_stmt":
        return ()
    return tuple(_commands(text, statement.alter_table_stmt))


def _commands(text: str, statement: Any) -> Iterator[Added | Retyped]:
    for node in statement.cmds:
        command = node.alter_table_cmd
        kinds = command.DESCRIPTOR.fields_by_name["subtype"].enum_type.values_by_number
        subtype = str(kinds[command.subtype].name)
        if subtype == "AT_AddColumn":
            yield _added(text, getattr(command, "def").column_def, bool(command.missing_ok))
        elif subtype == "AT_AlterColumnType":
            column = getattr(command, "def").column_def
            using = ""
            if column.HasField("raw_default"):
                start, end = _expression(text, column.type_name.location, "USING", ())
                using = text.encode()[start:end].decode()
            yield Retyped(command.name, using)


def _added(text: str, column: Any, if_not_exists: bool) -> Added:
    constraints = [node.constraint for node in column.constraints]
    kinds = (
        constraints[0].DESCRIPTOR.fields_by_name["contype"].enum_type.values_by_number if constraints else {}
    )
    found = next((one for one in constraints if kinds[one.contype].name == "CONSTR_DEFAULT"), None)
    if found is None:
        return Added(column.colname, if_not_exists, None, None)
    behind = [one.location for one in constraints if one.location > found.location]
    if column.HasField("coll_clause") and column.coll_clause.location > found.location:
        behind.append(column.coll_clause.location)
    start, end = _expression(text, found.location, "DEFAULT", behind)
    return Added(column.colname, if_not_exists, (start, end), _constant(found.raw_expr))


def _expression(text: str, after: int, word: str, behind: Any) -> tuple[int, int]:
    """Of the expression that follows ``word``: up to a comma outside of brackets, or to what stands ``behind``."""
    source = text.encode()
    ends = min(behind, default=len(source))
    start, end, depth = None, len(source), 0
    for token in postgast.scan(text).tokens:
        spelled = source[token.start : token.end]
        if token.start < after:
            continue
        if start is None:
            if depth == 0 and spelled.upper() == word.encode():
                start = token.end
        elif (depth == 0 and spelled in (b",", b";")) or token.start >= ends:
            end = token.start
            break
        depth += (spelled in (b"(", b"[")) - (spelled in (b")", b"]"))
    assert start is not None  # the grammar found it
    while source[start : start + 1].isspace():
        start += 1
    while source[end - 1 : end].isspace():
        end -= 1
    return start, end


def _constant(expression: Any) -> str | None:
    if expression.WhichOneof("node") != "a_const":
        return None
    constant = expression.a_const
    if constant.isnull:
        return ""
    kind = constant.WhichOneof("val")
    if kind == "ival":
        return str(constant.ival.ival)
    if kind == "fval":
        return str(constant.fval.fval)
    if kind == "boolval":
        return "t" if constant.boolval.boolval else "f"
    return str(constant.sval.sval) if kind == "sval" else None
