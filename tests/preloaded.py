"""`logship` without its imports: a process that has them already forks, and its child is the command.

Importing psycopg, SQLAlchemy and Alembic costs a command more than what most tests ask of it. In: what
subprocess.Popen takes. Out: a real process of its own session, with the arguments, environment, directory and
files that it was given, which runs `logship/__main__.py` to the interpreter's end. What may depend on the
start itself isn't for it: for that `tests.servers.Logship` starts a fresh interpreter.

Run as a program it is the process that forks: one thread, no connection, nothing read from the environment.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

_REQUEST_BYTES = 1 << 20


class Preloaded:
    """The process that forks, as its parent has it. Started with the first command, ended with the session."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(
        self,
        arguments: Sequence[str],
        directory: Path,
        environment: Mapping[str, str],
        out: IO[bytes],
        err: IO[bytes],
    ) -> Forked:
        request = json.dumps([list(arguments), str(directory), dict(environment)]).encode()
        ours, theirs = os.pipe()
        try:
            socket.send_fds(self._connected(), [request], [out.fileno(), err.fileno(), theirs])
        finally:
            os.close(theirs)
        return Forked(ours)

    def close(self) -> None:
        if self._socket is not None and self._process is not None:
            self._socket.close()
            self._process.wait()
            self._socket = self._process = None

    def _connected(self) -> socket.socket:
        if self._socket is None:
            self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _REQUEST_BYTES)
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, __file__],
                    stdin=theirs,
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,
                )
        return self._socket


class Forked:
    """A command that the preloaded process forked: what `Running` needs of a Popen."""

    def __init__(self, status: int) -> None:
        self._status = status
        self._code: int | None = None
        pid = os.read(status, 4)
        assert pid, "the preloaded process is gone"
        self.pid = int.from_bytes(pid, sys.byteorder)

    def poll(self) -> int | None:
        return self._read(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._read(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(f"logship (process {self.pid})", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def _read(self, timeout: float | None) -> int | None:
        if self._code is None and select.select([self._status], [], [], timeout)[0]:
            said = os.read(self._status, 4)
            os.close(self._status)
            assert said, "the preloaded process is gone"
            self._code = os.waitstatus_to_exitcode(int.from_bytes(said, sys.byteorder))
        return self._code


# -- in the process that forks ---------------------------------------------------------------------


def _import_all() -> None:
    import logship

    # Arrow starts a thread when it is imported, and a library's thread would leave its locks held in the child:
    # what needs Arrow imports it there.
    sys.modules["pyarrow"] = None  # type: ignore[assignment]
    for module in pkgutil.walk_packages(logship.__path__, "logship.", onerror=lambda _: None):
        if not module.name.startswith(("logship.migrations", "logship.testing", "logship.__main__")):
            with contextlib.suppress(ImportError):  # the command that needs it will say so
                importlib.import_module(module.name)
    del sys.modules["pyarrow"]
    for name in ("alembic.command", "duckdb", "rich.progress"):
        importlib.import_module(name)


def _serve() -> list[str]:
    """Fork for each request. Returns in the child, with the arguments of its command; the parent never does."""
    requests = socket.socket(fileno=os.dup(0))
    ended, end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(end, warn_on_full_buffer=False)
    running: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([requests, ended], [], [])
        if ended in ready:
            os.read(ended, 4096)
            _reap(running)
        if requests not in ready:
            continue
        request, files, _, _ = socket.recv_fds(requests, _REQUEST_BYTES, 3)
        if not request:
            os._exit(0)
        out, err, status = files
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            requests.close()
            for each in (ended, end, status, *running.values()):
                os.close(each)
            return _become(request, out, err)
        os.write(status, pid.to_bytes(4, sys.byteorder))
        running[pid] = status
        os.close(out)
        os.close(err)


def _reap(running: dict[int, int]) -> None:
    for pid in list(running):
        ended, code = os.waitpid(pid, os.WNOHANG)
        if ended:
            status = running.pop(pid)
            with contextlib.suppress(BrokenPipeError):  # nobody waits any more
                os.write(status, code.to_bytes(4, sys.byteorder))
            os.close(status)


def _become(request: bytes, out: int, err: int) -> list[str]:
    arguments, directory, environment = json.loads(request)
    os.setsid()
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (out, 1), (err, 2)):
        os.dup2(source, target)
        os.close(source)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    importlib.reload(importlib.import_module("logship.failpoints"))  # which reads its variable at import
    return [str(argument) for argument in arguments]


def main() -> None:
    _import_all()
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a thread was started by an import"
    gc.collect()
    gc.freeze()
    sys.argv = ["logship", *_serve()]
    runpy.run_module("logship", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    sys.path[0] = ""  # not this folder: as `python -m logship` has it
    main()
