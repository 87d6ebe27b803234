"""Carries out one schema change on the secondary, in the transaction that its rows are in.

In: a `SchemaChange`, and the session whose transaction is open. Out: the statement done with the rights
of the object's owner and under the settings that it had on the primary (`logship_writers.ddl_as_…`), the
catalog compared with what the primary's said after it, and a row in `logship.ddl_replayed`. What can't
be run, or came out different, is a `ReplayError`; what the server refuses is its `ServerError`.

Few statements need more than the owner's rights and hold no code of users (a new owner, a grant, an
extension): when the owner may not, the functions of a superuser do them, where init has made any.

Failpoints: schema_change.run (it is done, and not noted), schema_change.noted. Neither is a commit.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from logship.failpoints import hit
from logship.kernel import binary_text_array
from logship.replay.batch import SchemaChange
from logship.replay.ddl import made, renames, values
from logship.replay.ddl.facts import compare
from logship.replay.ddl.message import Dropped, Object
from logship.replay.ddl.plan import Plan, describe, plan
from logship.replay.ddl.roles import Roles, mapped, with_roles, with_session
from logship.replay.ddl.shown import without_secrets
from logship.replay.ddl.text import Located
from logship.replay.failures import FactsDiffer, OwnerDiffers, OwnerMissing
from logship.replay.session import TEXT, TEXT_ARRAY, Command, ServerError, Session

_NOT_PERMITTED: Final = "42501"
# Settings of the message that aren't the session's to set.
_NOT_SET: Final = ("session_user", "role")

_FUNCTION: Final = b"""
select pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(p.proname)
  from pg_catalog.pg_proc p
  join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) p.pronamespace
  join pg_catalog.pg_roles r on r.oid operator(pg_catalog.=) p.proowner
 where n.nspname operator(pg_catalog.=) 'logship_writers' and p.prosecdef
   and p.proname operator(pg_catalog.=) ('ddl_as_' || p.proowner::pg_catalog.text)
   and case when $1 is null then r.rolsuper
            -- Schema public belongs to a role that nobody is: to whoever owns the database.
            when $1 operator(pg_catalog.=) 'pg_database_owner' then p.proowner operator(pg_catalog.=) (
              select d.datdba from pg_catalog.pg_database d
               where d.datname operator(pg_catalog.=) pg_catalog.current_database())
            else r.rolname operator(pg_catalog.=) $1::pg_catalog.name end
 order by p.proowner
 limit 1
"""
_DONE: Final = b"""
insert into logship.ddl_replayed
  (replica, lsn, replayed_at, owner, tag, statement, target, made_from, duration, number, renamed)
values ($1, $2, pg_catalog.clock_timestamp(), $3, $4, $5, $6, $7, $8, $9, $10)
"""
_DONE_TYPES: Final = (TEXT, 3220, TEXT, TEXT, TEXT, TEXT, TEXT, 1186, 20, TEXT)
_SKIPPED: Final = b"""
select 1 from logship.ddl_skip s
 where s.replica operator(pg_catalog.=) $1 and s.lsn operator(pg_catalog.=) $2
   and s.number operator(pg_catalog.=) any (array[0, $3])
 limit 1
