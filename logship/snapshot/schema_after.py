"""Makes indexes and constraints after the rows, several at a time.

In: pg_dump's post-data section. Out: its entries, made on the secondary: indexes and keys first, in
parallel, then what attaches them to partitioned ones, then foreign keys, in parallel; the rest
(triggers, rules, policies, materialized views …) is left to the caller's last transaction, in order. Each entry is
one transaction, with ``note`` in it, so another attempt knows for certain which are there already.

An entry begins at the comment that pg_dump puts before it. Such a comment in a string (of COMMENT ON,
say, which anybody may write) is no beginning: quotes are followed through the text.
"""

from __future__ import annotations

import hashlib
import queue
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import pq

from logship.connection import Side
from logship.failpoints import hit
from logship.snapshot.failures import failure

_ENTRY: Final = re.compile(r"--\n-- Name: (.*); Type: ([A-Z ]+); Schema: (.*); Owner: (.*)\n--\n")
_CARRIED: Final = re.compile(r"SET (default_tablespace|default_table_access_method) = .*;\Z")
_QUOTED: Final = re.compile(
    r"""--[^\n]*(?:\n|\Z) | /\*.*?\*/ | \b[eE]'(?:[^'\\]|''|\\.)*' | '(?:[^']|'')*' | "(?:[^"]|"")*"
      | \$(?P<tag>[^\W\d]\w*|)\$.*?\$(?P=tag)\$""",
    re.S | re.X,
)
_PART: Final = r'"(?:[^"]|"")*"|[^\s".;(]+'
_FOREIGN_KEY: Final = re.compile(
    rf"ALTER TABLE (?:ONLY )?({_PART})\.({_PART})\s+ADD CONSTRAINT ({_PART}) FOREIGN KEY "
    rf"\([^)]*\) REFERENCES ({_PART})\.({_PART})\s*\("
)
_PARALLEL: Final = ("INDEX", "CONSTRAINT")
_TRIES: Final = 20


