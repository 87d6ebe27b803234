"""`logship ship`: the primary's log in a journal, served to any number of replicas.

In: the primary's conninfo, the journal's directory, where to listen, who may come. Out: nothing while all goes well.
It ends when it is told to (`stop`, from a signal) or with the error that stopped one of its parts; then clients are
told to come again, and what was received is on disk.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from logship.capture.slot import System
from logship.config import Address, Intervals, JournalBounds
from logship.errors import UsageError
from logship.journal.log import Journal
from logship.relay import policy
from logship.relay.authentication import Authenticator, Certificate, Scram, Trust
from logship.relay.server import Place, RelayLimits, RelayServer
from logship.relay.session import TlsMode
from logship.relay.synchrony import Block, WhenUnmet
from logship.relay.syncrep import SyncRep
from logship.relay.tls import Tls, load_tls
from logship.service.foreground import Foreground
from logship.service.positions import Positions
from logship.service.ship.backend import RelayBackend
from logship.service.ship.epoch import Epoch
from logship.service.ship.registered import RegisteredReplicas
from logship.service.ship.registrar import Names, Registrar, find_names
from logship.service.ship.relaying import Relaying
from logship.service.ship.replicas import Replicas
from logship.service.ship.shipper import survey
from logship.service.ship.shipping import Shipping, positions_of
from logship.service.ship.takeover import take_over
from logship.service.ship.users import PrimaryUsers, Users, mock_secret, users_of
from logship.service.watch.health import Health
from logship.service.watch.vitals import ShipperVitals

_ROLES_S: Final = 10.0  # the primary's roles are read anew this often


@dataclass(slots=True)
class ShipSettings:
    """``users``: path of a file, or "primary"; needed unless ``auth`` is "trust"."""

    primary: str
    journal: Path
    listen: Address
    slot: str | None = None
    publication: str | None = None
    application_name: str = "logship"
    new_journal: bool = False  # the slot was read into another journal, which is given up knowingly
    synchronous: str | None = None
    when_unmet: WhenUnmet = field(default_factory=Block)
    auth: str = "scram"
    users: str | None = None
    tls: TlsMode = TlsMode.OFF
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    limits: RelayLimits = field(default_factory=RelayLimits)
    journal_bounds: JournalBounds = field(default_factory=JournalBounds)
    intervals: Intervals = field(default_factory=Intervals)
    metrics: Address | None = None


@dataclass(frozen=True, slots=True)
class Doors:
    """Who comes in, where, and how. ``users`` None: everybody."""

    place: Place
    users: Users | None
    tls: Tls | None


@dataclass(frozen=True, slots=True)
class Upstream:
    """What is read, and as whom. The epoch is claimed."""

    names: Names
    system: System
    epoch: Epoch


@dataclass(frozen=True, slots=True)
class Ledger:
    """What both halves, the shipper and the relay, write into and read from: the log, how far it is, who takes it."""

    journal: Journal
    positions: Positions
    health: Health
    registered: RegisteredReplicas
    replicas: Replicas


class Ship:
    """``Ship(settings).run()`` from the main thread; `stop` and `reload` from anywhere, a signal handler included."""

    def __init__(self, settings: ShipSettings) -> None:
        self._settings = settings
        self._foreground = Foreground(settings.metrics)
        self._relay: RelayServer | None = None
        self._reread = False
        self._read_s = 0.0  # when the primary's roles were last read

    def stop(self) -> None:
        """End cleanly: what was received is fsynced in the journal."""
        self._foreground.stop()

    def reload(self) -> None:
        """Read the users anew, within a second."""
        self._reread = True

    @property
    def address(self) -> Address | None:
        """Where the relay listens, with the port that was taken; None: not yet."""
        return self._relay.address if self._relay is not None else None

    @property
    def sent_bytes(self) -> int:
        """Of the log, to all clients, since the start."""
        return self._relay.sent_bytes if self._relay is not None else 0

    @property
    def metrics(self) -> Address | None:
        """Where the figures are served; None: nowhere, or not yet."""
        return self._foreground.metrics

    def run(self) -> None:
        """Ship until the end. Raises what stopped it. To be called once."""
        with self._foreground.running():
            given = self._settings
            synchrony = SyncRep(policy.parse(given.synchronous), given.when_unmet)
            with closing(Place(given.listen, trusting=given.auth == "trust")) as place:
                self._serve(synchrony, Doors(place, _users(given), _tls(given)))

    def _serve(self, synchrony: SyncRep, doors: Doors) -> None:
        """What was asked for can be done, as far as we know: from here on the primary is asked, then claimed."""
        given = self._settings
        names = find_names(given.primary, given.slot, given.publication)
        system = survey(given.primary, names.slot)
        epoch = Epoch(names.slot, given.application_name, given.new_journal)
        journal = take_over(
            given.primary,
            epoch,
            system,
            given.journal,
            given.journal_bounds,
            stopped=self._foreground.stopped,
        )
        try:
            self._ship(Upstream(names, system, epoch), journal, synchrony, doors)
        finally:
            journal.close()

    def _ship(self, upstream: Upstream, journal: Journal, synchrony: SyncRep, doors: Doors) -> None:
        """Make the two halves over one ledger, and stand until the end: the primary's walsender fills the journal,
        the relay serves it; what replicas report goes the other way, through `Replicas`, to the primary."""
        given = self._settings
        registered = RegisteredReplicas(given.journal)
        registered.begins_at(journal.oldest_lsn)  # what went before a crash could be noted is noticed now
        # The shipper asks the replicas what to say, and they wake it when it is more.
        replicas = Replicas(synchrony, registered, lambda: shipping.shipper.moved())  # noqa: PLW0108
        ledger = Ledger(journal, positions_of(journal), Health(), registered, replicas)
        shipping = self._shipping(upstream, ledger)
        relaying = self._relaying(upstream, ledger, shipping, doors)
        self._foreground.stand([shipping, relaying], given.intervals.stop_grace_s, lambda _: None)

    def _shipping(self, upstream: Upstream, ledger: Ledger) -> Shipping:
        """From the primary into the journal."""
        return Shipping(
            primary=self._settings.primary,
            slot=upstream.names.slot,
            publication=upstream.names.publication,
            system_identifier=upstream.system.system_identifier,
            journal=ledger.journal,
            positions=ledger.positions,
            health=ledger.health,
            epoch=upstream.epoch,
            acknowledge=ledger.replicas,
            rows=ledger.replicas.rows,
            intervals=self._settings.intervals,
        )

    def _relaying(self, upstream: Upstream, ledger: Ledger, shipping: Shipping, doors: Doors) -> Relaying:
        """From the journal to the replicas. Replicas can connect, and figures are shown, from here on."""
        given, journal, registered = self._settings, ledger.journal, ledger.registered
        backend = self._backend(upstream, ledger, shipping)
        relay = self._relay = self._server(backend, doors, upstream.system.database)
        registrar = Registrar(
            given.primary,
            upstream.names.slot,
            registered,
            ledger.replicas,
            lambda: journal.oldest_lsn,
            interval_s=given.intervals.report_s,
            tick=lambda: self._look_at(doors.users),
        )
        bounds = given.journal_bounds
        if self._foreground.endpoint is not None:
            slot, positions, health = upstream.names.slot, ledger.positions, ledger.health
            self._foreground.endpoint.show(
                ShipperVitals(slot, positions, health, journal, bounds, shipping, relay, ledger.replicas)
            )
        return Relaying(relay, registrar, journal, registered, bounds=bounds, intervals=given.intervals)

    def _backend(self, upstream: Upstream, ledger: Ledger, shipping: Shipping) -> RelayBackend:
        """What the relay's clients are told."""
        return RelayBackend(
            primary=self._settings.primary,
            publication=upstream.names.publication,
            system=upstream.system,
            journal=ledger.journal,
            positions=ledger.positions,
            replicas=ledger.replicas,
            registered=ledger.registered,
            answer=lambda: shipping.answer,
            epoch=lambda: upstream.epoch.number,
        )

    def _server(self, backend: RelayBackend, doors: Doors, database: str) -> RelayServer:
        given = self._settings
        return RelayServer(
            doors.place,
            backend=backend,
            auth=_authenticator(doors.users, doors.tls, given),
            tls_mode=given.tls,
            tls=doors.tls,
            database=database,
            limits=given.limits,
        )

    def _look_at(self, users: Users | None) -> None:
        """Who may log in, when somebody asked to look, or when it is time."""
        due = isinstance(users, PrimaryUsers) and time.monotonic() - self._read_s > _ROLES_S
        if users is not None and (self._reread or due):
            self._reread, self._read_s = False, time.monotonic()
            users.reload()


def _users(given: ShipSettings) -> Users | None:
    """None: nobody is asked for a password."""
    if given.auth == "trust":
        return None
    if given.users is None:
        raise UsageError(
            "the relay has to know who may log in",
            hint="give --users FILE (with lines of `logship verifier NAME`), or --users primary",
        )
    return users_of(given.users, given.primary)


def _authenticator(users: Users | None, tls: Tls | None, given: ShipSettings) -> Authenticator:
    if users is None:
        return Trust()
    scram = Scram(users, mock_secret(given.journal))
    return Certificate(scram) if tls is not None and given.tls_client_ca is not None else scram


def _tls(given: ShipSettings) -> Tls | None:
    if given.tls is TlsMode.OFF:
        return None
    if given.tls_cert is None or given.tls_key is None:
        raise UsageError(
            f"--tls {given.tls.value} needs a certificate", hint="give --tls-cert and --tls-key, both PEM"
        )
    return load_tls(given.tls_cert, given.tls_key, given.tls_client_ca)
