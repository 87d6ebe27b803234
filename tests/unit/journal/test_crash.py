"""A real process is killed, at every named place and at any moment: what it was told is flushed is there."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from logship import failpoints
from logship.errors import UsageError
from logship.journal import Journal, RecordKind
from logship.journal.inspection import inspect
from logship.lsn import Lsn
from tests.unit.journal.journals import SMALL, SOURCE, drain, one_by_one, shape, together
from tests.unit.journal.writing import piece

ROOT = Path(__file__).parents[3]
PLACES = sorted(
    {
        name
        for path in (ROOT / "logship" / "journal").glob("*.py")
        for name in re.findall(r'hit\("(journal\.[a-z.]+)"\)', path.read_text())
    }
)


def start(directory: Path, *, count: int = 0, failpoint: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.unit.journal.writing", str(directory), str(count), str(SMALL)],
        cwd=ROOT,
        env={**os.environ, failpoints.VARIABLE: failpoint},
        stdout=subprocess.PIPE,
        text=True,
    )


def flushed(output: str) -> int:
    return max((int(line.split()[1]) for line in output.splitlines()), default=0)


def check(directory: Path, confirmed: int) -> None:
    """All that was confirmed is there, whole, once and in order; so is whatever else was written."""
    with Journal.open(directory, SOURCE, segment_bytes=SMALL) as journal:
        assert journal.written_lsn >= confirmed
        oldest = journal.oldest_lsn
        with journal.reader(oldest) as reader, journal.reader(oldest) as at_once:
            records = shape(drain(reader))
            assert shape(one_by_one(together(at_once, 4000))) == records
        ends = [record.end_lsn for record in records if record.last]
        assert ends == list(range(oldest + 100, journal.written_lsn + 1, 100))
    place = 0
    for record in records:
        if record.kind is RecordKind.CHANGES:
            end = record.end_lsn or Lsn(record.commit_lsn + 8)
            place = 0 if record.first else place + 1
            assert record == piece(end, place)
    inspect(directory).verify()


def test_the_places_are_those_that_the_code_names() -> None:
    assert len(PLACES) == 13


@pytest.mark.parametrize("place", PLACES)
def test_killed_at_a_named_place(tmp_path: Path, place: str) -> None:
    torn = "journal.open" in place
    for nth in (1, 2):
        if torn:  # places that only a recovery passes: first leave a torn tail behind
            with start(tmp_path, failpoint=f"journal.write.after={nth * 7}") as writer:
                writer.communicate(timeout=30)
            tear(tmp_path)
        with start(tmp_path, count=60, failpoint=place if torn else f"{place}={nth}") as writer:
            output, _ = writer.communicate(timeout=30)
        assert writer.returncode == -signal.SIGKILL
        check(tmp_path, flushed(output))


def tear(directory: Path) -> None:
    """What a crash of the machine may leave: a tail of which a part never reached the disk."""
    path = sorted(directory.glob("*.seg"))[-1]
    content = path.read_bytes()
    end = len(content.rstrip(b"\0"))
    path.write_bytes(content[: end - 3] + bytes(len(content) - end + 3))


def test_killed_at_any_moment(tmp_path: Path) -> None:
    generator = random.Random(20_000)
    confirmed = 0
    for _ in range(5):
        with start(tmp_path) as writer:
            assert writer.stdout is not None
            lines = [writer.stdout.readline() for _ in range(generator.randrange(1, 200))]
            writer.kill()
            lines.append(writer.stdout.read())
        confirmed = max(confirmed, flushed("".join(lines)))
        check(tmp_path, confirmed)
    assert confirmed > 1_000


@pytest.mark.parametrize("text", ["=1", "a=0", "a=x", "a=-1"])
def test_a_failpoint_that_can_not_be_meant_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        failpoints.parse(text)


def test_failpoints_are_named_with_the_hit_that_is_meant() -> None:
    assert failpoints.parse(" a, b=3,") == {"a": 1, "b": 3}
    assert failpoints.parse("") == {}
