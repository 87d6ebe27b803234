"""A process that appends to a journal until it is killed, and says on standard output what it was told is flushed.

Arguments: directory, number of transactions (0: for ever), segment size. Each transaction has three
records and ends at a multiple of 100, going on where the journal ends. ``flushed <lsn>`` is written by
the completions, ``opened <lsn>`` once. After each transaction retention drops what is 40 kB behind.
"""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

from logship.journal import Journal, Record, RecordKind
from logship.kernel import frame
from logship.lsn import Lsn
from tests.unit.journal.journals import SOURCE


def say(text: str) -> None:
    os.write(1, text.encode() + b"\n")  # one write, so that a kill can't cut it


def piece(end: int, index: int) -> Record:
    last = index == 2
    run = frame([b"I\0\0\0\1" + bytes([index + 1]) * (end // 100 * 37 % 1500)])
    return Record(
        RecordKind.CHANGES, index == 0, last, end // 100, Lsn(end - 8), Lsn(end if last else 0), end, run
    )


def main(directory: str, count: int, segment_bytes: int) -> None:
    with Journal.open(Path(directory), SOURCE, segment_bytes=segment_bytes) as journal:
        say(f"opened {int(journal.written_lsn)}")
        first = int(journal.written_lsn) // 100 + 1
        for number in itertools.islice(itertools.count(first), count or None):
            for index in range(3):
                completion = (lambda lsn: say(f"flushed {int(lsn)}")) if index == 2 else None
                journal.append(piece(number * 100, index), completion)
                if (number + index) % 4 == 0:
                    journal.write()
            journal.apply_retention({"a": journal.written_lsn}, limit_bytes=40_000)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
