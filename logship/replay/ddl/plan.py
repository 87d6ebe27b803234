"""What is to be run on the secondary for one schema change, and with whose rights.

In: the captured statement, and a look at the secondary for objects that the primary has dropped. Out: a
`Plan`, or a `ReplayError` that says what was seen and what an operator does. The statement's own text
comes first, cut out of what the client sent by PostgreSQL's grammar; what is ambiguous there, or stands in
a function in the language SQL, is made from the facts; what neither can give stops the replica. No I/O of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from logship.replay.batch import SchemaChange
from logship.replay.ddl import made
from logship.replay.ddl.code import holds_no_code, in_a_transaction, sets_a_role
from logship.replay.ddl.granted import changed_nothing, granted_by
from logship.replay.ddl.message import Dropped, Object, Statement
from logship.replay.ddl.text import Located, Unlocated, Why
from logship.replay.failures import CaptureLost, NotCarried


@dataclass(frozen=True, slots=True)
class Plan:
    """``text``: one statement, '' for nothing to do. ``holds_no_code``: it evaluates nothing that users
    wrote, so that more than the owner's rights may be used where PostgreSQL asks for them."""

    text: str
    owner: str
    made_from: str  # text or facts
    what: str  # for people: ALTER TABLE of public.t
    holds_no_code: bool = False


_MAINTAIN: Final = 170000  # from here on there is the privilege MAINTAIN
# The functions that run schema changes as their owners are security definer.
_SETS_A_ROLE: Final = (
    "PostgreSQL takes no SET role or SET session_authorization of a function inside of a security definer function, "
    "and only there are schema changes run with their owner's rights"
)
Look = Callable[[Object | Dropped], Mapping[str, Any] | None]


def plan(change: SchemaChange, look: Look, secondary: int) -> Plan:
    """``look`` gives what the secondary says of an object before the statement; None: it isn't there.
    ``secondary``: its version, as server_version_num has it."""
    statement = change.statement
    what = describe(statement)
    if statement.lost:
        raise CaptureLost(what, statement.lost)
    both_maintain = (statement.last.server >= _MAINTAIN) == (secondary >= _MAINTAIN)
    if changed_nothing(statement, look, both_maintain=both_maintain):
        return Plan("", "", "text", what)
    owner = granted_by(statement, change.found, look, both_maintain=both_maintain) or _owner(statement, look)
    if owner is None:
        if statement.dropped and not statement.objects:
            return Plan("", "", "text", what)  # gone here already, with what it depended on
        raise NotCarried(what, "nothing says who owns the object")
    if statement.tag in ("CREATE TABLE AS", "SELECT INTO"):  # its rows come in the log, if it made any
        return Plan(made.create_table(statement.objects[0]), owner, "facts", what)
    found = change.found
    if isinstance(found, Located) and _reads_alike(found, statement):
        if sets_a_role(found.text):
            raise NotCarried(what, _SETS_A_ROLE)
        return Plan(in_a_transaction(found.text), owner, "text", what, holds_no_code(found.text))
    if isinstance(found, Unlocated) and found.why is Why.EXTENSION:
        return Plan("", owner, "text", what)
    text = made.make(statement, look)
    if text is None:
        raise NotCarried(what, found.why.value if isinstance(found, Unlocated) else Why.UNREADABLE.value)
    return Plan(text, owner, "facts", what)


def _reads_alike(found: Located, statement: Statement) -> bool:
    """The grammar that cut the text out takes a backslash in a literal for itself. A text that is all that
    was sent was not cut."""
    if statement.context.get("standard_conforming_strings") != "off":
        return True
    cut_from = (statement.query, statement.stack, *(body for _, body in statement.last.bodies))
    backslashes = any("\\" in each for each in cut_from)
    return not backslashes or (not found.nested and found.text == statement.query.strip())


def describe(statement: Statement) -> str:
    named = statement.objects[0].identity if statement.objects else ""
    if not named and statement.dropped:
        named = next((d.identity for d in statement.dropped if d.original), statement.dropped[0].identity)
    return f"{statement.tag} of {named}" if named else statement.tag


def _owner(statement: Statement, look: Look) -> str | None:
    """The catalog's owner of the object that the statement names. What is dropped is asked for here."""
    for made_ in statement.objects:
        if made_.owner is not None:
            return made_.owner
    for dropped in sorted(statement.dropped, key=lambda one: not one.original):
        found = look(dropped)
        if found is not None and found.get("owner"):
            return str(found["owner"])
    return None
