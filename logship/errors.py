"""Every error that logship raises on purpose, by whose fault it is, and what becomes of it.

One root, `LogshipError`. Under it one branch per exit code (`docs/design.md`, "Exit codes"): usage,
the primary, the secondary, the journal, refused as unsafe, replay. An error carries its facts as
fields, builds its own sentence from them, and has a `hint`: the next thing to do. Row values and
passwords are in none of them.

Whether an error of a server is tried again or stops the program is decided by `is_transient`, from
one table, and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

if TYPE_CHECKING:
    from logship.lsn import Lsn


class LogshipError(Exception):
    """The root. ``hint`` tells the operator what to do next; ``exit_code`` is what the program ends with."""

    exit_code: ClassVar[int] = 70
    sqlstate: str | None = None  # where a server said it, or its words leave no doubt

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class InternalError(LogshipError):
    """logship contradicts itself: a defect of ours, with what is needed to report it."""

    HINT: ClassVar[str] = (
        "this is a defect of logship. Nothing that was acknowledged is lost; start it again, and report "
        "this with the log: LOGSHIP_DEBUG=1 shows the traceback"
    )

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint or self.HINT)


# -- 2: what the operator said -------------------------------------------------------------------


class UsageError(LogshipError):
    """A setting, an option or an argument that can't be meant."""

    exit_code = 2


class MalformedLsn(UsageError):
    def __init__(self, text: str) -> None:
        super().__init__(f"{text!r} is not an LSN", hint="an LSN is two hexadecimal numbers, like 0/16B3748")
        self.text = text


# -- 3: the primary ------------------------------------------------------------------------------


class PrimaryError(LogshipError):
    """The primary can't be reached, refuses, or isn't set up for logical replication. ``transient``:
    the same thing may succeed later."""

    exit_code = 3
    transient: bool = False


class SlotMissing(PrimaryError):
    def __init__(self, slot: str) -> None:
        super().__init__(
            f'replication slot "{slot}" does not exist on the primary',
            hint="what was written since it went is not in any log that logship can read; "
            "it is never made anew quietly. Run `logship init` again to copy from the start",
        )
        self.slot = slot


class SlotLost(PrimaryError):
    def __init__(self, slot: str, reason: str) -> None:
        super().__init__(
            f'replication slot "{slot}" is lost: the primary has removed WAL that it needs ({reason})',
            hint="raise max_slot_wal_keep_size on the primary, drop the slot with "
            f"select pg_drop_replication_slot('{slot}') and run `logship init` again",
        )
        self.slot = slot
        self.reason = reason


class ProtocolViolation(PrimaryError):
    """The peer sent bytes that its protocol does not allow. ``offset`` counts from the message's start."""

    def __init__(self, what: str, *, offset: int = 0) -> None:
        super().__init__(
            f"malformed replication message: {what} (at byte {offset})",
            hint="the stream is not what this version of logship understands; nothing was acknowledged",
        )
        self.what = what
        self.offset = offset


class SlotActive(PrimaryError):
    """Another session streams from the slot. A predecessor that is ending frees it soon: wait and retry."""

    transient = True

    def __init__(self, slot: str, active_pid: int | None) -> None:
        holder = f"process {active_pid}" if active_pid else "another session"
        super().__init__(
            f'replication slot "{slot}" is in use by {holder} on the primary',
            hint="stop the other logship; if there is none, end the session with "
            f"select pg_terminate_backend({active_pid or '<pid>'})",
        )
        self.slot = slot
        self.active_pid = active_pid


class PublicationMissing(PrimaryError):
    def __init__(self, publication: str, *, sqlstate: str = "") -> None:
        super().__init__(
            f'publication "{publication}" does not exist on the primary',
            hint="the log is read with the catalog of its own time, so a publication made now doesn't mend "
            "what was written before. If it was dropped, run `logship init` again",
        )
        self.publication = publication
        self.sqlstate = sqlstate


class StreamBroken(PrimaryError):
    """The walsender's stream ended. Nothing is lost: it starts again from the journal's end."""

    def __init__(self, what: str, *, sqlstate: str | None = None, transient: bool, hint: str = "") -> None:
        super().__init__(f"the primary's stream ended: {what}", hint=hint)
        self.sqlstate = sqlstate
        self.transient = transient


class ShipperUnreachable(PrimaryError):
    """Nobody listens where the shipper should, or it doesn't let us in. ``transient``: it may yet start."""

    def __init__(self, message: str, *, hint: str, transient: bool) -> None:
        super().__init__(message, hint=hint)
        self.transient = transient


