"""What an error of a server means to the operator, without a value of a row in it.

In: a psycopg error and where it happened. Out: `PrimaryError` or `SecondaryError`. PostgreSQL puts
values into the messages of classes 22 and 23, and lines of COPY into their context: of those only
the condition's name and the constraint's are passed on.
"""

from __future__ import annotations

from typing import Final

import psycopg

from logship.connection import Side
from logship.errors import LogshipError, PrimaryError, SecondaryError, is_users_text

_WITH_VALUES: Final = ("22", "23", "P0")  # data exceptions, constraint violations, RAISE of users' code


def failure(side: Side, doing: str, error: psycopg.Error, *, hint: str = "") -> LogshipError:
    """``doing`` completes the sentence: copy "public"."t", apply the schema."""
    kind = PrimaryError if side is Side.PRIMARY else SecondaryError
    return kind(f"can't {doing}: {without_values(error)}", hint=hint or _next(side, error.sqlstate))


def of_server(side: Side, doing: str, sqlstate: str | None, message: str) -> LogshipError:
    """The same of an error that psycopg hasn't seen; ``sqlstate`` None: the connection broke."""
    kind = PrimaryError if side is Side.PRIMARY else SecondaryError
    if not sqlstate:
        return kind(f"can't {doing}: the connection broke", hint="run it again: it goes on where it stopped")
    if sqlstate[:2] in _WITH_VALUES:
        message = _condition(sqlstate)
    return kind(f"can't {doing}: {message} (SQLSTATE {sqlstate})", hint=_next(side, sqlstate))


def _next(side: Side, sqlstate: str | None) -> str:
    """What to do, by the SQLSTATE or its class."""
    again = "then run it again: it goes on where it stopped"
    match (sqlstate or "")[:2]:
        case "53":
            return f"make room, or raise the limit, on the {side.value}, {again}"
        case "22" | "23":
            return f"the rows and the table on the {side.value} don't fit: compare both definitions, {again}"
        case "42":
            return (
                f"look at the {side.value}'s schema and this user's rights there (`logship check`), {again}"
            )
    return f"look into the {side.value}'s log, mend what it names, {again}"


def _condition(sqlstate: str) -> str:
    try:
        return psycopg.errors.lookup(sqlstate).__name__
    except KeyError:
        return "an error that user-written code raised"


def without_values(error: psycopg.Error) -> str:
    """One line that names the error."""
    state = error.sqlstate
    if state is None:
        return str(error).strip().splitlines()[0] if str(error).strip() else "the connection broke"
    if state[:2] in _WITH_VALUES or is_users_text(error.diag.source_file):
        constraint = f' of constraint "{error.diag.constraint_name}"' if error.diag.constraint_name else ""
        column = f' in column "{error.diag.column_name}"' if error.diag.column_name else ""
        return f"{type(error).__name__}{constraint}{column} (SQLSTATE {state})"
    return f"{error.diag.message_primary} (SQLSTATE {state})"
