"""A process that appends to a journal until it is killed, and says on standard output what it was told is flushed.

Arguments: directory, number of transactions (0: for ever), segment size. Each transaction ends at a multiple of
100, going on where the journal ends. Some are plain and are appended as a stretch, which goes over the ends of
segments and may be begun in its middle, where a kill left it; the others have three records. ``flushed <lsn>``
is written by the completions, ``opened <lsn>`` once. Behind each of them retention drops what is 40 kB behind.
"""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

from logship.journal import Journal, Record, RecordKind
from logship.journal.segment import Stretch
from logship.kernel import frame, plain
from logship.lsn import Lsn
from tests.unit.journal.journals import SOURCE
from tests.unit.plain import row, transaction


def say(text: str) -> None:
    os.write(1, text.encode() + b"\n")  # one write, so that a kill can't cut it


def piece(end: int, index: int) -> Record:
    """The record of the transaction that ends there; of those that aren't plain, one of three."""
    number = end // 100
    payload = bytes([index + 1]) * (number * 37 % 1500)
    if plain_number(number):
        run = transaction(end - 8, row(1, payload), xid=number, end_lsn=end, time_us=end)
        return Record(RecordKind.CHANGES, True, True, number, Lsn(end - 8), Lsn(end), end, run)
    last = index == 2
    run = frame([b"I\0\0\0\1" + payload])
    return Record(
        RecordKind.CHANGES, index == 0, last, number, Lsn(end - 8), Lsn(end if last else 0), end, run
    )


def plain_number(number: int) -> bool:
    return number % 8 > 2


def told(lsn: Lsn) -> None:
    say(f"flushed {int(lsn)}")


def append_stretch(journal: Journal, number: int) -> Lsn:
    """From the transaction of that number on, as many as are plain."""
    numbers = itertools.takewhile(plain_number, itertools.count(number))
    run = b"".join(piece(each * 100, 0).run for each in numbers)
    known = plain(run)
    assert known is not None
    end = journal.append_stretch(Stretch.of(run, known), told)
    if number % 3:
        journal.write()
    return end


def append_pieces(journal: Journal, number: int) -> Lsn:
    for index in range(3):
        end = journal.append(piece(number * 100, index), told if index == 2 else None)
        if (number + index) % 4 == 0:
            journal.write()
    return end


def main(directory: str, count: int, segment_bytes: int) -> None:
    with Journal.open(Path(directory), SOURCE, segment_bytes=segment_bytes) as journal:
        say(f"opened {int(journal.written_lsn)}")
        end = int(journal.written_lsn)
        last = end + count * 100
        while not count or end < last:
            number = end // 100 + 1
            end = int((append_stretch if plain_number(number) else append_pieces)(journal, number))
            journal.apply_retention({"a": journal.written_lsn}, limit_bytes=40_000)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
