"""The table of checks, the page that lists it, and judgements of facts that no test can bring about on a server."""

from __future__ import annotations

import dataclasses
import datetime
import re
from pathlib import Path
from typing import Any

import pytest

from logship.catalog.requirements import ServerFacts
from logship.catalog.requirements_primary import PrimaryFacts, Traffic
from logship.catalog.requirements_relations import RelationFacts
from logship.service.check import error_of
from logship.service.checks import settings, table, target, traffic, versions
from logship.service.checks.facts import Asked, Clock, Facts, OwnSchema
from logship.service.checks.finding import Severity, Stage, named
from logship.service.checks.schema_changes import CaptureFacts
from logship.service.naming import Names
from logship.snapshot.schema import PgDump

DOCS = Path(__file__).resolve().parents[3] / "docs"
ROW = re.compile(r"^\| `([a-z-]+)` \| ([a-z, ]+) \| ([a-z ,]+) \| (.+) \|$", re.M)


def server(**changes: Any) -> ServerFacts:
    plain = ServerFacts(
        version="18.6", major=18, database="app", user="me", superuser=False, replication=True, createrole=False,
        sees_activity=True, encoding="UTF8", collate="C", ctype="C", provider="c", locale=None,
        collation_recorded=None, collation_actual=None, in_recovery=False, system_identifier=1,
        started=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), database_bytes=2**30, connections=1,
        role_free=None, database_free=None,
        settings={
            "wal_level": "logical", "max_replication_slots": "10", "max_wal_senders": "10",
            "max_slot_wal_keep_size": "65536", "wal_sender_timeout": "60000", "max_connections": "100",
            "superuser_reserved_connections": "3", "default_transaction_read_only": "off",
            "max_locks_per_transaction": "64", "max_active_replication_origins": "10",
        },
    )  # fmt: skip
    given = dict(plain.settings) | changes.pop("settings", {})
    return dataclasses.replace(plain, settings=given, **changes)


def facts(**changes: Any) -> Facts:
    source = PrimaryFacts(None, None, 0, 0, Traffic(0, (), ()), 0, (), (), 0)
    plain = Facts(
        asked=Asked(), names=Names("r", "s", "p", "o"), primary=server(),
        secondary=server(system_identifier=2), source=source, primary_relations=(), secondary_relations=(),
        keyless=(), primary_schema=OwnSchema(), secondary_schema=OwnSchema(), replica=None, filling=frozenset(),
        again=False, with_rows=frozenset(), secondary_roles={}, secondary_schemas=frozenset(), missing_roles=(),
        extensions=(), available={}, missing_collations=(), primary_columns={}, secondary_columns={},
        primary_keys={}, pg_dump=PgDump(Path("pg_dump"), 18), origin_exists=False, origins=0, replayer_role="replayer",
        owners=(), clock=Clock(0.0, 0.001, 0.001, 0.001), secondary_free_bytes=2**40,
    )  # fmt: skip
    return dataclasses.replace(plain, **changes)


def relation(name: str, **changes: Any) -> RelationFacts:
    plain = RelationFacts(
        "public",
        name,
        "r",
        "p",
        False,
        "me",
        False,
        False,
        False,
        False,
        False,
        False,
        True,
        True,
        0,
        (),
        True,
    )
    return dataclasses.replace(plain, **changes)


def found(facts_: Facts) -> set[str]:
    return {finding.id for finding in table.judge(facts_)}


def test_plain_facts_are_ready() -> None:
    assert found(facts()) == {"schema-changes"}


def test_every_check_has_one_name() -> None:
    ids = [check.id for check in table.CHECKS]
    assert len(ids) == len(set(ids))


def test_the_page_lists_every_check_as_it_is() -> None:
    """docs/check.md, "What is looked at": a row per check, in the order of the table."""
    when = {Stage.INIT: "init", Stage.RUN: "run", Stage.INIT | Stage.RUN: "init, run"}
    expected = [
        (check.id, ", ".join(s.value for s in check.severities), when[check.stages], check.about)
        for check in table.CHECKS
    ]
    assert ROW.findall((DOCS / "check.md").read_text()) == expected


def test_what_is_too_old() -> None:
    assert versions.too_old("primary", 15) is None
    finding = versions.too_old("secondary", 14)
    assert finding is not None
    assert (finding.severity, finding.id, finding.place) == (Severity.BLOCKS, "version", "secondary")
    assert found(facts(primary=server(major=19), secondary=server(major=19, system_identifier=2))) >= {
        "version"
    }
    assert "secondary-older" in found(facts(secondary=server(major=17, system_identifier=2)))


@pytest.mark.parametrize(
    ("difference_s", "uncertainty_s", "warns"),
    [(0.4, 0.0, False), (0.9, 0.5, False), (-0.9, 0.1, True), (3.0, 1.0, True)],
)
def test_a_clock_differs_only_beyond_what_is_uncertain(
    difference_s: float, uncertainty_s: float, warns: bool
) -> None:
    measured = Clock(difference_s, uncertainty_s, uncertainty_s, uncertainty_s)
    assert bool(list(versions.clock(facts(clock=measured)))) is warns


@pytest.mark.parametrize(
    ("free", "severity"),
    [(None, Severity.INFORMS), (2**29, Severity.WARNS), (2**31, None)],
)
def test_disk_space_is_known_or_said_to_be_unknown(free: int | None, severity: Severity | None) -> None:
    assert [each.severity for each in target.disk(facts(secondary_free_bytes=free))] == [severity] * bool(
        severity
    )


