"""Checks of settings, and of what is free of slots, walsenders, origins and connections."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from logship.catalog.requirements import ServerFacts
from logship.catalog.requirements_relations import quoted
from logship.config import MOST_USUAL_SESSIONS
from logship.service.checks.facts import Facts
from logship.service.checks.finding import Check, Finding, Place, Severity, Stage

_BLOCKS, _WARNS, _INFORMS = Severity.BLOCKS, Severity.WARNS, Severity.INFORMS
_RELOAD: Final = "select pg_catalog.pg_reload_conf()"
_RUN_ON_PRIMARY: Final = 2  # probe and survey; init has one for each job besides
_RUN_ON_SECONDARY: Final = 5  # one that writes (more if there is room), lookups, reporter, loader, a command
_SHORT_SENDER_TIMEOUT_MS: Final = 5_000
_SMALL_SLOT_LIMIT_MB: Final = 1024


def wal_level(facts: Facts) -> Iterator[Finding]:
    level = facts.primary.settings["wal_level"]
    if level != "logical":
        yield Finding(
            _BLOCKS, "primary", f"wal_level is {level} on the primary, not logical",
            "the log then lacks what makes rows of it",
            sql=("alter system set wal_level = logical",),
            action="restart the primary: the setting is read at its start only",
        )  # fmt: skip


def slots_free(facts: Facts) -> Iterator[Finding]:
    """init makes one for good, and one for as long as it copies."""
    needed = 0 if facts.initialised else 1 if facts.source.slot else 2
    allowed = facts.primary.number("max_replication_slots")
    free = allowed - facts.source.slots_used
    if free < needed:
        yield Finding(
            _BLOCKS, "primary",
            f"the primary has {max(free, 0)} of {allowed} replication slots free; init needs {needed}",
            "one keeps the log for the replica, another exports the snapshot that is copied",
            sql=(f"alter system set max_replication_slots = {facts.source.slots_used + needed}",),
            action="restart the primary: the setting is read at its start only",
        )  # fmt: skip


def senders_free(facts: Facts) -> Iterator[Finding]:
    slot = facts.source.slot
    needed = 0 if slot is not None and slot.active else 1
    allowed = facts.primary.number("max_wal_senders")
    if allowed - facts.source.senders_used < needed:
        yield Finding(
            _BLOCKS, "primary", f"all {allowed} walsenders of the primary are in use",
            "the log is read through one",
            sql=(f"alter system set max_wal_senders = {facts.source.senders_used + 2}",),
            action="restart the primary: the setting is read at its start only",
        )  # fmt: skip


def slot_limit(facts: Facts) -> Iterator[Finding]:
    limit = facts.primary.number("max_slot_wal_keep_size")
    if limit == -1:
        yield Finding(
            _WARNS, "primary", "max_slot_wal_keep_size is -1: a slot may keep any amount of WAL",
            "a replica that stays away fills the primary's disk, and the primary stops",
            sql=("alter system set max_slot_wal_keep_size = '64GB'", _RELOAD),
            action="choose what the disk can spare; past it the slot is lost and the replica is copied anew",
        )  # fmt: skip
    elif limit < _SMALL_SLOT_LIMIT_MB:
        yield Finding(
            _WARNS, "primary", f"max_slot_wal_keep_size is only {limit} MB",
            "a replica that is away while more than this is written loses its slot, and is copied anew; "
            "the first copy takes that long too",
            sql=("alter system set max_slot_wal_keep_size = '64GB'", _RELOAD),
        )  # fmt: skip


def idle_slots(facts: Facts) -> Iterator[Finding]:
    """From PostgreSQL 18 on."""
    if facts.primary.number("idle_replication_slot_timeout") > 0:
        yield Finding(
            _WARNS, "primary", "idle_replication_slot_timeout is set: PostgreSQL drops what nobody reads for so long",
            "a replica that was away longer is copied anew; logship must be started that soon after init",
            sql=("alter system set idle_replication_slot_timeout = 0", _RELOAD),
        )  # fmt: skip


def sender_timeout(facts: Facts) -> Iterator[Finding]:
    timeout = facts.primary.number("wal_sender_timeout")
    mend = ("alter system set wal_sender_timeout = '60s'", _RELOAD)
    if timeout == 0:
        yield Finding(
            _WARNS, "primary", "wal_sender_timeout is 0",
            "a walsender whose client vanished holds the slot for as long as TCP does, and the next "
            "`logship run` waits for it",
            sql=mend,
        )  # fmt: skip
    elif timeout < _SHORT_SENDER_TIMEOUT_MS:
        yield Finding(
            _WARNS, "primary", f"wal_sender_timeout is {timeout} ms",
            "logship reports once a second; a short pause of its machine or of the network ends the link",
            sql=mend,
        )  # fmt: skip


def connections(facts: Facts) -> Iterator[Finding]:
    init = 0 if facts.initialised else facts.asked.jobs + 3
    sides: tuple[tuple[Place, ServerFacts, int], ...] = (
        ("primary", facts.primary, max(init, _RUN_ON_PRIMARY)),
        ("secondary", facts.secondary, max(init, _RUN_ON_SECONDARY)),
    )
    for place, server, needed in sides:
        if server.connections_free >= needed:
            continue
        limits = (
            (server.role_free, f"alter role {quoted(server.user)} connection limit -1"),
            (server.database_free, f"alter database {quoted(server.database)} connection limit -1"),
        )
        lifted = (
            [] if server.superuser else [text for free, text in limits if free is not None and free < needed]
        )
        raised = server.number("max_connections") + needed
        yield Finding(
            _BLOCKS, place,
            f'user "{server.user}" may open {max(server.connections_free, 0)} more connections to the {place}, '
            f"of the {needed} that are needed",
            "init opens one for each job, and a few more; run opens up to five",
            sql=tuple(lifted) or (f"alter system set max_connections = {raised}",),
            action="" if lifted else f"restart the {place}: the setting is read at its start only",
        )  # fmt: skip


def timeouts(facts: Facts) -> Iterator[Finding]:
    """statement_timeout and idle_in_transaction_session_timeout are set to 0 by every session of ours."""
    why = {
        "transaction_timeout": "it ends the transaction that holds the snapshot while rows are copied",
        "idle_session_timeout": "it ends sessions that wait while the others copy",
        "lock_timeout": "locks that would be had a little later become errors",
    }
    sides: tuple[tuple[Place, ServerFacts], ...] = (
        ("primary", facts.primary),
        ("secondary", facts.secondary),
    )
    for place, server in sides:
        for name, reason in why.items():
            if server.number(name) == 0:
                continue
            yield Finding(
                _WARNS, place, f'{name} is {server.number(name)} ms for user "{server.user}"', reason,
                sql=(
                    f"alter role {quoted(server.user)} in database {quoted(server.database)} set {name} = 0",
                ),
            )  # fmt: skip


def read_only(facts: Facts) -> Iterator[Finding]:
    sides: tuple[tuple[Place, ServerFacts], ...] = (
        ("primary", facts.primary),
        ("secondary", facts.secondary),
    )
    for place, server in sides:
        if server.settings["default_transaction_read_only"] == "on":
            yield Finding(
                _BLOCKS, place, f'transactions of user "{server.user}" are read-only by default on the {place}',
                "init writes on both sides, and every command that stores something would fail",
                sql=(
                    "set default_transaction_read_only = off",  # of this session, or it can't alter a thing
                    f"alter role {quoted(server.user)} in database {quoted(server.database)} "
                    "set default_transaction_read_only = off",
                ),
            )  # fmt: skip


def origins(facts: Facts) -> Iterator[Finding]:
    """From 18 on they have a setting of their own."""
    own = "max_active_replication_origins"
    setting = own if own in facts.secondary.settings else "max_replication_slots"
    if facts.secondary.number(setting) == 0:
        yield Finding(
            _BLOCKS, "secondary", f"{setting} is 0 on the secondary",
            "no session can take a replication origin then, and logship marks what it writes with one",
            sql=(f"alter system set {setting} = 10",),
            action="restart the secondary: the setting is read at its start only",
        )  # fmt: skip
    elif not facts.origin_exists and facts.origins >= facts.secondary.number(setting):
        yield Finding(
            _WARNS, "secondary",
            f"{facts.origins} replication origins exist on the secondary, and {setting} has places for "
            f"{facts.secondary.number(setting)}",
            "each that was used since it was made keeps its place; where none is free the replica can't be written",
            sql=(f"alter system set {setting} = {facts.origins + MOST_USUAL_SESSIONS}",),
            action="restart the secondary: the setting is read at its start only; or drop origins that nobody needs",
        )  # fmt: skip


def locks(facts: Facts) -> Iterator[Finding]:
    tables = sum(relation.table for relation in facts.primary_relations)
    for place, server in (("primary", facts.primary), ("secondary", facts.secondary)):
        room = server.number("max_locks_per_transaction") * server.number("max_connections")
        if tables * 3 > room and not facts.initialised:
            yield Finding(
                _WARNS, "primary" if place == "primary" else "secondary",
                f"{tables} tables, and room for about {room} locks on the {place}",
                "one transaction locks all tables, and their indexes as they are made",
                sql=(f"alter system set max_locks_per_transaction = {max(64, tables)}",),
                action=f"restart the {place}: the setting is read at its start only",
            )  # fmt: skip


def secondary_waits(facts: Facts) -> Iterator[Finding]:
    names = facts.secondary.settings.get("synchronous_standby_names", "")
    if names:
        yield Finding(
            _INFORMS, "secondary", f"the secondary's own commits wait for a synchronous standby ({names})",
            "so does each batch; when that standby is away, replay stands still",
        )  # fmt: skip


CHECKS: Final = (
    Check("wal-level", (_BLOCKS,), "`wal_level` is `logical` on the primary", wal_level),
    Check("slots-free", (_BLOCKS,), "free replication slots (`max_replication_slots`)", slots_free, Stage.INIT),
    Check("senders-free", (_BLOCKS,), "a free walsender on the primary (`max_wal_senders`)", senders_free),
    Check("connections", (_BLOCKS,), "room for our connections: server, role and database limits", connections),
    Check("read-only", (_BLOCKS,), "`default_transaction_read_only` of the users", read_only),
    Check("origins", (_BLOCKS, _WARNS), "replication origins can be used on the secondary", origins),
    Check("slot-limit", (_WARNS,), "`max_slot_wal_keep_size`: neither without limit nor small", slot_limit),
    Check("idle-slots", (_WARNS,), "`idle_replication_slot_timeout` (from 18 on)", idle_slots),
    Check("sender-timeout", (_WARNS,), "`wal_sender_timeout`: neither off nor short", sender_timeout),
    Check("timeouts", (_WARNS,), "`transaction_timeout`, `idle_session_timeout`, `lock_timeout`", timeouts),
    Check("locks", (_WARNS,), "room for a lock on every table at once", locks, Stage.INIT),
    Check("secondary-waits", (_INFORMS,), "the secondary's own synchronous standbys", secondary_waits),
)  # fmt: skip
