"""What a client is told when something it asked for is not done.

In: an SQLSTATE and sentences. Out: a `Refusal`, which `logship.relay.messages.error_response` turns into
bytes; `Refused` carries it through code that answers by raising. Row values, passwords and the text of
a client's commands are never in one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PROTOCOL_VIOLATION: Final = "08P01"
NOT_SUPPORTED: Final = "0A000"
SYNTAX_ERROR: Final = "42601"
UNDEFINED: Final = "42704"
INVALID_NAME: Final = "42602"
INVALID_PARAMETER: Final = "22023"
INVALID_AUTHORIZATION: Final = "28000"
INVALID_PASSWORD: Final = "28P01"


@dataclass(frozen=True, slots=True)
class Refusal:
    """``fatal``: the connection ends with it. Otherwise the client may go on with another command."""

    sqlstate: str
    message: str
    hint: str = ""
    detail: str = ""
    fatal: bool = False


class Refused(Exception):
    """Ends the command under way with ``refusal``; caught where the command was begun."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


def violation(message: str, *, hint: str = "", detail: str = "") -> Refused:
    """The peer broke the protocol so that nothing it sends can be believed any more: it is cut."""
    return Refused(Refusal(PROTOCOL_VIOLATION, message, hint, detail, fatal=True))
