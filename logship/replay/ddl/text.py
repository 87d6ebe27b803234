"""Which text made a schema change: found in what the client sent, or in the stack of a nested statement.

In: the `Statement`s of one transaction, in order. Out: for each a `Located`, or why there is none. Nothing
is guessed: a text counts only if it is the only one that can have fired. No I/O.

What the client sent is believed only of a statement that was *not* nested. Inside a function the text must
come from the stack: else who calls somebody's security definer function could put a statement of
his own beside the call, and have it run as that somebody.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from logship.replay.ddl.grammar import Piece, split
from logship.replay.ddl.message import Dropped, Object, Statement
from logship.replay.ddl.spelled import parts

_OPEN: Final = 'SQL statement "'
_SQL_FUNCTION: Final = 'SQL function "'
_NUMBER: Final = re.compile(r"([1-9][0-9]{0,8})(?=\n|\Z)")
_WITH_ARGUMENTS: Final = frozenset({"function", "procedure", "aggregate", "cast"})
_EXTENSION: Final = frozenset({"CREATE EXTENSION", "ALTER EXTENSION", "DROP EXTENSION"})


class Why(enum.Enum):
    """Why no text is known."""

    AMBIGUOUS = "several statements can have fired"
    NO_MATCH = "no statement of what was sent is this one"
    UNREADABLE = "what was sent is not in PostgreSQL's grammar"
    SQL_FUNCTION = "it stands in a function in the language SQL: which one isn't known, or its body"
    EXTENSION = "an extension's script ran it: replaying the extension's statement does it"


@dataclass(frozen=True, slots=True)
class Located:
    text: str
    tag: str
    nested: bool


@dataclass(frozen=True, slots=True)
class Unlocated:
    """``candidates``: texts, when there are several; ``where``: the frame that was read, when nested."""

    why: Why
    candidates: tuple[str, ...] = ()
    where: str = ""


Found: TypeAlias = Located | Unlocated


def locate(statements: Sequence[Statement]) -> list[Found]:
    """For each of one transaction's statements, in order."""
    found: list[Found | None] = [None] * len(statements)
    groups: dict[tuple[int, str], list[int]] = {}
    for place, statement in enumerate(statements):
        frames = _frames(statement.stack)
        if frames:
            found[place] = _nested(statement, frames)
        else:
            groups.setdefault((statement.last.at_us, statement.query), []).append(place)
    for (_, query), places in groups.items():
        for place, each in zip(places, _sent(query, [statements[p] for p in places]), strict=True):
            found[place] = each
    return [each for each in found if each is not None]


def _frames(stack: str) -> str:
    """The stack without our own function, which is its first line."""
    return stack.partition("\n")[2]


def _nested(statement: Statement, frames: str) -> Found:
    if "extension script file " in frames.rpartition("\n")[2]:
        return Unlocated(Why.EXTENSION)
    if frames.startswith(_SQL_FUNCTION):
        return _in_sql_function(statement, frames)
    if not frames.startswith(_OPEN):
        return Unlocated(Why.NO_MATCH, where=frames.partition("\n")[0])
    texts = set()
    # The statement stands in quotes, unescaped: it may hold what looks like its end.
    for end in re.finditer(r'"(?=\n|\Z)', frames[len(_OPEN) :]):
        text = frames[len(_OPEN) :][: end.start()]
        pieces = split(text)
        if (
            pieces is not None
            and len(pieces) == 1
            and pieces[0].tag == statement.tag
            and _about(pieces[0], statement)
        ):
            texts.add(pieces[0].text)
    return _only(sorted(texts), statement.tag, nested=True)


