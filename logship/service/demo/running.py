"""The command `logship run` in a process of its own, for whoever wants a replica behind a primary for a while.

In: conninfos of two databases that init has prepared, and a directory that is the process's own. Out: a
replica that follows until the ``with`` block ends. Nothing of the caller's settings reaches it; it never
outlives the caller, and when the caller is killed the directory goes too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from logship.connection import Side, connect
from logship.errors import InternalError
from logship.lsn import Lsn
from logship.service.demo.servers import environment
from logship.service.demo.watcher import Watcher
from logship.service.watch.probe import flushed_position

_STOP_S: Final = 30.0
_LINES: Final = 15
_WAIT_FOR: Final = "select logship.wait_for(%s, '200 ms', %s)"


class ReplicationEnded(InternalError):
    """`logship run` ended before it was told to. ``output`` is the end of what it printed."""

    def __init__(self, exit_code: int, output: str) -> None:
        super().__init__(
            f"logship run ended with exit code {exit_code} before it was told to\n{output}",
            hint="its own hint stands above; LOGSHIP_DEBUG=1 shows its traceback",
        )
        self.output = output


class NotCaughtUp(InternalError):
    """A stage did not get there in time, though `logship run` works."""

    def __init__(self, stage: str, lsn: Lsn, deadline_s: float, output: str) -> None:
        super().__init__(
            f"the stage {stage} did not reach {lsn} within {deadline_s:.0f} s\n{output}",
            hint="logship status tells what each stage does; a lock that a reader holds on the secondary is waited for",
        )


@dataclass
class RunningReplica:
    """``with RunningReplica(primary, secondary, directory) as replica:``; ``options`` are further ones of the
    command."""

    primary: str
    secondary: str
    directory: Path
    options: Sequence[str] = ()
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)
    _watcher: Watcher | None = field(default=None, init=False, repr=False)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Begin, or begin again after `stop` or `kill`: it goes on where the secondary stands."""
        settings = {name: value for name, value in environment().items() if not name.startswith("LOGSHIP_")}
        settings |= {name: os.environ[name] for name in ("LOGSHIP_DEBUG",) if name in os.environ}
        command = [
            sys.executable, "-m", "logship", "run", "--primary", self.primary, "--secondary", self.secondary,
            "--journal", str(self.directory / "journal"), *self.options,
        ]  # fmt: skip
        self.directory.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory,
                env=settings, start_new_session=True,
            )  # fmt: skip
        self._watcher = Watcher(self._process.pid, self.directory)

    def require(self) -> None:
        """`ReplicationEnded` when the process is no longer there."""
        code = self._running().poll()
        if code is not None:
            raise ReplicationEnded(code, self.output())

    def wait(self) -> None:
        """Until it ends by itself, which is an error, or the caller is interrupted."""
        self._running().wait()
        self.require()

    def stop(self) -> int:
        """End it as an operator would; its exit code."""
        process = self._running()
        process.terminate()
        return process.wait(_STOP_S)

    def kill(self) -> None:
        """SIGKILL; harmless where it has ended."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._watcher is not None:
            self._watcher.dismiss()
            self._watcher = None

    def catch_up(
        self,
        deadline_s: float,
        stages: Sequence[str] = ("persistence",),
        *,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> dict[str, float]:
        """Until these stages have all that is committed on the primary now; the seconds that each took.

        ``meanwhile`` is called a few times a second. `ReplicationEnded`; `NotCaughtUp` past the deadline.
        """
        end = flushed_position(self.primary)
        began = time.monotonic()
        taken = {}
        with connect(self.secondary, Side.SECONDARY) as link:
            for stage in stages:
                while link.execute(_WAIT_FOR, [str(end), stage]).fetchone() != (True,):
                    self.require()
                    meanwhile()
                    if time.monotonic() > began + deadline_s:
                        raise NotCaughtUp(stage, end, deadline_s, self.output())
                taken[stage] = time.monotonic() - began
        return taken

    def output(self) -> str:
        """The end of what it printed."""
        if not self._log.exists():
            return ""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-_LINES:])

    @property
    def _log(self) -> Path:
        return self.directory / "run.log"

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise InternalError("logship run was not started")
        return self._process