class ShipperBroken(PrimaryError):
    """The shipper's stream ended. Nothing is lost: it starts again from the journal's end."""

    def __init__(self, what: str, *, sqlstate: str | None = None, transient: bool) -> None:
        super().__init__(
            f"the shipper's stream ended: {what or 'the connection was closed'}",
            hint="" if transient else "see the shipper's own log",
        )
        self.sqlstate = sqlstate
        self.transient = transient


class ReplicaServed(PrimaryError):
    """The shipper serves the replica to somebody else. A predecessor that is ending frees it soon."""

    transient = True

    def __init__(self, replica: str) -> None:
        super().__init__(
            f'the shipper is serving replica "{replica}" to another client',
            hint="stop the other replayer; one that was cut off is forgotten after a while",
        )
        self.replica = replica
        self.sqlstate = "55006"


class ReplicaUnknown(PrimaryError):
    """The shipper has not heard of the replica, yet: it looks for new ones on the primary."""

    transient = True

    def __init__(self, replica: str, message: str) -> None:
        super().__init__(
            f'the shipper doesn\'t know replica "{replica}": {message}',
            hint="is it the shipper of this replica's primary? It knows what `logship init` made, a moment "
            "after it was made, and until `logship drop`",
        )
        self.replica = replica


class LogGone(PrimaryError):
    """The shipper no longer keeps what the replica needs next; the message names the oldest it has."""

    def __init__(self, replica: str, message: str) -> None:
        super().__init__(
            f'the shipper no longer has the log that replica "{replica}" needs: {message}',
            hint="what lies between is in no log. Copy the replica anew: `logship drop`, then `logship init` into "
            "an empty secondary; a larger --journal-limit of the shipper keeps more",
        )
        self.replica = replica


class ShipperOld(PrimaryError):
    """A shipper that has been succeeded by a younger one: it has nothing to say any more."""

    transient = True

    def __init__(self, epoch: int, seen: int) -> None:
        super().__init__(
            f"the shipper there is of epoch {epoch}, and this replica has followed one of epoch {seen}",
            hint="it has been succeeded: end it, or give --shipper the address of its successor",
        )
        self.epoch = epoch
        self.seen = seen


# -- 4: the secondary ----------------------------------------------------------------------------


class SecondaryError(LogshipError):
    """The secondary can't be reached, refuses, or isn't set up."""

    exit_code = 4


# -- 5: the journal ------------------------------------------------------------------------------