"""
_LEAVE_OUT: Final = b"""
insert into logship.left_out (replica, schemaname, relname) values ($1, $2, $3) on conflict do nothing
"""
_LOOK: Final = b"select logship.ddl_object_at($1, $2, $3)"


def carry_out(
    change: SchemaChange, session: Session, replica: str, roles: Roles, *, refresh_views: bool = True
) -> None:
    """See above. The caller has sent all that comes before, and rolls back after any exception. ``roles``: the
    primary's that have another name here. ``refresh_views`` False: a materialized view keeps the rows it was first
    filled with."""
    if change.leaves_out:
        _leave_out(change, session, replica)
        return
    if _skipped(change, session, replica):
        return
    change = mapped(change, roles)
    if not refresh_views and _is_filled(session, change):
        _note(session, replica, change, Plan("", "", "skipped", describe(change.statement)), 0.0)
        return
    if not change.done:
        began = time.monotonic()
        planned = _planned(change, session, roles)
        if planned.text:
            try:
                _run_with_values(session, planned, change)
            except ServerError as error:
                if error.sqlstate == _NOT_PERMITTED and session.usable and not planned.holds_no_code:
                    _require_same_owner(session, change)
                raise
        hit("schema_change.run")
        _note(session, replica, change, planned, time.monotonic() - began)
        hit("schema_change.noted")
    if not change.ahead:
        _compare(session, change)


def _planned(change: SchemaChange, session: Session, roles: Roles) -> Plan:
    planned = plan(change, lambda named: _look(session, named), session.server_version)
    if planned.made_from != "text" or not planned.text:  # what is made from facts has their names already
        return planned
    text = with_roles(planned.text, roles)
    if isinstance(change.found, Located) and not change.found.nested:
        text = with_session(text, change.statement.context)
    return replace(planned, text=text)


def _skipped(change: SchemaChange, session: Session, replica: str) -> bool:
    """Whether an operator named it, and has done it by hand; it is noted like the others."""
    named = [replica.encode(), str(change.commit_lsn).encode(), b"%d" % change.number]
    if session.run([Command(_SKIPPED, named, [TEXT, 3220, 20])])[0] is None:
        return False
    if not change.done:
        _note(session, replica, change, Plan("", "", "skipped", describe(change.statement)), 0.0)
    return True


def _is_filled(session: Session, change: SchemaChange) -> bool:
    """Whether it refreshes a materialized view that has rows on both sides."""
    if change.statement.tag != "REFRESH MATERIALIZED VIEW" or not change.statement.objects:
        return False
    view = change.statement.objects[0]
    found = _look(session, view)
    return bool(view.facts.get("populated") and found and found["facts"].get("populated"))


def _leave_out(change: SchemaChange, session: Session, replica: str) -> None:
    for schema, name in sorted(change.leaves_out):
        session.run([Command(_LEAVE_OUT, [replica.encode(), schema.encode(), name.encode()], [TEXT] * 3)])


def _run_with_values(session: Session, planned: Plan, change: SchemaChange) -> None:
    """What the rows of before hold afterwards is what they hold on the primary: see `values`."""
    statement, context = change.statement, change.statement.context
    if statement.tag not in ("ALTER TABLE", "ALTER TYPE"):
        _run(session, planned, context)
        return
    text = planned.text if planned.made_from == "text" else ""
    values.require_rows(statement, text, planned.what, lambda probe: _takes(session, planned, probe, context))
    before = _look(session, statement.objects[0]) if statement.objects else None
    adapted = values.adapt(statement, text) if text else values.Adapted(planned.text)
    _run(session, replace(planned, text=adapted.text), context)
    if adapted.defaults:
        _run(session, replace(planned, text=adapted.defaults, made_from="facts"), context)
    for update in values.left_over(statement, before, text, lambda named: _look(session, named)):
        _run(session, replace(planned, text=update, made_from="facts"), context)


def _require_same_owner(session: Session, change: SchemaChange) -> None:
    """`OwnerDiffers` where an object that the statement changed is somebody else's here: PostgreSQL tells nobody of
    REASSIGN OWNED."""
    session.run([Command(b"rollback to savepoint schema_change"), Command(b"reset all")])
    for one in change.statement.objects:
        found = _look(session, one)
        if found is not None and found["owner"] != one.owner:
            raise OwnerDiffers(describe(change.statement), one.identity, str(one.owner), str(found["owner"]))


def _takes(session: Session, planned: Plan, probe: str, context: Mapping[str, str]) -> bool:
    """Whether PostgreSQL takes ``probe`` from the owner; nothing stays of it."""
    session.run([Command(b"savepoint probe")])
    try:
        _run(session, replace(planned, text=probe, holds_no_code=False), context)
    except ServerError:
        if not session.usable:
            raise
        return False
    finally:
        if session.usable:
            session.run([Command(b"rollback to savepoint probe"), Command(b"reset all")])
    return True


def _run(session: Session, planned: Plan, context: Mapping[str, str]) -> None:
    context = {**context, **made.SETTINGS} if planned.made_from == "facts" else context
    settings = [(name, value) for name, value in context.items() if name not in _NOT_SET]
    function = _function(session, planned.owner)
    if function is None:
        raise OwnerMissing(planned.owner, planned.what)
    session.run([Command(b"savepoint schema_change")])
    try:
        session.run(_call(function, planned.text, settings))
    except ServerError as error:
        refused = error.sqlstate == _NOT_PERMITTED and planned.holds_no_code and session.usable
        above = _function(session, None, after_failure=True) if refused else None
        if above is None:
            raise
        session.run(_call(above, planned.text, settings))
    session.run([Command(b"release savepoint schema_change")])


def _function(session: Session, owner: str | None, *, after_failure: bool = False) -> bytes | None:
    """The function that runs DDL as ``owner``, or as some superuser (None); None when there is none."""
    before = [Command(b"rollback to savepoint schema_change"), Command(b"reset all")] if after_failure else []
    name = None if owner is None else owner.encode()
    return session.run([*before, Command(_FUNCTION, [name], [TEXT])])[-1]


def _call(function: bytes, text: str, settings: Sequence[tuple[str, str]]) -> list[Command]:
    parameters = [
        text.encode(),
        binary_text_array([name.encode() for name, _ in settings]),
        binary_text_array([value.encode() for _, value in settings]),
    ]
    call = Command(b"select %b($1, $2, $3)" % function, parameters, [TEXT, TEXT_ARRAY, TEXT_ARRAY])
    return [call, Command(b"reset all")]


def _look(session: Session, named: Object | Dropped) -> dict[str, Any] | None:
    """The secondary's object of that name and its facts; None when there is none."""
    parameters = [
        named.type.encode(),
        binary_text_array([name.encode() for name in named.names]),
        binary_text_array([argument.encode() for argument in named.args]),
    ]
    found = session.run([Command(_LOOK, parameters, [TEXT, TEXT_ARRAY, TEXT_ARRAY])])[0]
    return json.loads(found) if found else None


def _compare(session: Session, change: SchemaChange) -> None:
    """Hold each object against what the primary's catalog said of it after the statement."""
    same = change.statement.last.server // 10_000 == session.server_version // 10_000
    differences: list[str] = []
    for expected in change.statement.objects:
        found = _look(session, expected)
        facts = None if found is None else found["facts"]
        differences += [
            f"{expected.identity}: {line}" for line in compare(expected.facts, facts, same_version=same)
        ]
    if differences:
        raise FactsDiffer(describe(change.statement), differences)


def _note(session: Session, replica: str, change: SchemaChange, planned: Plan, took_s: float) -> None:
    statement = change.statement
    parameters = [
        replica.encode(), str(change.commit_lsn).encode(), planned.owner.encode(), statement.tag.encode(),
        without_secrets(planned.text).encode(), b"both" if change.in_memory else b"persistence",
        planned.made_from.encode(),
        b"%.6f s" % took_s,
        b"%d" % change.number, renames.encode(change.renamed).encode() if change.renamed else None,
    ]  # fmt: skip
    session.run([Command(_DONE, parameters, _DONE_TYPES)])
