"""`logship ddl on | off | rotate-key`: what an operator does about the capture of schema changes.

In: conninfos. Out: what was done. `on`, `off` and `rotate` need who may create event triggers on the primary.
A running replayer finds new keys by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

import psycopg

from logship.catalog import ddl, role_map
from logship.catalog.roles import ensure_replayer
from logship.connection import Side, connect
from logship.errors import PrimaryError, RefusedAsUnsafe, UsageError
from logship.service.initial.ddl import give_rights, hand_over, make_functions
from logship.service.initial.plan import InitResult
from logship.service.sides import require_side
from logship.snapshot.failures import failure

_NAME: Final = "logship ddl"


def turn_on(primary: str, secondaries: Sequence[str]) -> tuple[bool, list[str]]:
    """Capture, keys, and the owners' functions on each secondary. Whether capture was off; warnings."""
    warnings: list[str] = []
    with _primary(primary) as source, ExitStack() as stack:
        targets = [stack.enter_context(_secondary(secondary)) for secondary in secondaries]
        with _explained(Side.PRIMARY):
            fresh = ddl.start_capture(source)
        for target in targets:
            with _explained(Side.SECONDARY):
                hand_over(source, target)
                result = InitResult("", "", "", "", roles_mapped=role_map.read(target))
                result.replayer_role, result.warnings = ensure_replayer(target)
                make_functions(source, target, result, lambda _: None)
                give_rights(source, target, result)
                warnings += result.warnings
    return fresh, warnings


def turn_off(primary: str) -> bool:
    """Whether it was on."""
    with _primary(primary) as link, _explained(Side.PRIMARY):
        was = ddl.present(link)
        ddl.stop_capture(link)
    return was


def rotate(primary: str, secondaries: Sequence[str]) -> int:
    """The generation of the new key. `RefusedAsUnsafe` when a replica of this primary isn't among them."""
    with _primary(primary) as source, ExitStack() as stack:
        targets = [stack.enter_context(_secondary(secondary)) for secondary in secondaries]
        with _explained(Side.PRIMARY):
            known = {name for (name,) in source.execute("select r.name from logship.replica r").fetchall()}
        with _explained(Side.SECONDARY):
            _require_all(known, targets)
            _require_each_once(targets)
            _require_keys(targets)
        with _explained(Side.PRIMARY):
            return ddl.rotate(source, targets)


def _require_all(known: set[str], targets: Sequence[psycopg.Connection]) -> None:
    given: set[str] = set()
    for target in targets:
        given |= {name for (name,) in target.execute("select r.name from logship.replica r").fetchall()}
    missing = sorted(known - given)
    if missing:
        raise RefusedAsUnsafe(
            f"replicas of this primary would not know the new key: {', '.join(missing)}",
            hint="give every --secondary; of a replica that is no more: logship drop --primary … --name …",
        )


def _require_each_once(targets: Sequence[psycopg.Connection]) -> None:
    """Two sessions in one database would wait for each other."""
    seen: set[tuple[str, str, str]] = set()
    for target in targets:
        row = target.execute(
            "select s.system_identifier::pg_catalog.text from pg_catalog.pg_control_system() s"
        ).fetchone()
        place = (row[0] if row else "", target.info.dbname, "")
        if place in seen:
            raise UsageError(
                f'the secondary database "{target.info.dbname}" is named twice',
                hint="name each secondary once",
            )
        seen.add(place)


def _require_keys(targets: Sequence[psycopg.Connection]) -> None:
    """That each may be read and written: before anything is changed anywhere."""
    for target in targets:
        ddl.keys(target)


def _primary(conninfo: str) -> psycopg.Connection:
    return _checked(connect(conninfo, Side.PRIMARY, application_name=_NAME), Side.PRIMARY)


def _secondary(conninfo: str) -> psycopg.Connection:
    return _checked(connect(conninfo, Side.SECONDARY, application_name=_NAME), Side.SECONDARY)


def _checked(link: psycopg.Connection, side: Side) -> psycopg.Connection:
    try:
        require_side(link, side)
    except BaseException:
        link.close()
        raise
    return link


@contextmanager
def _explained(side: Side) -> Iterator[None]:
    try:
        yield
    except (
        psycopg.errors.UndefinedTable,
        psycopg.errors.InvalidSchemaName,
        psycopg.errors.UndefinedFunction,
    ) as error:
        raise failure(side, "set up schema changes", error) from error
    except psycopg.errors.InsufficientPrivilege as error:
        kind = PrimaryError if side is Side.PRIMARY else None
        if kind is None:
            raise failure(side, "set up schema changes", error) from error
        raise PrimaryError(
            f"can't change the capture of schema changes: {error.diag.message_primary}",
            hint="come as the superuser of the primary who turned capture on",
        ) from error
    except psycopg.Error as error:
        raise failure(side, "set up schema changes", error) from error
