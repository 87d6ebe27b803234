"""Who may use the relay: the port `Authenticator`, and its three kinds.

In: the user of a startup packet, whom a verified client certificate names, what the server's own certificate
is bound by. Out: `Admitted`, a `Refusal`, or a `logship.relay.scram.Exchange` to be gone through. No I/O:
verifiers are looked up in memory, and whoever makes an authenticator keeps them up to date.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from logship.relay.refusal import INVALID_AUTHORIZATION, Refusal
from logship.relay.scram import ITERATIONS, Exchange, Verifier, mock_verifier, new_nonce


@dataclass(frozen=True, slots=True)
class Peer:
    """What TLS says. ``client_subject``: the common name of the client's certificate, None unless one was
    sent and verified. ``end_point``: `logship.relay.scram.end_point` of our certificate, empty without TLS
    or when SCRAM is not to be bound to it."""

    tls: bool = False
    client_subject: str | None = None
    end_point: bytes = b""


@dataclass(frozen=True, slots=True)
class Admitted:
    pass


Decision: TypeAlias = Admitted | Exchange | Refusal


class Authenticator(Protocol):
    def decide(self, user: str, peer: Peer) -> Decision: ...


class Trust:
    """Everybody is who they say. Whether that may be is the pump's to decide: on loopback only."""

    def decide(self, user: str, peer: Peer) -> Decision:
        return Admitted()


class Scram:
    """SCRAM-SHA-256. A user without a verifier goes through the same exchange, with a salt made from
    ``mock_secret``, so that nobody learns who is known; keep the secret over restarts."""

    def __init__(
        self,
        lookup: Callable[[str], Verifier | None],
        mock_secret: bytes,
        *,
        iterations: int = ITERATIONS,
        nonce: Callable[[], str] = new_nonce,
    ) -> None:
        """``lookup`` answers at once. ``iterations`` are those of most verifiers."""
        self._lookup = lookup
        self._mock_secret = mock_secret
        self._iterations = iterations
        self._nonce = nonce

    def decide(self, user: str, peer: Peer) -> Decision:
        verifier = self._lookup(user)
        known = verifier is not None
        if verifier is None:
            verifier = mock_verifier(user, self._mock_secret, self._iterations)
        return Exchange(
            user, verifier, known=known, nonce=self._nonce(), tls=peer.tls, end_point=peer.end_point
        )


class Certificate:
    """The verified client certificate must name the user. Without one, ``otherwise`` decides; a
    certificate that names another is refused."""

    def __init__(self, otherwise: Authenticator | None = None) -> None:
        self._otherwise = otherwise

    def decide(self, user: str, peer: Peer) -> Decision:
        if peer.client_subject == user:
            return Admitted()
        if peer.client_subject is None and self._otherwise is not None:
            return self._otherwise.decide(user, peer)
        if peer.client_subject is None:
            return Refusal(
                INVALID_AUTHORIZATION, "connection requires a valid client certificate",
                "give sslcert and sslkey, with the user as common name", fatal=True,
            )  # fmt: skip
        return Refusal(
            INVALID_AUTHORIZATION, f'certificate authentication failed for user "{user}"',
            "the common name of the client's certificate must be the user", fatal=True,
        )  # fmt: skip
