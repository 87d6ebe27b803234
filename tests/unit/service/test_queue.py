from __future__ import annotations

import threading

from logship.service.replay.queue import ITEM_BYTES, ByteQueue


def nothing() -> None:
    pass


def test_takes_what_stands_there_up_to_the_bytes() -> None:
    queue: ByteQueue[str] = ByteQueue(10_000, nothing)
    for item in "abc":
        assert queue.put(item, 10)
    assert queue.take(25) == ["a", "b"]
    assert queue.size_bytes == 10
    assert queue.take(1) == ["c"], "an item larger than asked for passes alone"


def test_filling_waits_for_room() -> None:
    queue: ByteQueue[int] = ByteQueue(10, nothing)
    queue.put(1, 10)
    filled = threading.Event()

    def fill() -> None:
        queue.put(2, 10)
        filled.set()

    thread = threading.Thread(target=fill)
    thread.start()
    assert queue.take(10) == [1]
    assert filled.wait(5)
    assert queue.take(10) == [2]
    thread.join()


def test_items_take_room_though_they_hold_next_to_nothing() -> None:
    """A stuck secondary, an idle memory: each commit of a row is a batch of its own, and so is each idle position."""
    queue: ByteQueue[int] = ByteQueue(1 << 20, nothing)
    filled = threading.Event()

    def fill() -> None:
        for number in range(10_000):
            queue.put(number, number % 2)
        filled.set()

    thread = threading.Thread(target=fill)
    thread.start()
    taken: list[int] = []
    while len(taken) < 10_000:
        at_once = queue.take(1 << 20)
        assert len(at_once) <= (1 << 20) / ITEM_BYTES
        taken += at_once
    assert taken == list(range(10_000))
    thread.join(10)
    assert filled.is_set()
    assert queue.size_bytes == 0


def test_an_item_above_the_bound_passes_alone() -> None:
    queue: ByteQueue[int] = ByteQueue(10, nothing)
    assert queue.put(1, 1000)
    assert queue.take(10) == [1]


def test_there_is_room_for_as_many_as_take_it_however_small() -> None:
    queue: ByteQueue[int] = ByteQueue(3 * ITEM_BYTES, nothing)
    assert queue.has_room(1 << 30), "an item larger than the bound passes alone"
    for number in range(3):
        assert queue.has_room(0)
        queue.put(number, 0)
    assert not queue.has_room(0)


def test_an_idle_consumer_may_fill_its_queue_itself() -> None:
    more = [1, 2]
    queue: ByteQueue[int] = ByteQueue(10, lambda: more and queue.put(more.pop(0), 10))
    assert [queue.take(100), queue.take(100), queue.take(100, 0)] == [[1], [2], []]


def test_says_when_the_consumer_is_idle() -> None:
    idle = threading.Event()
    queue: ByteQueue[int] = ByteQueue(10, idle.set)
    assert not queue.idle
    taken: list[list[int]] = []
    thread = threading.Thread(target=lambda: taken.append(queue.take(10)))
    thread.start()
    assert idle.wait(5)
    queue.put(7, 1)
    thread.join(5)
    assert taken == [[7]]
    assert not queue.idle


def test_close_frees_both_sides() -> None:
    queue: ByteQueue[int] = ByteQueue(10, nothing)
    queue.put(1, 10)
    results: list[object] = []
    blocked = threading.Thread(target=lambda: results.append(queue.put(2, 10)))
    blocked.start()
    queue.close()
    blocked.join(5)
    assert results == [False]
    assert queue.take(10) == []
    assert queue.closed


def test_more_is_taken_up_to_what_is_not_wanted() -> None:
    queue: ByteQueue[str] = ByteQueue(1 << 20, nothing)
    for item in "abXc":
        queue.put(item, 10)
    least = 10 + ITEM_BYTES
    assert queue.take_more(least, str.islower) == ["a"], "as far as there is room"
    assert not queue.idle
    assert queue.take_more(1 << 20, str.islower) == ["b"]
    assert queue.size_bytes == 20
    assert queue.take_more(1 << 20, str.islower, 0) == [], "X comes first, and is somebody else's"
    assert queue.take(1 << 20) == ["X", "c"]


def test_who_waits_for_more_is_woken_also_when_the_queue_is_closed() -> None:
    queue: ByteQueue[int] = ByteQueue(10, nothing)
    queue.wake()
    assert queue.take_more(0, lambda item: True) == [], "a word that came before isn't lost"
    taken: list[list[int]] = []
    waiting = threading.Thread(target=lambda: taken.append(queue.take_more(1 << 20, lambda item: True)))
    waiting.start()
    queue.put(1, 1)
    waiting.join(10)
    assert taken == [[1]]
    queue.close()
    queue.wake()
    assert queue.take_more(1 << 20, lambda item: True) == []
