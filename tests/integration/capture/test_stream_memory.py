"""One large transaction passes through capture in bounded memory."""

from __future__ import annotations

import subprocess
import sys

from tests.integration.capture.pump import current_lsn, publish
from tests.servers import Database

# A process of its own: the growth is that of capture, not of whatever the tests hold.
PROGRAM = """
import resource, sys
from logship.capture.copydata import Positions
from logship.capture.records import Assembler
from logship.capture.slot import SlotStream
from logship.lsn import INVALID, Lsn

conninfo, slot, target = sys.argv[1], sys.argv[2], Lsn.parse(sys.argv[3])
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with SlotStream(conninfo) as stream:
    stream.start(slot, ["everything"], INVALID)
    assembler = Assembler(INVALID)
    pieces = assembler.feed(stream.read(60.0).items)
    before = peak()
    largest = 0
    while assembler.position < target:
        for piece in assembler.feed(stream.read(60.0).items):
            largest = max(largest, len(piece.run))
    print(peak() - before, assembler.counters.bytes, largest)
    stream.send_status(Positions(*[assembler.position] * 3))
    stream.stop()
"""


def test_a_transaction_of_300000_rows_takes_no_memory(primary: Database) -> None:
    slot = publish(primary)
    primary.execute("create table t (id int primary key, v text)")
    primary.execute("insert into t select i, repeat('x', 200) from generate_series(1, 300000) i")
    target = current_lsn(primary)
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, primary.conninfo, slot, str(target)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    growth_kb, total, largest = map(int, ended.stdout.split())
    assert total > 60_000_000
    assert largest < 300_000
    assert growth_kb < 20_000
