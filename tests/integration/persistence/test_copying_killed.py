"""A replayer that dies inside of a COPY leaves nothing of the batch, in whichever form the rows were going."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from logship.lsn import Lsn
from tests.integration.persistence.replica import Replica
from tests.servers import eventually

# Pieces of 100 rows. The one with the infinity has no binary form: header, three pieces, trailer; then text.
SCRIPT = """
import sys
from logship.change import Column, Relation
from logship.connection import Side, connect
from logship.lsn import Lsn
from logship.replay import ladder, transaction
from logship.replay.batch import Batch, NetChanges, Rows
from logship.replay.persistence import Persistence
from logship.replay.targets import Targets
ladder.COPY_ROWS, transaction._PIECE_ROWS = 100, 100
conninfo = sys.argv[1]
relation = Relation(1, "public", "t", "d", (Column("id", 23, -1, True), Column("at", 1184, -1, False)))
with connect(conninfo, Side.SECONDARY) as connection:
    target = Targets(connection).resolve(relation, {})
rows = [[str(n).encode(), b"infinity" if n == 350 else b"2026-11-23 02:51:20.5+00"] for n in range(600)]
step = Rows([NetChanges.of(target, inserts=rows)])
persistence = Persistence(conninfo, "r")
persistence.open()
persistence.apply([Batch(Lsn(0x200), 0, True, (step,), 1, 1, 1, 10, (), {1: target}, frozenset())])
persistence.close()
"""
PIECES = {
    "header": 1,
    "a binary piece": 3,
    "the last of binary": 5,
    "a piece of text": 6,
    "the last of text": 8,
}


def test_the_replayer_is_killed_at_each_piece(replica: Replica, tmp_path: Path) -> None:
    replica.database.execute(f"grant pg_write_all_data to {replica.user}")
    replica.create("create table t (id int primary key, at timestamptz)")
    script = tmp_path / "copying.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), replica.database.conninfo_as(replica.user)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LOGSHIP_"))}
    for piece, number in PIECES.items():
        point = {"LOGSHIP_FAILPOINTS": f"persistence.copying={number}"}
        killed = subprocess.run(command, env=environment | point, timeout=60)
        assert killed.returncode == -signal.SIGKILL, piece
        gone = f"select count(*) from pg_stat_activity where usename = '{replica.user}'"
        eventually(lambda: replica.execute(gone) == [(0,)])  # noqa: B023 - called at once
        assert replica.execute("select count(*) from t") == [(0,)], piece
        assert replica.stored_position() == Lsn(0x100), piece
    # There is no piece after these: all that a COPY consists of was a place to die at.
    past = {"LOGSHIP_FAILPOINTS": f"persistence.copying={max(PIECES.values()) + 1}"}
    assert subprocess.run(command, env=environment | past, timeout=60).returncode == 0
    assert replica.execute("select count(*), count(*) filter (where at = 'infinity'), max(id) from t") == [
        (600, 1, 599)
    ]
    assert replica.stored_position() == Lsn(0x200)
