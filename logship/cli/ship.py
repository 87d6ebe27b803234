"""`logship ship`: the primary's log in a journal, served to any number of replicas, in the foreground.

SIGTERM and Ctrl-C are its normal end: it exits 0 once what was received is on disk. SIGHUP has it read
the users anew.
"""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from logship.cli import options
from logship.cli.quantity import Duration, Listen, Size, written, written_s
from logship.config import GIB, MIB, Address, Intervals, JournalBounds

if TYPE_CHECKING:
    from logship.service.ship.ship import Ship

_FILE = click.Path(dir_okay=False, path_type=Path)
_BOUNDS = JournalBounds()


@click.command("ship")
@options.primary
@options.journal
@options.setting(
    "--listen", type=Listen(), required=True, help="Where replicas connect: an address of this machine."
)
@options.setting(
    "--synchronous",
    metavar="POLICY",
    help="Which replicas a commit waits for, as synchronous_standby_names says it: 'ANY 1 (a, b)'. None: nobody.",
)
@options.setting(
    "--when-unmet",
    type=click.Choice(["block", "degrade"]),
    default="block",
    show_default=True,
    help="When too few of them are there: commits wait, or after --degrade-after for the journal only.",
)
@options.setting(
    "--degrade-after",
    type=Duration(at_least=0.1, at_most=86400),
    default=10.0,
    show_default="10s",
    help="How long a commit may wait with --when-unmet degrade.",
)
@options.setting(
    "--auth",
    type=click.Choice(["scram", "trust"]),
    default="scram",
    show_default=True,
    help="How clients prove who they are; trust only on a loopback address.",
)
@options.setting(
    "--users",
    metavar="FILE|primary",
    help="Who may log in: lines of `logship verifier`, or the primary's roles that may replicate.",
)
@options.setting(
    "--tls",
    type=click.Choice(["off", "allowed", "required"]),
    default="off",
    show_default=True,
    help="Encryption; required refuses a client in plain text before any password.",
)
@options.setting("--tls-cert", type=_FILE, help="The relay's certificate with its chain, PEM.")
@options.setting("--tls-key", type=_FILE, help="Its key, PEM, which nobody else may read.")
@options.setting(
    "--tls-client-ca", type=_FILE, help="Clients with a certificate from here, in their user's name, are in."
)
@options.setting(
    "--max-connections",
    type=click.IntRange(1, 10_000),
    default=100,
    show_default=True,
    metavar="N",
    help="Clients at once, those that are logging in included.",
)
@options.setting(
    "--login-timeout",
    type=Duration(at_least=0.1, at_most=600),
    default=10.0,
    show_default="10s",
    help="A client that isn't in after so long is cut.",
)
@options.setting(
    "--sender-timeout",
    type=Duration(at_least=0.5, at_most=86400),
    default=60.0,
    show_default="1min",
    help="A replica that gives no sign of life for so long is cut, as by wal_sender_timeout.",
)
@options.setting("--slot", metavar="NAME", help="The slot on the primary; by default the one that init made.")
@options.setting("--publication", metavar="NAME", help="The publication; by default the one that init made.")
@options.setting(
    "--segment-size",
    type=Size(at_least=MIB, at_most=GIB),
    default=_BOUNDS.segment_bytes,
    show_default=written(_BOUNDS.segment_bytes),
    help="Size of a journal file.",
)
@options.setting(
    "--journal-limit",
    type=Size(at_least=2 * MIB),
    default=_BOUNDS.limit_bytes,
    show_default=written(_BOUNDS.limit_bytes),
    help="Past this size the journal drops its oldest file, even one that a replica still needs.",
)
@options.journal_min_age
@options.setting(
    "--feedback-interval",
    type=Duration(at_least=0.01, at_most=30.0),
    default=Intervals().feedback_s,
    show_default=written_s(Intervals().feedback_s),
    help="Tell the primary the positions at least this often.",
)
@options.setting(
    "--report-interval",
    type=Duration(at_least=0.1, at_most=300.0),
    default=Intervals().report_s,
    show_default=written_s(Intervals().report_s),
    help="Report to the views, and look at the primary's position, this often.",
)
@options.receiver_timeout
@options.heartbeat
@options.application_name
@options.new_journal
@options.setting(
    "--metrics",
    type=Listen(),
    help="Serve figures for Prometheus, /health, /ready and /status here; without a password.",
)
def ship(
    primary: str,
    journal: Path,
    listen: tuple[str, int],
    synchronous: str | None,
    when_unmet: str,
    degrade_after: float,
    auth: str,
    users: str | None,
    tls: str,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
    max_connections: int,
    login_timeout: float,
    sender_timeout: float,
    slot: str | None,
    publication: str | None,
    segment_size: int,
    journal_limit: int,
    journal_min_age: float,
    feedback_interval: float,
    report_interval: float,
    receiver_timeout: float,
    heartbeat: float,
    application_name: str,
    new_journal: bool,
    metrics: tuple[str, int] | None,
) -> int:
    """Ship the primary's log into a journal and serve it to replicas, until stopped.

    Replicas are `logship replay --shipper`, native subscriptions (connect = false), pg_recvlogical and other
    clients of PostgreSQL's replication protocol.
    """
    from logship.relay.server import RelayLimits
    from logship.relay.session import TlsMode
    from logship.relay.synchrony import Block, DegradeAfter
    from logship.service.ship.ship import Ship, ShipSettings

    shipping = Ship(
        ShipSettings(
            primary=primary,
            journal=journal,
            listen=Address(*listen),
            slot=slot,
            publication=publication,
            application_name=application_name,
            new_journal=new_journal,
            synchronous=synchronous,
            when_unmet=DegradeAfter(degrade_after) if when_unmet == "degrade" else Block(),
            auth=auth,
            users=users,
            tls=TlsMode(tls),
            tls_cert=tls_cert,
            tls_key=tls_key,
            tls_client_ca=tls_client_ca,
            limits=RelayLimits(
                connections=max_connections, login_s=login_timeout, sender_timeout_s=sender_timeout
            ),
            journal_bounds=JournalBounds(segment_size, journal_limit, journal_min_age),
            intervals=Intervals(
                feedback_s=feedback_interval,
                report_s=report_interval,
                receiver_timeout_s=receiver_timeout,
                heartbeat_s=heartbeat,
            ),
            metrics=None if metrics is None else Address(*metrics),
        )
    )
    _on_signals(shipping)
    shipping.run()
    return 0


def _on_signals(shipping: Ship) -> None:
    def stop(number: int, frame: FrameType | None) -> None:
        shipping.stop()

    def reload(number: int, frame: FrameType | None) -> None:
        shipping.reload()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGHUP, reload)
