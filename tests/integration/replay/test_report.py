"""What the replayer reports of objects, when it isn't the first to report."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from logship.config import ReplayBounds
from logship.service.positions import Positions
from logship.service.replay.report import ObjectReport, Reporter
from logship.service.watch.health import Health
from tests.servers import Database

_SHOWN = (
    "select relname, residence, rows, loads, hits, reason is null from logship.stat_object order by relname"
)
_OBJECTS = [
    ObjectReport("public", name, "resident", 7, 700, 1, 0, 2, 2, 0, 0, None, hits=3)
    for name in ("one", "two")
]


@pytest.fixture
def secondary(upgraded_secondary: Database) -> Iterator[Database]:
    upgraded_secondary.execute(
        "insert into logship.replica (name, system_identifier, timeline, database, slot, publication, origin,"
        " keyless, created_at) select name, 1, 1, 'd', 's', 'p', name, 'full', now()"
        " from unnest(array['r', 'other']) name;"
        "create table one (id int primary key); create table two (id int primary key)"
    )
    yield upgraded_secondary


def _report(secondary: Database, objects: list[ObjectReport], replica: str = "r") -> None:
    reporter = Reporter(
        secondary.conninfo, replica, Positions(), lambda: objects, Health(),
        interval_s=1.0, history=ReplayBounds().history,
    )  # fmt: skip
    assert reporter.report()
    reporter.close()


def test_what_an_earlier_run_had_in_memory_is_cold(secondary: Database) -> None:
    _report(secondary, _OBJECTS)
    assert secondary.execute(_SHOWN) == [(name, "resident", 7, 1, 3, True) for name in ("one", "two")]
    _report(secondary, _OBJECTS[1:])
    assert secondary.execute(_SHOWN) == [
        ("one", "cold", None, 0, 0, False),
        ("two", "resident", 7, 1, 3, True),
    ]


def test_what_was_dropped_is_forgotten_and_another_replicas_objects_are_not(secondary: Database) -> None:
    _report(secondary, _OBJECTS)
    _report(secondary, _OBJECTS[:1], "other")
    secondary.execute("drop table one")
    _report(secondary, [])
    assert [row[:3] for row in secondary.execute(_SHOWN)] == [("one", "resident", 7), ("two", "cold", None)]


def test_what_a_run_no_longer_names_is_cold(secondary: Database) -> None:
    """Memory that was made anew knows nothing of an object that was only read."""
    objects = list(_OBJECTS)
    reporter = Reporter(
        secondary.conninfo, "r", Positions(), lambda: objects, Health(),
        interval_s=1.0, history=ReplayBounds().history,
    )  # fmt: skip
    assert reporter.report()
    del objects[0]
    assert reporter.report()
    reporter.close()
    assert [row[:2] for row in secondary.execute(_SHOWN)] == [("one", "cold"), ("two", "resident")]
