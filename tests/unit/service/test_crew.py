from __future__ import annotations

import threading

from logship.service.crew import Crew, Stopped


def test_the_first_error_stops_all_and_is_kept() -> None:
    stopped = threading.Event()
    crew = Crew(stopped.set)

    def fail() -> None:
        raise ValueError("first")

    def wait_then_fail() -> None:
        stopped.wait()
        raise KeyError("second")

    crew.start("waits", wait_then_fail)
    crew.start("fails", fail)
    assert crew.join(10)
    assert isinstance(crew.error, ValueError)
    assert stopped.is_set()


def test_a_stage_that_was_stopped_is_no_error() -> None:
    calls: list[str] = []
    stopped = threading.Event()

    def stop() -> None:
        calls.append("stop")
        stopped.set()

    def wait() -> None:
        stopped.wait()
        raise Stopped

    crew = Crew(stop)
    crew.start("waits", wait)
    crew.stop()
    crew.stop()
    assert crew.join(10)
    assert crew.error is None
    assert calls == ["stop"]


def test_a_thread_that_ends_leaves_the_others() -> None:
    go = threading.Event()
    crew = Crew(go.set)
    crew.start("done", lambda: None)
    crew.start("waits", lambda: go.wait() and None)
    assert not crew.join(0.05)
    assert crew.alive == ["waits"]
    assert not crew.stopping
    crew.stop()
    assert crew.join(10)
