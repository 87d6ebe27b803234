"""A program in the foreground hears every signal, whichever thread the system gives it to."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

from logship.service import foreground as module
from logship.service.crew import Crew
from logship.service.foreground import Foreground
from tests.servers import eventually


@pytest.fixture
def foreground() -> Iterator[Foreground]:
    foreground = Foreground(None)

    def stop(number: int, frame: FrameType | None) -> None:
        foreground.stop()

    before = signal.signal(signal.SIGUSR1, stop)
    yield foreground
    signal.signal(signal.SIGUSR1, before)


def signalled(crew: Crew) -> None:
    """Beside the main thread, once that waits: nothing interrupts it."""
    main = threading.main_thread().ident
    assert main is not None

    def work() -> None:
        eventually(lambda: sys._current_frames()[main].f_code.co_filename == module.__file__, what="it waits")
        asleep = Path(f"/proc/self/task/{threading.main_thread().native_id}/stat")
        eventually(lambda: asleep.read_text().rpartition(")")[2].split()[0] == "S", what="it sleeps")
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

    crew.start("signalled", work)


@pytest.mark.timeout(20)
def test_a_signal_to_another_thread_ends_it(foreground: Foreground) -> None:
    with foreground.running():
        foreground.stand([], 5.0, signalled)


@pytest.mark.timeout(20)
def test_who_waits_for_the_end_hears_of_it(foreground: Foreground) -> None:
    with foreground.running():
        assert not foreground.stopped(0.01)
        crew = Crew(lambda: None)
        signalled(crew)
        assert foreground.stopped(15.0)
        assert foreground.stopped(0.0), "and it stays so"


def test_other_signals_end_nothing(foreground: Foreground) -> None:
    before = signal.signal(signal.SIGUSR2, lambda number, frame: None)
    try:
        with foreground.running():
            signal.raise_signal(signal.SIGUSR2)
            assert not foreground.stopped(0.01)
            foreground.stop()
            foreground.stand([], 5.0, lambda crew: None)
    finally:
        signal.signal(signal.SIGUSR2, before)
