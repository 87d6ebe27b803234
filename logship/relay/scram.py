"""The server's side of SCRAM-SHA-256, and verifiers in the text form of pg_authid.

In: the messages of a SASL exchange, without their wire frame. Out: the answers; a `Refused` for what is
malformed or a wrong password. scramp makes verifiers and knows certificates; the exchange is here, since
libpq leaves SCRAM's user name empty (the startup packet names the user), which scramp refuses.

Passwords are neither kept nor repeated. A wrong password, an unknown user and an expired verifier give
one and the same error. The only randomness is the nonce, and it is an argument.

Source: RFC 5802, RFC 7677, RFC 5929; PostgreSQL documentation, "SASL Authentication";
src/backend/libpq/auth-scram.c.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Final, Self

from scramp import ScramException, ScramMechanism
from scramp.core import CBindData

from logship.relay.refusal import INVALID_PASSWORD, PROTOCOL_VIOLATION, Refusal, Refused

MECHANISM: Final = "SCRAM-SHA-256"
MECHANISM_PLUS: Final = "SCRAM-SHA-256-PLUS"  # bound to the server's certificate
ITERATIONS: Final = 4096  # PostgreSQL's default
_BINDING: Final = "tls-server-end-point"
_SALT_BYTES: Final = 16
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 18

_TEXT: Final = re.compile(
    r"\ASCRAM-SHA-256\$([1-9][0-9]{0,9}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)\Z"
)
_PRINTABLE: Final = re.compile(r"\A[\x21-\x2b\x2d-\x7e]+\Z")
_FIRST: Final = re.compile(r"\A(n|y|p=([A-Za-z0-9.-]+)),(a=[^,]*)?,(n=([^,]*),r=([^,]*)(?:,.*)?)\Z", re.S)
_FINAL: Final = re.compile(r"\A(c=([^,]*),r=([^,]*)(?:,[A-Za-z]=[^,]*)*),p=([^,]*)\Z", re.S)


@dataclass(frozen=True, slots=True)
class Verifier:
    """What a server keeps instead of a password. Not for logs: who has it can try passwords."""

    iterations: int
    salt: bytes
    stored_key: bytes
    server_key: bytes

    def __repr__(self) -> str:
        return "Verifier(…)"

    def __str__(self) -> str:
        """As in pg_authid.rolpassword."""
        salt, stored, server = (_encoded(part) for part in (self.salt, self.stored_key, self.server_key))
        return f"{MECHANISM}${self.iterations}:{salt}${stored}:{server}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The inverse of `str`; `ValueError`, which doesn't repeat ``text``, when it is none."""
        match = _TEXT.match(text)
        if match is None:
            raise ValueError("not a SCRAM-SHA-256 verifier")
        try:
            salt, stored, server = (base64.b64decode(match[i], validate=True) for i in (2, 3, 4))
        except binascii.Error:
            raise ValueError("not a SCRAM-SHA-256 verifier") from None
        if len(stored) != _KEY_BYTES or len(server) != _KEY_BYTES:
            raise ValueError("a SCRAM-SHA-256 verifier whose keys are not of 32 bytes")
        return cls(int(match[1]), salt, stored, server)


def make_verifier(password: str, *, iterations: int = ITERATIONS, salt: bytes | None = None) -> Verifier:
    """The verifier of ``password``, as PostgreSQL makes it: a password that SASLprep refuses is taken as
    it is."""
    salt = secrets.token_bytes(_SALT_BYTES) if salt is None else salt
    try:
        made = ScramMechanism(MECHANISM).make_auth_info(password, iteration_count=iterations, salt=salt)
        _, stored_key, server_key, _ = made
    except ScramException:
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
        stored_key = hashlib.sha256(_hmac(salted, b"Client Key")).digest()
        server_key = _hmac(salted, b"Server Key")
    return Verifier(iterations, salt, stored_key, server_key)


def mock_verifier(user: str, secret: bytes, iterations: int = ITERATIONS) -> Verifier:
    """For a user that isn't known: the same salt each time, and keys that no password has."""
    salt = _hmac(secret, b"salt" + user.encode())[:_SALT_BYTES]
    return Verifier(iterations, salt, _hmac(secret, b"stored"), _hmac(secret, b"server"))


def new_nonce() -> str:
    return _encoded(secrets.token_bytes(_NONCE_BYTES))


def end_point(certificate_der: bytes) -> bytes:
    """What SCRAM-SHA-256-PLUS binds to: the hash of the server's certificate (RFC 5929, 4)."""
    return bytes(CBindData.from_der(certificate_der))