@pytest.mark.parametrize(
    ("name", "value", "id_"),
    [
        ("max_slot_wal_keep_size", "-1", "slot-limit"),
        ("max_slot_wal_keep_size", "100", "slot-limit"),
        ("idle_replication_slot_timeout", "60", "idle-slots"),
        ("wal_sender_timeout", "0", "sender-timeout"),
        ("wal_sender_timeout", "1000", "sender-timeout"),
        ("transaction_timeout", "1000", "timeouts"),
        ("idle_session_timeout", "1000", "timeouts"),
        ("lock_timeout", "1000", "timeouts"),
    ],
)
def test_settings_that_surprise_later(name: str, value: str, id_: str) -> None:
    assert found(facts(primary=server(settings={name: value}))) == {"schema-changes", id_}


def test_connections_are_counted_by_the_tightest_limit() -> None:
    assert server(connections=90).connections_free == 7
    assert server(connections=90, superuser=True).connections_free == 10
    assert server(role_free=2, database_free=5).connections_free == 2
    assert server(role_free=2, superuser=True).connections_free == 99
    assert list(settings.connections(facts(primary=server(connections=90)))) == []
    assert [each.place for each in settings.connections(facts(primary=server(connections=91)))] == ["primary"]


def test_collation_versions() -> None:
    stale = server(collation_recorded="2.31", collation_actual="2.36")
    assert [each.place for each in versions.collation_version(facts(primary=stale))] == ["primary"]
    assert list(versions.collation_version(facts(primary=server(collation_recorded="2.31")))) == []


def test_places_for_origins() -> None:
    assert list(settings.origins(facts(origins=9))) == []
    assert list(settings.origins(facts(origins=10, origin_exists=True))) == []
    (finding,) = settings.origins(facts(origins=10))
    assert (finding.severity, finding.place) == (Severity.WARNS, "secondary")
    assert finding.sql == ("alter system set max_active_replication_origins = 14",)


def test_locks_for_many_tables() -> None:
    many = tuple(relation(f"t{number}") for number in range(3000))
    assert {each.place for each in settings.locks(facts(primary_relations=many))} == {"primary", "secondary"}


def test_short_transactions_are_left_in_peace() -> None:
    busy = dataclasses.replace(facts().source, traffic=Traffic(0, ((11, 0.5),), ()))
    assert list(traffic.running(facts(source=busy))) == []
    long = dataclasses.replace(busy, traffic=Traffic(0, ((12, 60.0), (11, 0.5)), ()))
    (finding,) = traffic.running(facts(source=long))
    assert finding.sql == ("select pg_catalog.pg_terminate_backend(12)",)


def test_findings_keep_to_the_severities_of_their_check() -> None:
    """Everything that can be wrong at once."""
    wrong = facts(
        primary=server(major=19, settings={"wal_level": "minimal", "max_wal_senders": "0"}, encoding="SQL_ASCII"),
        secondary=server(
            major=18, system_identifier=2, encoding="LATIN1", provider="i", in_recovery=True, superuser=True
        ),
        primary_relations=(
            relation("t"), relation("u", persistence="u"), relation("f", kind="f"), relation("m", kind="m"),
            relation("s", kind="S"), relation("i", inherits=True), relation("e", of_extension=True),
            relation("r", rls=True, forced_rls=True, always_triggers=("g",)),
        ),
        keyless=(("public", "t"),), missing_roles=("x",), extensions=("y",), missing_collations=("z",),
        source=PrimaryFacts(None, None, 10, 0, Traffic(1, ((1, 9.0),), ("gid",)), 3, ("ev",), (), 1),
        secondary_free_bytes=None, origin_exists=True,
    )  # fmt: skip
    severities = {check.id: check.severities for check in table.CHECKS}
    judged = table.judge(wrong)
    assert len({finding.id for finding in judged}) > 20
    for finding in judged:
        assert finding.severity in severities[finding.id]
        assert finding.what
        assert finding.why
        assert finding.sql or finding.action or finding.severity is Severity.INFORMS


def test_long_lists_are_cut() -> None:
    assert named(["a", "b", "c"], at_most=2) == "a, b and 1 more"
    assert named(["a", "b"], at_most=2) == "a, b"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"secondary": server()}, {"same-database"}),
        ({"secondary_schema": OwnSchema(present=True, revision="primary_0001")}, {"own-schema"}),
    ],
)
def test_of_a_database_that_is_the_wrong_one_nothing_else_is_said(changes: Any, said: set[str]) -> None:
    """What mends the rest would be done to it."""
    there = facts(
        missing_roles=("app",), secondary_relations=(relation("t"),), primary_relations=(relation("t"),)
    )
    assert {"roles", "existing"} <= found(there)
    wrong = [each for each in table.judge(dataclasses.replace(there, **changes)) if each.place == "secondary"]
    assert {each.id for each in wrong} == said


@pytest.mark.parametrize(
    ("on", "words"), [(True, ("refreshed", "are followed")), (False, ("filled once", "not followed"))]
)
def test_what_travels_with_schema_changes_is_said_to(on: bool, words: tuple[str, str]) -> None:
    relations = (relation("m", kind="m"), relation("s", kind="S"))
    judged = {each.id: each.what for each in table.judge(
        facts(primary_relations=relations, capture=CaptureFacts(on=on, may=on)))}  # fmt: skip
    assert words[0] in judged["materialized-views"]
    assert words[1] in judged["sequences"]


def test_several_blockers_are_one_error_with_a_way_out_for_each() -> None:
    judged = table.judge(facts(missing_roles=("app",), primary=server(settings={"wal_level": "replica"})))
    blocking = [each for each in judged if each.severity is Severity.BLOCKS]
    error = error_of(blocking)
    assert [line[:2] for line in error.message.splitlines()[1:]] == ["  ", "  "]
    for number, each in enumerate(blocking, 1):
        assert f"{number}. {each.what}" in error.message
        assert f"on the {each.place}, as a superuser: {each.sql[0]};\n{each.action}" in error.hint
