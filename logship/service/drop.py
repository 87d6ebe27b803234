"""`logship drop`: takes a replica away, and with the last one all that logship made in a database.

In: conninfos of either side or both, and the replica's name where there are several. Out: `Plan` before,
`Dropped` afterwards. Users' tables, their rows included, are never touched. What this user may not drop is
left, with the statement for who may. Each side's own record goes last, so that a drop that was interrupted is
run again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Final, Self

import psycopg
from psycopg import sql

from logship.catalog import ddl, identity, migrate
from logship.catalog.roles import identifier
from logship.connection import Side, connect
from logship.errors import PrimaryError, RefusedAsUnsafe, SecondaryError, UsageError
from logship.service.sides import require_not_exchanged
from logship.snapshot.failures import failure

_LOCK_TIMEOUT: Final = "10s"
_NOT_OURS: Final = (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName)
_MAY_NOT: Final = (
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.DependentObjectsStillExist,
    psycopg.errors.LockNotAvailable,
)
_SERVED: Final = """
select a.pid from pg_catalog.pg_stat_activity a
 where a.datname = pg_catalog.current_database() and a.application_name = 'logship report ' || %s
"""


class NothingToDrop(SecondaryError):
    def __init__(self, where: str) -> None:
        super().__init__(
            f"there is nothing of logship to drop on the {where}",
            hint="is it the right database? A slot of another database's replica: select slot_name, database from "
            "pg_replication_slots on the primary",
        )


@dataclass(frozen=True, slots=True)
class Step:
    """Something that goes. ``statements`` do it, in one transaction; none: the schema's own downgrade does."""

    side: Side
    what: str
    statements: tuple[str, ...] = ()


@dataclass(slots=True)
class Plan:
    replica: str
    steps: list[Step] = field(default_factory=list)


@dataclass(slots=True)
class Dropped:
    """``left`` has what this user may not drop: why, and the statements that do it."""

    replica: str
    done: list[str] = field(default_factory=list)
    left: list[tuple[str, str]] = field(default_factory=list)


