"""What a stream delivers, gathered as a run: the same messages in the same order, and what isn't plain is marked."""

from __future__ import annotations

from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


class Source:
    """Answers as libpq does: messages that are there, and then ``last``."""

    pgconn_ptr = None

    def __init__(self, messages: list[bytes], last: int = 0) -> None:
        self.messages, self.last = list(messages), last

    def get_copy_data(self, async_: int) -> tuple[int, memoryview | bytes]:
        assert async_ == 1
        if not self.messages:
            return self.last, b""
        message = self.messages.pop(0)
        return len(message), memoryview(message)

    def consume_input(self) -> None:
        """Nothing more comes."""


def xlogdata(payload: bytes, number: int = 0) -> bytes:
    return b"w" + bytes(8) + number.to_bytes(8, "big") + bytes(8) + payload


KEEPALIVE = b"k" + bytes(17)
payloads = st.sampled_from([b"B1", b"C2", b"Ixyz", b"U", b"Dabc", b"T", b"O", b"R1", b"Y2", b"M", b"", b"?"])


@given(st.lists(payloads | st.none(), max_size=20), st.integers(1, 200))
@settings(deadline=None)
def test_what_comes_is_gathered_in_order(kernel: ModuleType, items: list[bytes | None], most: int) -> None:
    """None stands for a keepalive."""
    sent = [KEEPALIVE if item is None else xlogdata(item, n) for n, item in enumerate(items)]
    source = Source(sent)
    drain = kernel.Drain(source)
    while size := drain.read(most):
        assert size < most + max(map(len, sent))
    drained = drain.take()
    messages = [item for item in items if item is not None]
    assert kernel.split_run(drained.run) == messages
    assert drained.size_bytes == sum(map(len, sent))
    starts = [len(kernel.frame(messages[:n])) for n in range(len(messages))]
    plain = (b"I", b"U", b"D", b"T", b"O")
    marked = [s for s, m in zip(starts, messages, strict=True) if not m.startswith(plain)]
    assert drained.marks == marked
    before = [
        len(kernel.frame([m for m in items[:n] if m is not None]))
        for n, item in enumerate(items)
        if item is None
    ]
    assert drained.keepalives == [(offset, KEEPALIVE) for offset in before]
    if items and items[-1] is not None:
        assert drained.header == sent[-1][:25]
    else:
        assert drained.header == b""
    again = drain.take()
    assert (again.run, again.marks, again.keepalives, again.size_bytes) == (b"", [], [], 0)
    assert (drain.odd, drain.ended) == (b"", False)


def test_it_stops_at_its_bound_and_goes_on(kernel: ModuleType) -> None:
    message = xlogdata(b"Ix")
    drain = kernel.Drain(Source([message] * 5))
    assert drain.read(len(message) + 1) == 2 * len(message)
    assert drain.read(1) == len(message)
    assert drain.take().run == kernel.frame([b"Ix"] * 3)
    assert drain.read(1 << 20) == 2 * len(message)
    assert drain.read(1 << 20) == 0


@pytest.mark.parametrize("odd", [b"z", b"w", b"w" + bytes(23), b"\0abc"])
def test_what_is_neither_data_nor_keepalive_stops_it(kernel: ModuleType, odd: bytes) -> None:
    drain = kernel.Drain(Source([xlogdata(b"Ix"), odd, xlogdata(b"Iy")]))
    drain.read(1 << 20)
    assert drain.odd == odd
    assert drain.read(1 << 20) == 0
    assert drain.take().run == kernel.frame([b"Ix"])


def test_the_end_of_the_copy_is_told(kernel: ModuleType) -> None:
    drain = kernel.Drain(Source([xlogdata(b"Ix")], last=-1))
    assert drain.read(1 << 20) == 27
    assert drain.ended
    assert drain.read(1 << 20) == 0
    assert drain.take().run == kernel.frame([b"Ix"])


def test_little_is_waited_for_as_long_as_it_is_told(kernel: ModuleType) -> None:
    """Each look at the socket brings one message more."""

    class Slow(Source):
        def __init__(self, messages: list[bytes]) -> None:
            super().__init__([])
            self.coming, self.looks = list(messages), 0

        def consume_input(self) -> None:
            self.looks += 1
            if self.looks % 2 and self.coming:
                self.messages.append(self.coming.pop(0))

    message = xlogdata(b"Ix")
    source = Slow([message] * 3)
    drain = kernel.Drain(source)
    assert drain.read(1 << 20, 2 * len(message), 3600.0) == 2 * len(message)
    assert drain.read(1 << 20, 1 << 20, 0.0) == len(message)
    assert drain.read(1 << 20, 1 << 20, 3600.0) == 0  # nothing has come: that isn't little
    assert drain.take().run == kernel.frame([b"Ix"] * 3)


def test_what_libpq_raises_comes_through(kernel: ModuleType) -> None:
    class Broken(Source):
        def consume_input(self) -> None:
            raise ConnectionError("gone")

    drain = kernel.Drain(Broken([xlogdata(b"Ix")]))
    with pytest.raises(ConnectionError, match="gone"):
        drain.read(1 << 20)
    assert drain.take().run == kernel.frame([b"Ix"])
