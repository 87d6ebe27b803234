"""The startup packet: what a client says of itself before anything else.

In: the version and the body of a StartupMessage. Out: `Startup`, or `Refused`, always fatal. Pure.

Source: PostgreSQL documentation, "Message Formats", StartupMessage; src/backend/tcop/backend_startup.c.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from logship.relay.messages import PROTOCOL, text
from logship.relay.refusal import (
    INVALID_AUTHORIZATION,
    INVALID_PARAMETER,
    NOT_SUPPORTED,
    Refusal,
    Refused,
    violation,
)

_BOOLEANS: Final = {
    **dict.fromkeys(("true", "tru", "tr", "t", "yes", "ye", "y", "on", "1"), True),
    **dict.fromkeys(("false", "fals", "fal", "fa", "f", "no", "n", "off", "of", "0"), False),
}


@dataclass(frozen=True, slots=True)
class Startup:
    """``unknown``: options of the protocol (``_pq_.…``) that were asked for and that nobody knows here;
    ``newer``: a later minor version was asked for. Either is answered with what is spoken."""

    user: str
    database: str
    replication: bool
    parameters: Mapping[str, str]
    newer: bool
    unknown: tuple[str, ...]


def parse(version: int, body: bytes) -> Startup:
    if version >> 16 != PROTOCOL >> 16:
        raise _fatal(
            NOT_SUPPORTED,
            f"unsupported frontend protocol {version >> 16}.{version & 0xFFFF}: server supports 3.0 to 3.0",
        )
    pairs = _pairs(body)
    unknown = tuple(name for name in pairs if name.startswith("_pq_."))
    parameters = {name: value for name, value in pairs.items() if not name.startswith("_pq_.")}
    user = parameters.get("user", "")
    if not user:
        raise _fatal(INVALID_AUTHORIZATION, "no PostgreSQL user name specified in startup packet")
    return Startup(
        user, parameters.get("database") or user, _replication(parameters.get("replication", "false")),
        parameters, (version & 0xFFFF) > 0, unknown,
    )  # fmt: skip


def _pairs(body: bytes) -> dict[str, str]:
    """Names and values, each ended by a NUL; one more NUL ends the packet."""
    parts = body.split(b"\0")
    # n names and n values, the empty name that ends the list, and what split finds behind the last NUL.
    if parts[-2:] != [b"", b""] or len(parts) % 2 or b"" in parts[:-2:2]:
        raise violation("invalid startup packet layout: expected terminator as last byte")
    try:
        decoded = [text(part) for part in parts[:-2]]
    except Refused as refused:
        raise _fatal(refused.refusal.sqlstate, refused.refusal.message) from None
    return dict(zip(decoded[::2], decoded[1::2], strict=True))


def _replication(value: str) -> bool:
    if value == "database":
        return True
    wanted = _BOOLEANS.get(value.strip().lower())
    if wanted is None:
        raise _fatal(
            INVALID_PARAMETER, 'invalid value for parameter "replication"',
            'Valid values are: "false", 0, "true", 1, "database".',
        )  # fmt: skip
    if wanted:
        raise _fatal(
            NOT_SUPPORTED, "physical replication is not served here",
            "the relay serves logical replication: connect with replication=database",
        )  # fmt: skip
    return False


def _fatal(sqlstate: str, message: str, hint: str = "") -> Refused:
    return Refused(Refusal(sqlstate, message, hint, fatal=True))
