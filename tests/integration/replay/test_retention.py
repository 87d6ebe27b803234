"""What the replayer gives back of the journal: never what it would read again after a kill."""

from __future__ import annotations

from pathlib import Path

from logship.config import KIB, Intervals, JournalBounds
from logship.lsn import Lsn
from tests.conftest import Pair
from tests.follow import Follower
from tests.servers import eventually

REPLAYED = (
    "select coalesce(replay_lsn, '0/0')::text from pg_stat_replication where application_name = 'logship'"
)


def test_a_position_that_is_not_stored_yet_gives_nothing_back(pair: Pair, tmp_path: Path) -> None:
    """Nothing of these transactions is to be written, so their positions count before the secondary has them; if
    it can't store them now, a replayer that is killed begins again where it last could."""
    pair.primary.execute("create table t (id int primary key)")
    settings = {
        "journal_bounds": JournalBounds(segment_bytes=64 * KIB),
        "intervals": Intervals(report_s=0.2, position_s=0.02, retention_s=0.02, heartbeat_s=0),
    }
    with Follower(pair.primary, pair.secondary, tmp_path, memory=False, settings=settings) as f:
        f.catch_up()
        with f.secondary.connect(autocommit=False) as holder:
            holder.execute("select from logship.position for update")
            stored = f.position
            while Lsn.parse(f.primary.value(REPLAYED)) <= stored:
                f.primary.execute("select pg_logical_emit_message(true, 'other', repeat('x', 100000))")
            replaying = f.run._replaying
            assert replaying is not None
            assert list((replaying.needed() or {}).values()) == [stored]
        segments = lambda: len(list((tmp_path / "journal").glob("*.seg")))  # noqa: E731
        f.catch_up()
        eventually(lambda: segments() <= 2, what="once it is stored, the rest is given back")
