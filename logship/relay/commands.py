"""The replication commands: their text to what is asked.

In: the text of a simple Query. Out: an event of `logship.relay.events`, or `Answer` when the relay knows
it by itself, or None when nothing was said; `Refused` with SQLSTATE and hint for everything else. The
queries that clients send beside them are `logship.relay.catalogue`'s. Pure.

Source: PostgreSQL documentation, "Streaming Replication Protocol"; src/backend/replication/repl_gram.y.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from logship.errors import MalformedLsn
from logship.lsn import Lsn
from logship.relay import catalogue
from logship.relay.catalogue import Answer
from logship.relay.events import (
    CreateSlot,
    DropSlot,
    Identify,
    Publications,
    PublicationTables,
    ReadSlot,
    Show,
    Snapshot,
    StartReplication,
)
from logship.relay.refusal import (
    INVALID_NAME,
    INVALID_PARAMETER,
    NOT_SUPPORTED,
    SYNTAX_ERROR,
    Refusal,
    Refused,
)
from logship.relay.scanner import Kind, Words, scan, syntax_error

Command: TypeAlias = (
    Identify
    | Show
    | PublicationTables
    | Publications
    | CreateSlot
    | DropSlot
    | ReadSlot
    | StartReplication
    | Answer
)

_NAME_BYTES: Final = 63
_SLOT_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")
_LEGACY: Final = {
    "export_snapshot": ("snapshot", "export"),
    "noexport_snapshot": ("snapshot", "nothing"),
    "use_snapshot": ("snapshot", "use"),
    "reserve_wal": ("reserve_wal", "true"),
    "two_phase": ("two_phase", "true"),
}
_FALSE: Final = frozenset({"false", "off", "0"})
_TRUE: Final = frozenset({"true", "on", "1", ""})
ONLY_THE_LOG: Final = (
    "the relay serves the log and no rows: subscribe with copy_data = false, or copy with `logship init`"
)


def parse(text: str, *, replication: bool = True) -> Command | None:
    """What ``text`` asks. ``replication``: the connection was made with replication=database; without, only
    SHOW and the known queries are there."""
    words = Words(scan(text))
    words.has(Kind.MARK, ";")
    if words.ended:
        return None
    parser = _COMMANDS.get(words.next.text) if words.next.kind is Kind.WORD else None
    if parser is None:
        return catalogue.parse(words)
    if not replication and parser is not _show:
        raise Refused(
            Refusal(SYNTAX_ERROR, "replication commands need a replication connection",
                    "connect with replication=database")
        )  # fmt: skip
    words.take()
    return parser(words)


def _identify(words: Words) -> Command:
    words.end()
    return Identify()


def _show(words: Words) -> Command:
    name = _dotted(words)
    words.end()
    return catalogue.setting(name) or Show(name)


def _read(words: Words) -> Command:
    name = _dotted(words)
    words.end()
    return ReadSlot(_slot(name))


def _drop(words: Words) -> Command:
    name = words.name()
    wait = words.has(Kind.WORD, "wait")
    words.end()
    return DropSlot(_slot(name), wait)


def _create(words: Words) -> Command:
    name = words.name()
    temporary = words.has(Kind.WORD, "temporary")
    if words.has(Kind.WORD, "physical"):
        raise _physical()
    words.expect(Kind.WORD, "logical")
    plugin = words.name()
    options = _slot_options(words)
    words.end()
    if plugin != "pgoutput":
        raise Refused(
            Refusal(NOT_SUPPORTED, "only the output plugin pgoutput is served",
                    'create the slot with pgoutput (pg_recvlogical: --plugin=pgoutput)')
        )  # fmt: skip
    return CreateSlot(_slot(name), plugin, temporary, _snapshot(options))


def _start(words: Words) -> Command:
    if not words.has(Kind.WORD, "slot"):
        raise _physical()
    slot = words.name()
    if words.next.kind is Kind.LSN or words.has(Kind.WORD, "physical"):
        raise _physical()
    words.expect(Kind.WORD, "logical")
    try:
        start_lsn = Lsn.parse(words.expect(Kind.LSN))
    except MalformedLsn:
        raise syntax_error() from None
    options: dict[str, str] = {}
    if words.has(Kind.MARK, "("):
        while True:
            name = words.name()
            value = words.take().text if words.next.kind is Kind.STRING else "true"
            _add(options, name, value)
            if not words.has(Kind.MARK, ","):
                break
        words.expect(Kind.MARK, ")")
    words.end()
    return StartReplication(_slot(slot), start_lsn, options)


def _unserved(words: Words) -> Command:
    raise Refused(Refusal(NOT_SUPPORTED, "this replication command is not served by the relay", ONLY_THE_LOG))


_COMMANDS: Final[dict[str, Callable[[Words], Command]]] = {
    "identify_system": _identify,
    "show": _show,
    "create_replication_slot": _create,
    "drop_replication_slot": _drop,
    "read_replication_slot": _read,
    "start_replication": _start,
    "alter_replication_slot": _unserved,
    "base_backup": _unserved,
    "timeline_history": _unserved,
    "upload_manifest": _unserved,
}

# -- parts ---------------------------------------------------------------------------------------


def _dotted(words: Words) -> str:
    name = words.name()
    while words.has(Kind.MARK, "."):
        name += "." + words.name()
    return name


def _slot(name: str) -> str:
    """The rule of ReplicationSlotValidateName."""
    if not name or len(name.encode()) > _NAME_BYTES or not _SLOT_CHARACTERS.issuperset(name):
        raise Refused(
            Refusal(
                INVALID_NAME, "the replication slot's name is not valid",
                "Replication slot names may only contain lower case letters, numbers, and the underscore "
                f"character, {_NAME_BYTES} at most.",
            )
        )  # fmt: skip
    return name


def _slot_options(words: Words) -> dict[str, str]:
    """Either syntax: words one after another (before 15), or a list in parentheses."""
    options: dict[str, str] = {}
    if not words.has(Kind.MARK, "("):
        while words.next.kind is Kind.WORD and words.next.text in _LEGACY:
            _add(options, *_LEGACY[words.take().text])
        return options
    while True:
        name = words.name()
        value = ""
        if words.next.kind is not Kind.MARK:
            if words.next.kind in (Kind.LSN, Kind.END):
                raise syntax_error()
            value = words.take().text
        _add(options, name, value)
        if not words.has(Kind.MARK, ","):
            break
    words.expect(Kind.MARK, ")")
    return options


def _add(options: dict[str, str], name: str, value: str) -> None:
    if name in options:
        raise Refused(Refusal(SYNTAX_ERROR, "conflicting or redundant options"))
    options[name] = value


def _snapshot(options: dict[str, str]) -> Snapshot:
    """What the options of CREATE_REPLICATION_SLOT come to, when they are all served."""
    for name in options.keys() - {"snapshot"}:
        if name not in {"two_phase", "reserve_wal", "failover"}:
            raise Refused(Refusal(SYNTAX_ERROR, "unrecognized option of CREATE_REPLICATION_SLOT"))
        value = options[name].lower()
        if value not in _TRUE | _FALSE:
            raise Refused(Refusal(SYNTAX_ERROR, f"{name} requires a Boolean value"))
        if value in _TRUE:
            raise Refused(Refusal(NOT_SUPPORTED, f"{name} is not served by the relay", f"leave {name} out"))
    wanted = options.get("snapshot", "export")
    if wanted == "use":
        raise Refused(Refusal(NOT_SUPPORTED, "the relay has no snapshot to use", ONLY_THE_LOG))
    try:
        return Snapshot(wanted)
    except ValueError:
        raise Refused(
            Refusal(INVALID_PARAMETER, 'unrecognized value for CREATE_REPLICATION_SLOT option "snapshot"')
        ) from None


def _physical() -> Refused:
    return Refused(
        Refusal(
            NOT_SUPPORTED, "physical replication is not served by the relay", "the relay serves LOGICAL slots"
        )
    )
