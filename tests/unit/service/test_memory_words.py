"""What is said between who asks memory and the replayer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logship.config import Cold
from logship.errors import UsageError
from logship.lsn import Lsn
from logship.service.memory.words import LONGEST_S, MOST_BYTES, Came, Head, Question

QUESTION = Question("select 'é'", ("pg_catalog", "public"), 5.0, 1000, Lsn(77), Cold.LOAD)


def test_they_are_read_as_they_were_written() -> None:
    for question in (QUESTION, Question("x", (), 0.0, MOST_BYTES)):
        assert Question.read(question.text()) == question
    for head in (Head(Came.LATE), Head(Came.MEMORY, "", Lsn(5), (23, 25), 3, ("a.b",))):
        assert Head.read(head.text()) == head


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", "null", "[" * 100_000, QUESTION.text().replace("5.0", '"x"'),
        QUESTION.text().replace("load", "keep"), QUESTION.text().replace("5.0", "NaN"),
        QUESTION.text().replace("5.0", f"{LONGEST_S + 1}"), QUESTION.text().replace("1000", "0"),
        QUESTION.text().replace("0/4D", "4D"),
    ],
)  # fmt: skip
def test_what_is_no_question_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Question.read(text)


@given(st.text())
def test_anything_is_a_question_or_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Question.read(text)


def test_nobody_gets_more_than_there_is_room_for() -> None:
    greedy = QUESTION.text().replace("1000", str(MOST_BYTES * 2))
    assert Question.read(greedy).limit_bytes == MOST_BYTES
