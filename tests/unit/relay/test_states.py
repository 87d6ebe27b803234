"""The table of states: nothing in it is out of reach, and `docs/relay.md` shows it as it is."""

from __future__ import annotations

import re
from pathlib import Path

from logship.relay.states import FROM_CLIENT, OPEN, TABLE, UNAUTHENTICATED, WAITING, Input, State

PAGE = Path(__file__).resolve().parents[3] / "docs" / "relay.md"
CLIENTS = {
    *FROM_CLIENT.values(), Input.SSL_REQUEST, Input.GSSENC_REQUEST, Input.CANCEL_REQUEST, Input.STARTUP_MESSAGE,
}  # fmt: skip


def shown() -> str:
    """The table as the page has it: a row per state and following state, with what leads there."""
    rows = []
    for state in State:
        follows: dict[State, list[str]] = {}
        for input_ in Input:
            following = TABLE.get((state, input_))
            if following is not None and input_ is not Input.ENDED:
                follows.setdefault(following, []).append(input_.value)
        rows += [
            f"| {state.value} | {', '.join(inputs)} | {after.value} |" for after, inputs in follows.items()
        ]
    return "\n".join(rows)


def test_the_page_shows_the_table() -> None:
    table = re.search(r"^\| state \| input \| then \|\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE.read_text(), re.M)
    assert table is not None
    assert table[1].strip() == shown()


def test_every_state_is_reached_and_can_end() -> None:
    reached = {State.STARTUP}
    while more := {after for (state, _), after in TABLE.items() if state in reached} - reached:
        reached |= more
    assert reached == set(State)
    assert all(TABLE[state, Input.ENDED] is State.CLOSED for state in OPEN)
    assert not [state for state, _ in TABLE if state is State.CLOSED]


def test_nothing_of_the_client_is_taken_while_an_answer_is_due() -> None:
    assert not [(state, input_) for state, input_ in TABLE if state in WAITING and input_ in CLIENTS]


def test_no_command_is_taken_before_the_client_is_in() -> None:
    commands = {Input.QUERY, Input.EXTENDED, Input.FUNCTION_CALL, Input.COPY_DATA, Input.SYNC}
    assert not [(state, input_) for state, input_ in TABLE if state in UNAUTHENTICATED and input_ in commands]
    into = {state for (state, _), after in TABLE.items() if after is State.READY and state in UNAUTHENTICATED}
    assert all(
        input_ is Input.ADMITTED for (s, input_), after in TABLE.items() if s in into and after is State.READY
    )