class JournalError(LogshipError):
    """The journal can't be read or written. ``file`` is the segment, ``offset`` a byte in it."""

    exit_code = 5

    def __init__(self, message: str, *, file: str = "", offset: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.file = file
        self.offset = offset


class JournalDamaged(JournalError):
    """Bytes that had been fsynced are not what was written."""

    def __init__(self, what: str, *, file: str, offset: int) -> None:
        super().__init__(
            f"journal segment {file} is damaged at byte {offset}: {what}",
            file=file,
            offset=offset,
            hint="nothing was changed. Check the disk, then restore this file from a copy; without one, set "
            "the journal directory aside and run `logship init` again to copy from the start",
        )
        self.what = what


class JournalForeign(JournalError):
    """The directory holds the journal of another source."""

    def __init__(self, directory: str, found: str, expected: str, *, hint: str = "") -> None:
        super().__init__(
            f"the journal in {directory} is of another source: it holds {found}, but this is {expected}",
            file=directory,
            hint=hint or "give each source a journal directory of its own",
        )
        self.found = found
        self.expected = expected


class JournalLocked(JournalError):
    def __init__(self, directory: str, pid: str) -> None:
        super().__init__(
            f"the journal in {directory} is being written by process {pid or 'unknown'}",
            file=directory,
            hint="one directory has one writer: stop that process, or give this one another directory",
        )
        self.pid = pid


class JournalFull(JournalError):
    """No room (ENOSPC), quota (EDQUOT) or file size limit (EFBIG)."""

    def __init__(self, doing: str, reason: str, *, file: str) -> None:
        super().__init__(
            f"the journal's disk is full: can't {doing} {file}: {reason}",
            file=file,
            hint="nothing is lost: what was not acknowledged comes again. Make room and start again",
        )


class JournalReadOnly(JournalError):
    def __init__(self, doing: str, reason: str, *, file: str) -> None:
        super().__init__(
            f"the journal can't be written: can't {doing} {file}: {reason}",
            file=file,
            hint="nothing is lost: what was not acknowledged comes again. Mount it writable, or give this "
            "user the right to write there, and start again",
        )


class JournalTooOld(JournalError):
    """What was asked for is no longer kept. Both are `logship.lsn.Lsn` (which imports this module)."""

    def __init__(self, asked: int, oldest: int) -> None:
        super().__init__(
            f"the journal no longer holds what follows {asked}: it begins at {oldest}",
            hint="retention removed it (the size limit goes before need), or this is not the directory that "
            "was written before. If there is no other, copy this replica anew with `logship init`",
        )
        self.asked = asked
        self.oldest = oldest


class JournalBehind(JournalError):
    """The slot has been told that more is safe than the journal holds. All are `logship.lsn.Lsn`."""

    def __init__(self, journal_end: int, slot: str, confirmed_flush: int) -> None:
        super().__init__(
            f'the journal ends at {journal_end}, but slot "{slot}" was told that everything up to '
            f"{confirmed_flush} is safe: what lies between is in neither",
            hint="this is not the journal that the slot was read into, or it has lost its end. Give --journal "
            "the right directory, or restore it; without one, run `logship init` again to copy from the start",
        )
        self.journal_end = journal_end
        self.slot = slot
        self.confirmed_flush = confirmed_flush


# -- 6: refused as unsafe ------------------------------------------------------------------------


class RefusedAsUnsafe(LogshipError):
    """What was asked could lose or double data, so it isn't done."""

    exit_code = 6


# -- 7: replay -----------------------------------------------------------------------------------


class ReplayError(LogshipError):
    """A change can't be replayed: the replica stops here, nothing is skipped.

    ``commit_lsn`` is of the transaction that it is about, where that is known; else that ends at ``upto`` or before,
    if that is known."""

    exit_code = 7
    commit_lsn: Lsn | None = None
    upto: Lsn | None = None


# -- which errors of a server are tried again ----------------------------------------------------

# Source: PostgreSQL documentation, "PostgreSQL Error Codes".


@dataclass(frozen=True, slots=True)
class Rule:
    """What becomes of an error whose SQLSTATE is ``code``, or begins with it (the class): it is tried
    ``again``, since the same thing may succeed later, or it stops the program."""

    code: str
    again: bool
    reason: str  # a word for the figures
    what: str


LINK_LOST: Final = Rule("", True, "link_lost", "the connection broke, or none could be made")
OTHER: Final = Rule("", False, "other", "everything else")
RULES: Final[tuple[Rule, ...]] = (
    Rule("08", True, "connection", "connection exceptions"),
    Rule("28", False, "credentials", "wrong credentials"),
    Rule("3D", False, "no_database", "no such database"),
    Rule("40", True, "serialization", "serialization failure, deadlock: the transaction is run again"),
    Rule("53", True, "resources", "full disk, out of memory, too many connections"),
    Rule("55006", True, "in_use", "a predecessor's slot or origin is still active"),
    Rule("55P03", True, "lock_timeout", "a lock was not given in time"),
    Rule("57", True, "operator", "shutdown, crash, can't connect now"),
    Rule("57014", True, "cancelled", "the query was cancelled"),
    Rule("58", True, "system", "errors outside PostgreSQL: I/O"),
    Rule("58P01", False, "wal_gone", "undefined file: a slot whose WAL is gone"),
)
_BY_CODE: Final = {rule.code: rule for rule in RULES}


def rule_of(sqlstate: str | None) -> Rule:
    """The rule for ``sqlstate`` (``None``: the link broke)."""
    if sqlstate is None:
        return LINK_LOST
    return _BY_CODE.get(sqlstate) or _BY_CODE.get(sqlstate[:2]) or OTHER


_LANGUAGES: Final = frozenset(
    {"pl_exec.c", "plpy_elog.c", "plpy_plpymodule.c", "plperl.c", "Util.c", "Util.xs", "pltcl.c"}
)


def is_transient(sqlstate: str | None) -> bool:
    """Whether an operation that failed with ``sqlstate`` is tried again (``None``: the link broke)."""
    return rule_of(sqlstate).again


def is_users_text(source_file: str | None) -> bool:
    """Whether a server's message was raised in a procedural language, under whatever SQLSTATE: it may hold any value.
    ``source_file``: the server's own, as its errors name it."""
    return source_file in _LANGUAGES


def reason_of(error: BaseException) -> str:
    """The word for why ``error`` is being waited out, from its SQLSTATE or its cause's."""
    return _rule_for(error).reason


def waited_out(error: LogshipError) -> str:
    """What is said of ``error`` while it is being waited out: with the hint, where waiting alone mends nothing.

    A server that was reached once is waited for whatever it says: its password may be in the middle of a change.
    """
    rule = _rule_for(error)
    if rule.again or rule is OTHER or not error.hint:
        return error.message
    return f"{error.message}; this doesn't pass by itself: {error.hint}"


def _rule_for(error: BaseException) -> Rule:
    if isinstance(error, SlotActive):
        return _BY_CODE["55006"]
    return rule_of(getattr(error, "sqlstate", None) or getattr(error.__cause__, "sqlstate", None))