class Drop:
    """``with Drop(primary, secondary, name) as drop:`` then `plan`, and `carry_out` of that plan."""

    def __init__(self, primary: str | None, secondary: str | None, name: str | None) -> None:
        self._conninfos = {
            side: conninfo
            for side, conninfo in ((Side.PRIMARY, primary), (Side.SECONDARY, secondary))
            if conninfo is not None
        }
        if not self._conninfos:
            raise UsageError("neither --primary nor --secondary is given", hint="give the sides to clear")
        self._name = name
        self._links: dict[Side, psycopg.Connection] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for side, conninfo in self._conninfos.items():
                link = connect(
                    conninfo, side, application_name="logship drop", settings={"lock_timeout": _LOCK_TIMEOUT}
                )
                self._links[side] = stack.enter_context(link)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def plan(self) -> Plan:
        """What would go. `RefusedAsUnsafe` while somebody replicates, `UsageError` if it isn't clear which, or if
        a database is the other side's."""
        for side, link in self._links.items():
            require_not_exchanged(link, side)
        names = {side: self._names(side) for side in self._links}
        if all(found is None for found in names.values()):
            raise NothingToDrop(" and ".join(sorted(side.value for side in self._links)))
        name = self._choose([each for found in names.values() for each in found or []])
        plan = Plan(name)
        for side, found in names.items():
            if found is not None:
                others = [each for each in found if each != name]
                with _explained(side):
                    steps = self._of_primary if side is Side.PRIMARY else self._of_secondary
                    plan.steps += steps(name, others)
        return plan

    def carry_out(self, plan: Plan, tell: Callable[[str], None] = lambda _: None) -> Dropped:
        dropped = Dropped(plan.replica)
        for step in plan.steps:
            tell(f"{step.what} on the {step.side.value}")
            with _explained(step.side):
                if self._left(step, dropped):
                    continue
            dropped.done.append(f"{step.what} on the {step.side.value}")
        return dropped

    def _left(self, step: Step, dropped: Dropped) -> bool:
        """Carry out a step; whether it had to be left to somebody else."""
        if not step.statements:
            return self._downgrade_left(step, dropped)
        link = self._links[step.side]
        try:
            with link.transaction():
                for statement in step.statements:
                    link.execute(statement.encode())
        except psycopg.errors.ObjectInUse as error:
            raise _in_use(step.what) from error
        except _MAY_NOT as error:
            why = f"{step.what} on the {step.side.value}: {error.diag.message_primary}"
            dropped.left.append((why, "; ".join(step.statements) + ";"))
            return True
        return False

    def _downgrade_left(self, step: Step, dropped: Dropped) -> bool:
        """What captures schema changes belongs to the superuser who turned it on."""
        try:
            migrate.downgrade(self._conninfos[step.side], step.side)
        except PrimaryError as error:
            if not isinstance(getattr(error.__cause__, "orig", None), psycopg.errors.InsufficientPrivilege):
                raise
            why = f"{step.what} on the {step.side.value}: {error.message}"
            dropped.left.append((why, "drop schema logship cascade;"))
            return True
        return False

    # -- what there is --------------------------------------------------------------------------------

    def _names(self, side: Side) -> list[str] | None:
        """The replicas that this side knows; None without logship's schema."""
        with _explained(side):
            try:
                rows = self._links[side].execute("select name from logship.replica order by 1").fetchall()
            except _NOT_OURS:
                return None
        return [name for (name,) in rows]

    def _choose(self, names: list[str]) -> str:
        known = sorted(set(names))
        if self._name is not None:
            if known and self._name not in known:
                raise UsageError(f'there is no replica "{self._name}"', hint=f"there is: {', '.join(known)}")
            return self._name
        if len(known) > 1:
            raise UsageError(f"there are several replicas: {', '.join(known)}", hint="choose one with --name")
        return known[0] if known else ""

    def _of_primary(self, name: str, others: list[str]) -> Iterator[Step]:
        link = self._links[Side.PRIMARY]
        row = link.execute(
            "select r.slot, r.publication, exists (select from logship.replica o "
            "where o.slot = r.slot and o.name <> r.name) from logship.replica r where r.name = %s",
            [name],
        ).fetchone()
        default = identifier("logship_", link.info.dbname)
        slot, publication, shared = row or (default, default, bool(others))
        if others:
            if not shared:
                yield from self._slot(slot)
            forget = _text("delete from logship.replica where name = {}", sql.Literal(name))
            yield Step(Side.PRIMARY, f'the record of replica "{name}"', (forget,))
            return
        yield from self._slot(slot)
        if ddl.present(link):  # first of all, or the following would be captured, and undone
            yield Step(Side.PRIMARY, "the capture of schema changes", ("select logship.ddl_capture_off()",))
        if statements := identity.noted(link):
            yield Step(Side.PRIMARY, f"REPLICA IDENTITY FULL of {len(statements)} tables", tuple(statements))
        # Another name was the operator's, given with --publication.
        if publication == default and _exists(
            link, "select from pg_catalog.pg_publication p where p.pubname = %s", publication
        ):
            statement = _text("drop publication {}", sql.Identifier(publication))
            yield Step(Side.PRIMARY, f'publication "{publication}"', (statement,))
        yield Step(Side.PRIMARY, "schema logship")

    def _slot(self, slot: str) -> Iterator[Step]:
        row = (
            self._links[Side.PRIMARY]
            .execute(
                "select s.active from pg_catalog.pg_replication_slots s "
                "where s.slot_name = %s and s.database = pg_catalog.current_database()",
                [slot],
            )
            .fetchone()
        )
        if row is None:
            return
        if row[0]:
            raise _in_use(f'replication slot "{slot}"')
        statement = _text("select pg_catalog.pg_drop_replication_slot({})", sql.Literal(slot))
        yield Step(Side.PRIMARY, f'replication slot "{slot}"', (statement,))

    def _of_secondary(self, name: str, others: list[str]) -> Iterator[Step]:
        link = self._links[Side.SECONDARY]
        if _exists(link, _SERVED, name):
            raise _in_use(f'replica "{name}"')
        row = link.execute("select r.origin from logship.replica r where r.name = %s", [name]).fetchone()
        if row and _exists(
            link, "select from pg_catalog.pg_replication_origin o where o.roname = %s", row[0]
        ):
            statement = _text("select pg_catalog.pg_replication_origin_drop({})", sql.Literal(row[0]))
            yield Step(Side.SECONDARY, f'replication origin "{row[0]}"', (statement,))
        if others:
            forget = _text("delete from logship.replica where name = {}", sql.Literal(name))
            yield Step(Side.SECONDARY, f'the record of replica "{name}"', (forget,))
            return
        yield Step(Side.SECONDARY, "schemas logship and logship_writers")
        role = identifier("logship_replayer_", link.info.dbname)
        if _exists(link, "select from pg_catalog.pg_roles r where r.rolname = %s", role):
            statements = (
                _text("drop owned by {}", sql.Identifier(role)),
                _text("drop role {}", sql.Identifier(role)),
            )
            yield Step(Side.SECONDARY, f'role "{role}"', statements)


def _exists(link: psycopg.Connection, query: str, name: str) -> bool:
    return link.execute(query.encode(), [name]).fetchone() is not None


def _text(statement: str, value: sql.Composable) -> str:
    return sql.SQL(statement).format(value).as_string(None)


def _in_use(what: str) -> RefusedAsUnsafe:
    return RefusedAsUnsafe(
        f"{what} is in use: replication is going on", hint="stop `logship run` first, then drop again"
    )


@contextmanager
def _explained(side: Side) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise failure(side, "drop", error) from error