class _Step(enum.Enum):
    FIRST = "first"
    FINAL = "final"
    DONE = "done"


class Exchange:
    """One login: `begin` with the client's first message, `finish` with its last."""

    def __init__(
        self,
        user: str,
        verifier: Verifier,
        *,
        known: bool,
        nonce: str,
        tls: bool = False,
        end_point: bytes = b"",
    ) -> None:
        """``known``: False for a `mock_verifier`, with which nobody gets in. ``tls``: the link is encrypted."""
        self._user = user
        self._verifier = verifier
        self._known = known
        self._nonce = nonce
        self._end_point = end_point if tls else b""
        self._step = _Step.FIRST
        self._header = b""  # what the client must repeat: its GS2 header, and the binding
        self._first = ""
        self._answer = ""

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """What is offered, best first."""
        return (MECHANISM_PLUS, MECHANISM) if self._end_point else (MECHANISM,)

    def begin(self, mechanism: str, data: bytes) -> bytes:
        """The server's first message, for the client's."""
        if self._step is not _Step.FIRST or mechanism not in self.mechanisms:
            raise _malformed("client selected an invalid SASL authentication mechanism")
        match = _FIRST.match(_ascii(data))
        if match is None:
            raise _malformed("malformed SCRAM message")
        flag, binding, authzid, bare, _, nonce = match.groups()
        if authzid:
            raise _malformed("client uses authorization identity, but it is not supported")
        if not _PRINTABLE.match(nonce):
            raise _malformed("malformed SCRAM message: the nonce is not printable")
        self._header = self._bound(mechanism, flag, binding)
        self._first = bare
        self._nonce = nonce + self._nonce
        self._answer = f"r={self._nonce},s={_encoded(self._verifier.salt)},i={self._verifier.iterations}"
        self._step = _Step.FINAL
        return self._answer.encode()

    def finish(self, data: bytes) -> bytes:
        """The server's last message, when the client knows the password."""
        match = _FINAL.match(_ascii(data))
        if self._step is not _Step.FINAL or match is None:
            raise _malformed("malformed SCRAM message")
        self._step = _Step.DONE
        without_proof, header, nonce, proof = match.groups()
        if not hmac.compare_digest(nonce.encode(), self._nonce.encode()):
            raise _malformed("invalid SCRAM response: the nonce does not match")
        if not hmac.compare_digest(header.encode(), _encoded(self._header).encode()):
            raise _malformed("SCRAM channel binding check failed")
        said = f"{self._first},{self._answer},{without_proof}".encode()
        if not self._proven(_decoded(proof), said) or not self._known:
            raise Refused(
                Refusal(
                    INVALID_PASSWORD, f'password authentication failed for user "{self._user}"', fatal=True
                )
            )
        return b"v=" + _encoded(_hmac(self._verifier.server_key, said)).encode()

    def _bound(self, mechanism: str, flag: str, binding: str | None) -> bytes:
        """The GS2 header, and the binding when there is one, as the client will repeat them."""
        if flag == "y" and self._end_point:
            # The client believes that we can't: somebody took the better mechanism out of our offer.
            raise _malformed("SCRAM channel binding negotiation error", INVALID_AUTHENTICATION)
        if (mechanism == MECHANISM_PLUS) != (binding is not None):
            raise _malformed("malformed SCRAM message: the mechanism and its channel binding differ")
        if binding is not None and binding != _BINDING:
            raise _malformed("unsupported SCRAM channel-binding type")
        return f"{flag},,".encode() + (self._end_point if binding else b"")

    def _proven(self, proof: bytes, said: bytes) -> bool:
        if len(proof) != _KEY_BYTES:
            raise _malformed("malformed SCRAM message")
        signature = _hmac(self._verifier.stored_key, said)
        client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
        return hmac.compare_digest(hashlib.sha256(client_key).digest(), self._verifier.stored_key)


INVALID_AUTHENTICATION: Final = "28000"


def _malformed(message: str, sqlstate: str = PROTOCOL_VIOLATION) -> Refused:
    return Refused(Refusal(sqlstate, message, fatal=True))


def _ascii(data: bytes) -> str:
    """SCRAM's messages are ASCII but for the user name, which is not looked at: the bytes must survive."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise _malformed("malformed SCRAM message") from None


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text.encode(), validate=True)
    except binascii.Error:
        raise _malformed("malformed SCRAM message") from None


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")
