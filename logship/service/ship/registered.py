"""The replicas that a shipper knows, on disk: `replicas.json` in the journal's directory.

In: what the relay tells, from its threads. Out: the same after a restart. A registration and its end are on disk
when the call returns; progress is written by `save`, at most as often as it is called: a position that is
too old keeps more of the journal than is needed, and nothing else. The file is replaced as a whole: a crash
leaves the one before or the one after. Only who wants something written waits for the disk.

Crash windows, each with its failpoint: `registry.written` (the new file is fsynced, the old one has the name) and
`registry.renamed` (the new one has the name, and the directory isn't fsynced). Neither loses what an earlier
call promised.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from logship import failpoints
from logship.errors import JournalDamaged
from logship.journal.files import Files, failure, write_all
from logship.lsn import Lsn
from logship.relay.registry import MalformedRegistry, Registered, Registry
from logship.service.positions import now_us

FILE_NAME: Final = "replicas.json"
_NEW: Final = FILE_NAME + ".new"


class RegisteredReplicas:
    """Safe to use from any thread. ``directory`` is locked by the journal that this process has open."""

    def __init__(self, directory: Path, files: Files | None = None) -> None:
        self._directory = directory
        self._files = files or Files()
        self._writing = threading.Lock()  # the file's, taken before the other, held while the disk works
        self._lock = threading.Lock()  # the registry's, held for a moment
        self._registry = _read(directory / FILE_NAME)
        self._dirty = False

    def get(self, name: str) -> Registered | None:
        with self._lock:
            return self._registry.get(name)

    def all(self) -> list[Registered]:
        """By name."""
        with self._lock:
            return list(self._registry)

    def add(self, name: str, flush_lsn: Lsn, *, temporary: bool = False) -> Registered:
        """Register, durably. One that is known stays as it is. One that is ``temporary`` isn't written down: after a
        crash nobody would drop it, and the journal be kept for it."""
        with self._writing:
            with self._lock:
                known = self._registry.get(name)
                if known is not None:
                    return known
                found = self._registry.add(name, flush_lsn, now_us(), temporary=temporary)
            try:
                self._write()
            except BaseException:
                with self._lock:
                    self._registry.drop(name)
                raise
            return found

    def drop(self, name: str) -> bool:
        """End a registration, durably; whether there was one."""
        with self._writing:
            with self._lock:
                known = self._registry.get(name)
                if known is None:
                    return False
                self._registry.drop(name)
            try:
                self._write()
            except BaseException:
                with self._lock:
                    self._registry = Registry({replica.name: replica for replica in [*self._registry, known]})
                raise
            return True

    def note(self, name: str) -> None:
        """The primary's `logship.replica` has it, durably: it ends here when it ends there, also while nobody
        ships."""
        with self._writing:
            with self._lock:
                news = self._registry.note(name)
            if news:
                self._write()

    def flushed(self, name: str, lsn: Lsn) -> None:
        """The replica has flushed up to ``lsn``. Quick, also while the disk works: `save` writes it down."""
        with self._lock:
            self._dirty |= self._registry.flushed(name, lsn)

    def begins_at(self, oldest_lsn: Lsn) -> list[str]:
        """The journal begins there now: who has lost something by it, and hadn't before."""
        with self._lock:
            lost = self._registry.begins_at(oldest_lsn)
            self._dirty |= bool(lost)
            return lost

    def needed(self) -> Mapping[str, Lsn]:
        """What retention has to keep for whom."""
        with self._lock:
            return self._registry.needed()

    def save(self) -> None:
        """Write down what moved since the last time. `JournalError` when the disk refuses."""
        with self._writing:
            with self._lock:
                dirty, self._dirty = self._dirty, False
            if not dirty:
                return
            try:
                self._write()
            except BaseException:
                with self._lock:
                    self._dirty = True
                raise

    def _write(self) -> None:
        files, path = self._files, self._directory / _NEW
        with self._lock:
            data = self._registry.encode()
        try:
            fd = files.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            try:
                write_all(files, fd, data, 0)
                files.fsync(fd)
            finally:
                os.close(fd)
            failpoints.hit("registry.written")
            files.rename(path, self._directory / FILE_NAME)
            failpoints.hit("registry.renamed")
            files.sync_directory(self._directory)
        except OSError as error:
            raise failure(error, "write", str(path)) from error


def _read(path: Path) -> Registry:
    try:
        return Registry.decode(path.read_bytes())
    except FileNotFoundError:
        return Registry()
    except MalformedRegistry as error:
        raise _damaged(path, error) from error
    except OSError as error:
        raise failure(error, "read", str(path)) from error


def _damaged(path: Path, error: MalformedRegistry) -> JournalDamaged:
    damaged = JournalDamaged(error.message, file=str(path), offset=0)
    damaged.hint = (
        "it says which replicas the journal is kept for. Check the disk; then remove this file: the replicas "
        "that logship.replica on the primary names are registered again, and others create their slot again"
    )
    return damaged
