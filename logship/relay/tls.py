"""TLS of the relay: the server's certificate, and the authority that clients' certificates must come from.

In: paths of PEM files. Out: a context for the pump, and what SCRAM binds to. A key that others may read is
refused, as PostgreSQL refuses it. A client without a certificate is let through to its password.
"""

from __future__ import annotations

import ssl
import stat
from dataclasses import dataclass
from pathlib import Path

from logship.errors import UsageError
from logship.relay.scram import end_point

_CERTIFICATE_ENDS = "-----END CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class Tls:
    """``end_point``: hash of the server's certificate, for SCRAM-SHA-256-PLUS."""

    context: ssl.SSLContext
    end_point: bytes


def load_tls(certificate: Path, key: Path, client_authority: Path | None) -> Tls:
    """`UsageError` naming the option whose file is wrong."""
    _private(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["postgresql"])
    try:
        context.load_cert_chain(certificate, key)
        pem, _, _ = certificate.read_text().partition(_CERTIFICATE_ENDS)
        binding = end_point(ssl.PEM_cert_to_DER_cert(pem[pem.index("-----BEGIN") :] + _CERTIFICATE_ENDS))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"--tls-cert, --tls-key: {certificate} and {key} can't be used: {_reason(error)}",
            hint="give a certificate (with its chain) and its key without a passphrase, both PEM",
        ) from error
    if client_authority is not None:
        try:
            context.load_verify_locations(client_authority)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"--tls-client-ca: {client_authority} can't be used: {_reason(error)}",
                hint="give the certificates of the authority that signs your clients' ones, PEM",
            ) from error
        context.verify_mode = ssl.CERT_OPTIONAL
    return Tls(context, binding)


def subject_of(link: ssl.SSLObject | None) -> str | None:
    """The common name of the client's certificate, which was verified; None without one."""
    certificate = link.getpeercert() if link is not None else None
    names = certificate.get("subject", ()) if certificate else ()
    pairs = [tuple(pair) for part in names for pair in part]
    return next((str(pair[1]) for pair in pairs if pair[0] == "commonName"), None)


def _private(key: Path) -> None:
    try:
        mode = stat.S_IMODE(key.stat().st_mode)
    except OSError as error:
        raise UsageError(
            f"--tls-key: can't read {key}: {error.strerror}", hint="give the path of the certificate's key"
        ) from error
    if mode & (stat.S_IWGRP | stat.S_IXGRP | stat.S_IRWXO):
        raise UsageError(
            f"--tls-key: {key} may be read or changed by others (mode {mode:04o})",
            hint=f"chmod 600 {key}; the group may read it, no more",
        )


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
