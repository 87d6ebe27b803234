"""Which replicas a commit waits for, in the words of PostgreSQL's synchronous_standby_names.

In: `ANY 2 (a, b, c)`, `FIRST 1 (a, b)`, `2 (a, b)`, `a, b`, `*`, names in double quotes. Out: a `Policy`,
None where nothing is said (asynchronous), or `UsageError` with the place. Names are compared as
PostgreSQL compares them, without regard to case; `*` is any replica. No I/O.

Source: PostgreSQL documentation, "synchronous_standby_names"; src/backend/replication/syncrep_gram.y and
syncrep_scanner.l. Stricter in one point: a policy that asks for more replicas than it names could never be
met, so it is an error here and not a wait for ever.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Final, NoReturn

from logship.errors import UsageError

ANYONE: Final = "*"
_MOST: Final = 2**31 - 1

# Names are of bytes in PostgreSQL: every letter outside ASCII may stand in one.
_TOKEN: Final = re.compile(
    r"""[ \t\n\r\f\v]*(?:
        (?P<quoted>"(?:[^"]|"")*")
      | (?P<name>[A-Za-z_\u0080-\U0010ffff][A-Za-z0-9_$\u0080-\U0010ffff]*|\*)
      | (?P<number>[0-9]+)
      | (?P<mark>[(),])
      | (?P<end>\Z)
      | (?P<junk>.)
    )""",
    re.VERBOSE | re.DOTALL,
)


class Choice(enum.Enum):
    FIRST = "FIRST"  # those with the highest priority, which is the order of the list
    ANY = "ANY"  # a quorum


@dataclass(frozen=True, slots=True)
class Policy:
    """A commit waits until ``count`` of ``names`` have it."""

    choice: Choice
    count: int
    names: tuple[str, ...]

    def priority(self, name: str) -> int:
        """1 is the highest; 0: not among them."""
        wanted = fold(name)
        for place, listed in enumerate(self.names, 1):
            if listed == ANYONE or fold(listed) == wanted:
                return place
        return 0

    def __str__(self) -> str:
        names = ", ".join(_quoted(name) for name in self.names)
        return f"{self.choice.value} {self.count} ({names})"


def fold(name: str) -> str:
    """``name`` as pg_strcasecmp compares it: ASCII letters without case."""
    return "".join(letter.lower() if letter.isascii() else letter for letter in name)


def parse(text: str | None) -> Policy | None:
    """What ``text`` says; None: nothing, so nobody is waited for. `UsageError`."""
    if text is None or not text.strip():
        return None
    return _Parser(text).policy()


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._next = 0

    def policy(self) -> Policy:
        choice, count, bracketed = self._head()
        names = self._names()
        if bracketed:
            self._take("mark", ")")
        if self._peek().kind != "end":
            self._refuse(self._peek())
        return _checked(Policy(choice, count, names))

    def _head(self) -> tuple[Choice, int, bool]:
        """`ANY n (`, `FIRST n (`, `n (`, or nothing: then it is a list, of which the first is waited for."""
        first, second = self._peek(), self._peek(1)
        if first.kind == "name" and first.text.upper() in Choice.__members__:
            self._next += 1
            count = self._take("number")
            self._take("mark", "(")
            return Choice[first.text.upper()], _count(count.text), True
        if first.kind == "number" and (second.kind, second.text) == ("mark", "("):
            self._next += 2
            return Choice.FIRST, _count(first.text), True
        return Choice.FIRST, 1, False

    def _names(self) -> tuple[str, ...]:
        names = [self._name()]
        while self._peek().text == "," and self._peek().kind == "mark":
            self._next += 1
            names.append(self._name())
        return tuple(names)

    def _name(self) -> str:
        token = self._peek()
        reserved = token.kind == "name" and token.text.upper() in Choice.__members__
        if token.kind not in ("name", "number", "quoted") or reserved:
            self._refuse(token)
        self._next += 1
        return token.text[1:-1].replace('""', '"') if token.kind == "quoted" else token.text

    def _peek(self, ahead: int = 0) -> _Token:
        return self._tokens[min(self._next + ahead, len(self._tokens) - 1)]

    def _take(self, kind: str, text: str | None = None) -> _Token:
        token = self._peek()
        if token.kind != kind or (text is not None and token.text != text):
            self._refuse(token)
        self._next += 1
        return token

    def _refuse(self, token: _Token) -> NoReturn:
        where = f'at or near "{token.text}"' if token.kind != "end" else "at the end of it"
        raise UsageError(
            f"syntax error in the policy {self._text!r}, {where}",
            hint="write it like synchronous_standby_names: ANY 2 (a, b, c), FIRST 1 (a, b), or a, b; "
            "names with other characters than letters, digits and _ stand in double quotes",
        )


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    at = 0
    while not found or found[-1].kind != "end":
        match = _TOKEN.match(text, at)
        assert match is not None  # the last alternatives match anything
        kind = match.lastgroup or "junk"
        found.append(_Token(kind, match[kind], match.start(kind)))
        at = match.end()
    return found


def _count(digits: str) -> int:
    count = int(digits) if len(digits) < 20 else _MOST + 1
    if not 0 < count <= _MOST:
        raise UsageError(
            f"number of synchronous replicas ({digits[:20]}) must be greater than zero and fit into 32 bits",
            hint="to wait for nobody, leave the policy out",
        )
    return count


def _checked(policy: Policy) -> Policy:
    if ANYONE not in policy.names and policy.count > len({fold(name) for name in policy.names}):
        raise UsageError(
            f"the policy {policy} waits for {policy.count} replicas and names fewer: it could never be met",
            hint="name more replicas, or ask for fewer",
        )
    return policy


def _quoted(name: str) -> str:
    plain = name == ANYONE or re.fullmatch(r"[A-Za-z_][A-Za-z0-9_$]*|[0-9]+", name)
    if plain and name.upper() not in Choice.__members__:
        return name
    return '"' + name.replace('"', '""') + '"'
