"""The words of a command: keywords and identifiers, quoted names and strings, LSNs, punctuation.

In: the text of a simple Query. Out: its tokens in order; `Refused` with a syntax error for what can't be
one. What is understood is the part that replication commands and PostgreSQL's SQL have in common: no
comments, no escapes, no operators. Pure.

Source: src/backend/replication/repl_scanner.l.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Final

from logship.relay.refusal import SYNTAX_ERROR, Refusal, Refused

MAX_TOKENS: Final = 10_000


class Kind(enum.Enum):
    WORD = "word"  # folded to lower case
    NAME = "name"  # in double quotes
    STRING = "string"
    NUMBER = "number"
    LSN = "LSN"
    MARK = "mark"
    END = "end"


@dataclass(frozen=True, slots=True)
class Token:
    kind: Kind
    text: str


_TOKEN: Final = re.compile(
    r"""[ \t\n\r\f\v]*(?:
        (?P<LSN>[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8})(?![0-9A-Za-z_])
      | (?P<WORD>[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*)
      | (?P<NUMBER>[0-9]+)(?![A-Za-z_])
      | "(?P<NAME>(?:[^"]|"")+)"
      | '(?P<STRING>(?:[^']|'')*)'
      | (?P<MARK>[(),;.*=])
      | (?P<END>\Z)
    )""",
    re.X,
)
_QUOTES: Final = {Kind.NAME: '"', Kind.STRING: "'"}
_UPPER: Final = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")


def scan(text: str) -> tuple[Token, ...]:
    """The tokens of ``text``, END last."""
    tokens: list[Token] = []
    at = 0
    while True:
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise syntax_error()
        kind = Kind[match.lastgroup]
        tokens.append(Token(kind, _meaning(kind, match[match.lastgroup])))
        if kind is Kind.END:
            return tuple(tokens)
        if len(tokens) > MAX_TOKENS:
            raise Refused(Refusal("54001", "the command is too long", f"at most {MAX_TOKENS} words"))
        at = match.end()


def _meaning(kind: Kind, written: str) -> str:
    quote = _QUOTES.get(kind)
    if quote is not None:
        return written.replace(quote * 2, quote)
    return written.translate(_UPPER) if kind is Kind.WORD else written


def syntax_error(hint: str = "") -> Refused:
    return Refused(Refusal(SYNTAX_ERROR, "syntax error", hint))


class Words:
    """Tokens to be taken one by one; what isn't there is a syntax error."""

    def __init__(self, tokens: tuple[Token, ...]) -> None:
        self._tokens = tokens
        self._at = 0

    @property
    def next(self) -> Token:
        return self._tokens[self._at]

    @property
    def ended(self) -> bool:
        return self.next.kind is Kind.END

    def take(self) -> Token:
        token = self.next
        if token.kind is not Kind.END:
            self._at += 1
        return token

    def has(self, kind: Kind, *texts: str) -> bool:
        """Whether the next token is of ``kind``, and one of ``texts`` when there are any; it is then taken."""
        token = self.next
        found = token.kind is kind and (not texts or token.text in texts)
        if found:
            self.take()
        return found

    def expect(self, kind: Kind, *texts: str) -> str:
        text = self.next.text
        if not self.has(kind, *texts):
            raise syntax_error()
        return text

    def name(self) -> str:
        """An identifier, with or without quotes."""
        if self.next.kind not in (Kind.WORD, Kind.NAME):
            raise syntax_error()
        return self.take().text

    def rest(self) -> tuple[Token, ...]:
        """What wasn't taken yet, END last."""
        return self._tokens[self._at :]

    def end(self) -> None:
        """One semicolon at most, and nothing behind it."""
        self.has(Kind.MARK, ";")
        if self.next.kind is not Kind.END:
            raise syntax_error()
