"""Two shippers of one slot, as a person has them: the first hangs, the second takes over, and the first ends."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.conftest import Pair
from tests.servers import Logship, Running, eventually


def streaming(running: Running) -> None:
    def there() -> bool:
        assert running.alive, running.stderr
        return "streaming slot" in running.stderr

    eventually(there, 60, what="it streams")


def test_a_stopped_shipper_is_succeeded_and_ends_when_it_goes_on(
    pair: Pair, logship: Logship, tmp_path: Path
) -> None:
    pair.primary.execute("create table t (id int primary key)")
    made = logship.run("init", "--primary", pair.primary.conninfo, "--secondary", pair.secondary.conninfo)
    assert made.exit_code == 0, made.stderr

    def ship(journal: str, *more: str) -> Running:
        return logship.start(
            "ship", "--primary", pair.primary.conninfo, "--journal", tmp_path / journal,
            "--listen", "127.0.0.1:0", "--auth", "trust", *more,
        )  # fmt: skip

    first = ship("a")
    streaming(first)
    first.send_signal(signal.SIGSTOP)
    refused = ship("b").wait()
    assert refused.exit_code == 6, refused.stderr
    assert "read into another journal" in refused.stderr
    assert "--new-journal" in refused.stderr
    second = ship("b", "--new-journal")
    streaming(second)  # the slot was busy: the session of the first was ended
    first.send_signal(signal.SIGCONT)
    ended = first.wait()
    assert ended.exit_code == 6, ended.stderr
    assert "fenced" in ended.stderr
    assert "epoch 2" in ended.stderr
    assert "\nhint: " in ended.stderr
    assert second.alive
    assert second.terminate().exit_code == 0
    epoch = pair.primary.value("select max(epoch) from logship.shipper")
    assert epoch == 2
