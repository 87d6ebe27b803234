"""A shipper and its replayers as processes of their own, as a person starts them on two machines."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from logship.service.watch.probe import flushed_position
from tests.servers import Database, Finished, Logship, Running, eventually


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@dataclass
class Relayed:
    """``directory`` holds the journals. The shipper listens on one port, so that it can be started again."""

    logship: Logship
    directory: Path
    primary: Database
    port: int = field(default_factory=free_port)
    upstream: str | None = None  # the shipper's way to the primary, where it is another

    @property
    def shipper(self) -> str:
        return f"host=127.0.0.1 port={self.port} user=anyone"

    def init(self, secondary: Database, name: str) -> None:
        finished = self.logship.run(
            "init", "--primary", self.primary.conninfo, "--secondary", secondary.conninfo, "--name", name
        )
        assert finished.exit_code == 0, finished.stderr

    def ship(self, *more: str, env: Mapping[str, str] | None = None) -> Running:
        return self.logship.start(
            "ship", "--primary", self.upstream or self.primary.conninfo, "--journal", self.directory / "shipper",
            "--listen", f"127.0.0.1:{self.port}", "--auth", "trust", *more, env=env,
        )  # fmt: skip

    def replay_arguments(self, secondary: Database, name: str) -> tuple[str | Path, ...]:
        return (
            "replay", "--shipper", self.shipper, "--secondary", secondary.conninfo,
            "--name", name, "--journal", self.directory / name,
        )  # fmt: skip

    def replay(
        self, secondary: Database, name: str, *more: str, env: Mapping[str, str] | None = None
    ) -> Running:
        return self.logship.start(*self.replay_arguments(secondary, name), *more, env=env)

    def replay_to_current(self, secondary: Database, name: str, *more: str) -> Finished:
        arguments = self.replay_arguments(secondary, name)
        return self.logship.run(*arguments, "--stop-at", "current", *more, deadline_s=120)

    def caught_up(self, *secondaries: Database, deadline_s: float = 60.0) -> None:
        """All that the primary has committed by now is committed on each of ``secondaries``."""
        lsn = flushed_position(self.primary.conninfo)
        for secondary in secondaries:
            wait = "select logship.wait_for(%s::pg_lsn, make_interval(secs => %s))"
            assert secondary.value(wait, [str(lsn), deadline_s]) is True, f"{secondary.name} isn't at {lsn}"


def streams(running: Running, deadline_s: float = 30.0) -> Running:
    """Until it has said so in its log."""

    def said() -> bool:
        assert running.alive, running.stderr
        return "streaming " in running.stderr

    eventually(said, deadline_s, what="it streams")
    return running
