"""What the tests of `logship check` share: a look at two databases, and a hand that does what it says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg

from logship.service.check import Report, check
from logship.service.checks.facts import Asked
from logship.service.checks.finding import Finding, Severity
from tests.servers import Database


def look(primary: Database | str, secondary: Database | str, **asked: Any) -> Report:
    return check(_conninfo(primary), _conninfo(secondary), Asked(**asked))


def blocking(report: Report, *ids: str) -> list[Finding]:
    """What blocks, of these checks or of all."""
    return [
        each for each in report.findings if each.severity is Severity.BLOCKS and (not ids or each.id in ids)
    ]


def ids(findings: Sequence[Finding]) -> set[str]:
    return {each.id for each in findings}


def mend(findings: Sequence[Finding], primary: Database, secondary: Database) -> None:
    """Paste every statement, in its order, where the finding says; as a superuser."""
    for each in findings:
        assert each.sql, f"{each.id} has no statement: {each.action}"
        database = primary if each.place == "primary" else secondary
        with psycopg.connect(database.conninfo, autocommit=True) as connection:
            for statement in each.sql:
                connection.execute(statement.encode())


def _conninfo(side: Database | str) -> str:
    return side if isinstance(side, str) else side.conninfo
