"""The options of START_REPLICATION, as pgoutput judges them.

In: the options by name, as `logship.relay.events.StartReplication` has them, and the publications that are
served. Out: `StreamOptions`; `Refused` as PostgreSQL refuses, with a hint. Pure.

``binary``, ``streaming`` and ``origin`` are permissions and not orders: a server that makes no use of them
is within the protocol. The stream is of protocol version 1 whatever version up to 4 was asked for, since
the later ones only add what must be asked for beside.

Source: src/backend/replication/pgoutput/pgoutput.c, parse_output_parameters.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from logship.relay.frames import OPTION, OPTION_VALUE
from logship.relay.refusal import (
    INVALID_NAME,
    INVALID_PARAMETER,
    NOT_SUPPORTED,
    SYNTAX_ERROR,
    UNDEFINED,
    Refusal,
    Refused,
)
from logship.relay.scanner import Kind, Words, scan

MAX_PROTOCOL: Final = 4
_KNOWN: Final = frozenset(
    {"proto_version", "publication_names", "binary", "streaming", "messages", "two_phase", "origin", OPTION}
)
_BOOLEANS: Final = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """``messages``: logical messages are sent. ``records``: it is our own client (`logship.relay.frames`)."""

    publications: tuple[str, ...]
    messages: bool = False
    records: bool = False


def parse(options: Mapping[str, str], publications: Collection[str]) -> StreamOptions:
    """What a client wants of the stream; ``publications`` are the names that are served."""
    for name in options:
        if name not in _KNOWN:
            raise _refused(SYNTAX_ERROR, "unrecognized pgoutput option")
    version = _protocol(options.get("proto_version", "0"))
    _boolean(options, "binary")
    _streaming(options, version)
    if options.get("origin", "any") not in ("any", "none"):
        raise _refused(INVALID_PARAMETER, "unrecognized origin value", 'use "any" or "none"')
    if _boolean(options, "two_phase"):
        raise _refused(
            NOT_SUPPORTED, "two_phase is not served by the relay",
            "subscribe with two_phase = false: prepared transactions come when they are committed",
        )  # fmt: skip
    if options.get(OPTION, OPTION_VALUE) != OPTION_VALUE:
        raise _refused(
            NOT_SUPPORTED, "this version of the relay's own stream is not known here",
            "run the same version of logship on both sides",
        )  # fmt: skip
    wanted = _publications(options.get("publication_names", ""))
    for name in wanted:
        if name not in publications:
            served = ", ".join(f'"{known}"' for known in sorted(publications)) or "none"
            raise _refused(
                UNDEFINED, f'publication "{name}" does not exist at this relay', f"there is: {served}"
            )
    return StreamOptions(wanted, _boolean(options, "messages"), OPTION in options)


def _streaming(options: Mapping[str, str], version: int) -> None:
    if options.get("streaming") == "parallel":
        needed = 4
    elif _boolean(options, "streaming"):
        needed = 2
    else:
        return
    if version < needed:
        raise _refused(
            INVALID_PARAMETER,
            f"requested proto_version={version} does not support streaming, need {needed} or higher",
        )


def _protocol(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise _refused(INVALID_PARAMETER, "invalid proto_version")
    version = int(text)
    if version < 1:
        raise _refused(
            NOT_SUPPORTED, f"client sent proto_version={version} but we only support protocol 1 or higher"
        )
    if version > MAX_PROTOCOL:
        raise _refused(
            NOT_SUPPORTED,
            f"client sent proto_version={version} but we only support protocol {MAX_PROTOCOL} or lower",
        )
    return version


def _boolean(options: Mapping[str, str], name: str) -> bool:
    value = _BOOLEANS.get(options.get(name, "false").lower())
    if value is None:
        raise _refused(SYNTAX_ERROR, f"{name} requires a Boolean value")
    return value


def _publications(text: str) -> tuple[str, ...]:
    """A list of identifiers, as SplitIdentifierString reads it."""
    if not text.strip():
        raise _refused(INVALID_PARAMETER, "publication_names parameter missing")
    try:
        words = Words(scan(text))
        names = [words.name()]
        while words.has(Kind.MARK, ","):
            names.append(words.name())
    except Refused:
        names = []
    if not names or not words.ended:
        raise _refused(INVALID_NAME, "invalid publication_names syntax")
    return tuple(dict.fromkeys(names))


def _refused(sqlstate: str, message: str, hint: str = "") -> Refused:
    return Refused(Refusal(sqlstate, message, hint))