def _in_sql_function(statement: Statement, frames: str) -> Found:
    """The stack says the function's name and the number of its statement, and the message has the body, as it was
    then, of each function of that name whose owner may act for the object's. If they are several, they must agree."""
    texts: set[Piece | None] = set()
    for name, body in statement.last.bodies:
        head = f'{_SQL_FUNCTION}{name}" statement '
        number = _NUMBER.match(frames[len(head) :]) if frames.startswith(head) else None
        pieces = split(body)
        if pieces is None:
            texts.add(None)  # it may be this one
        elif number is not None and int(number[1]) <= len(pieces):
            texts.add(pieces[int(number[1]) - 1])
    match list(texts):
        case [Piece() as piece] if piece.tag == statement.tag and _about(piece, statement):
            return Located(piece.text, piece.tag, nested=True)
    candidates = sorted(each.text for each in texts if each is not None)
    return Unlocated(Why.SQL_FUNCTION, tuple(candidates), frames.partition("\n")[0])


def _only(texts: Sequence[str], tag: str, *, nested: bool) -> Found:
    if len(texts) == 1:
        return Located(texts[0], tag, nested)
    return Unlocated(Why.AMBIGUOUS if texts else Why.NO_MATCH, tuple(texts))


def _sent(query: str, statements: Sequence[Statement]) -> list[Found]:
    """Of one execution of what the client sent: each of its statements ran at most once, in order."""
    pieces = split(query)
    if pieces is None:
        return [Unlocated(Why.UNREADABLE)] * len(statements)
    options = [
        [place for place, piece in enumerate(pieces) if piece.tag == s.tag and _about(piece, s)]
        for s in statements
    ]
    _narrow(options)
    return [_chosen(pieces, each, s) for each, s in zip(options, statements, strict=True)]


def _chosen(pieces: Sequence[Piece], options: Sequence[int], statement: Statement) -> Found:
    if not options and statement.tag.startswith("DROP ") and any(p.tag in _EXTENSION for p in pieces):
        return Unlocated(Why.EXTENSION)
    return _only(list(dict.fromkeys(pieces[place].text for place in options)), statement.tag, nested=False)


def _narrow(options: list[list[int]]) -> None:
    """Take out what can't be, when the k-th event comes from a later statement than the one before it."""
    reached = -1
    for each in options:
        kept = [place for place in each if place > reached]
        if not kept:
            continue  # an extension's, or unknown: it says nothing of the others
        each[:] = kept
        reached = kept[0]
    reached = max((max(each) for each in options if each), default=0) + 1
    for each in reversed(options):
        kept = [place for place in each if place < reached]
        if not kept:
            continue
        each[:] = kept
        reached = kept[-1]


def _about(piece: Piece, statement: Statement) -> bool:
    """Whether the piece can be about what the statement touched; true when either says nothing."""
    touched: list[Object | Dropped] = [*statement.objects]
    touched += [each for each in statement.dropped if each.original]
    if not piece.targets or not touched:
        return True
    if piece.label and any(
        piece.label not in one.facts.get("labels", [piece.label]) for one in statement.objects
    ):
        return False
    return any(_names(target, piece, each) for target in piece.targets for each in touched)


def _names(target: tuple[str, ...], piece: Piece, touched: Object | Dropped) -> bool:
    known = _parts((*touched.names, *touched.args))
    known |= {touched.schema} if touched.schema else set()
    if piece.of_column and touched.type == "type":
        target = target[:-1]  # a composite type's attribute: the catalog names the type
    if target[-1] not in known or any(part not in known for part in target[:-1]):
        return False
    if piece.arguments is None or touched.type not in _WITH_ARGUMENTS:
        return True
    named = (*touched.names, *touched.args) if touched.type == "cast" else touched.args
    return tuple(_last(each) for each in named) == piece.arguments


def _parts(names: Iterable[str]) -> set[str]:
    """Names, and those inside a type's: pg_get_object_address has public."My type" in one piece."""
    known = set()
    for name in names:
        known.add(name)
        known.add(_last(name))
        known.update(parts(name))
    return known


def _last(name: str) -> str:
    """A type's name without its schema."""
    quoted = re.search(r'(?:^|\.)"((?:[^"]|"")*)"(\[\])?$', name)
    if quoted:
        return quoted[1].replace('""', '"') + (quoted[2] or "")
    return name.rpartition(".")[2]