@dataclass(frozen=True, slots=True)
class Entry:
    """``before``: settings in force; ``text``: its statements."""

    name: str
    kind: str
    before: str
    text: str

    @property
    def digest(self) -> str:
        return hashlib.sha256((self.before + self.text).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ForeignKey:
    name: str
    table: tuple[str, str]
    references: tuple[str, str]


def entries(text: str) -> list[Entry]:
    """``text`` without what only psql understands, as `logship.snapshot.schema.statements` leaves it."""
    comments = _top_level(text)
    starts = [match for match in _ENTRY.finditer(text) if match.start() in comments]
    if not starts:
        return []
    carried: dict[str, str] = {}
    header = _take_settings(text[: starts[0].start()], carried)
    found = []
    for match, behind in zip(starts, [*(m.start() for m in starts[1:]), len(text)], strict=True):
        before = header + "".join(carried.values())
        body = _take_settings(text[match.end() : behind], carried)
        found.append(Entry(match[1], match[2], before, body))
    return found


def foreign_key(entry: Entry) -> ForeignKey | None:
    match = _FOREIGN_KEY.search(entry.text)
    if match is None:
        return None
    schema, table, name, other_schema, other = (_unquoted(part) for part in match.groups())
    return ForeignKey(name, (schema, table), (other_schema, other))


def unchecked(entry: Entry) -> Entry:
    """The foreign key as NOT VALID: in force for what is written, not checked for what is there."""
    lines = entry.text.rstrip().splitlines()
    while (
        lines[-1].startswith("--") or not lines[-1].strip()
    ):  # pg_dump's last words stand behind its last entry
        lines.pop()
    text = "\n".join(lines).rstrip()
    if text.endswith(" NOT VALID;"):
        return entry
    return Entry(entry.name, entry.kind, entry.before, text.removesuffix(";") + " NOT VALID;\n")


def make_all(
    connect: Callable[[], psycopg.Connection],
    todo: Sequence[Entry],
    *,
    jobs: int,
    note: Callable[[psycopg.Connection, Entry], None],
    progress: Callable[[Entry, int, int], None],
) -> None:
    """Make those entries that are made before the last transaction. ``progress``: which, how many, of how many."""
    done = 0

    def tell(entry: Entry) -> None:
        nonlocal done
        done += 1
        progress(entry, done, len(todo))

    for kinds, workers in ((_PARALLEL, jobs), (("INDEX ATTACH",), 1), (("FK CONSTRAINT",), jobs)):
        group = [entry for entry in todo if entry.kind in kinds]
        if group:
            _make(connect, group, min(workers, len(group)), note, tell)


def comes_early(entry: Entry) -> bool:
    """Whether `make_all` makes it; the others are run in order by the caller."""
    return entry.kind in {*_PARALLEL, "INDEX ATTACH", "FK CONSTRAINT"}


def _make(
    connect: Callable[[], psycopg.Connection],
    group: Sequence[Entry],
    jobs: int,
    note: Callable[[psycopg.Connection, Entry], None],
    tell: Callable[[Entry], None],
) -> None:
    todo: queue.SimpleQueue[Entry] = queue.SimpleQueue()
    told: queue.SimpleQueue[Entry | BaseException | None] = queue.SimpleQueue()
    stop = threading.Event()
    for entry in group:
        todo.put(entry)

    def work() -> None:
        try:
            with connect() as link:
                while not stop.is_set():
                    try:
                        entry = todo.get_nowait()
                    except queue.Empty:
                        break
                    run(link, entry, note)
                    told.put(entry)
        except BaseException as error:  # noqa: BLE001  handed to the caller's thread, which raises it
            told.put(error)
        finally:
            told.put(None)

    threads = [threading.Thread(target=work, name=f"index-{number}", daemon=True) for number in range(jobs)]
    for thread in threads:
        thread.start()
    error: BaseException | None = None
    running = len(threads)
    while running:
        message = told.get()
        if message is None:
            running -= 1
        elif isinstance(message, Entry):
            tell(message)
        else:
            error = error or message
            stop.set()
    if error is not None:
        raise error


def run(link: psycopg.Connection, entry: Entry, note: Callable[[psycopg.Connection, Entry], None]) -> None:
    """One entry, in one transaction. Two that want the same tables in another order may deadlock: again then."""
    for attempt in range(1, _TRIES + 1):
        try:
            with link.transaction():
                note(link, entry)
                send(link, entry)
        except psycopg.errors.DeadlockDetected as error:
            if attempt == _TRIES:
                raise _explained(entry, error) from error
        except psycopg.Error as error:
            raise _explained(entry, error) from error
        else:
            hit("init.index")
            return


def send(link: psycopg.Connection, entry: Entry) -> None:
    """Its statements, with the settings that hold for it, inside the caller's transaction."""
    result = link.pgconn.exec_((entry.before + entry.text).encode())
    if result.status not in {pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK, pq.ExecStatus.EMPTY_QUERY}:
        raise psycopg.errors.error_from_result(result)


def _explained(entry: Entry, error: psycopg.Error) -> Exception:
    return failure(
        Side.SECONDARY, f"make {entry.kind.lower()} {entry.name}", error,
        hint="mend the cause, and run init again: the rows, and what is made already, stay",
    )  # fmt: skip


def _top_level(text: str) -> frozenset[int]:
    """Where comments begin that are comments, and not part of a string."""
    return frozenset(match.start() for match in _QUOTED.finditer(text) if match[0].startswith("--"))


def _take_settings(text: str, carried: dict[str, str]) -> str:
    """``text`` without the settings that hold for the entries behind it, which are put into ``carried``."""
    kept = []
    quoted: list[tuple[int, int]] | None = None
    offset = 0
    for line in text.splitlines(keepends=True):
        setting = _CARRIED.match(line.rstrip("\n"))
        if setting and quoted is None:
            quoted = [(match.start(), match.end()) for match in _QUOTED.finditer(text)]
        if setting and not any(start < offset < end for start, end in quoted or ()):
            carried[setting[1]] = line
        else:
            kept.append(line)
        offset += len(line)
    return "".join(kept)


def _unquoted(part: str) -> str:
    return part[1:-1].replace('""', '"') if part.startswith('"') else part
