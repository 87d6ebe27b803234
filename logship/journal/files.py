"""The operating system's files as the journal uses them, and what their errors mean.

In: paths and file descriptors. Out: the same, or `OSError`; `failure` turns that into the
`JournalError` that tells the operator what to do. `Files` is a port: tests pass one whose disk fails.
Nothing here retries: after a failed fsync the kernel may have dropped the pages and call the next one
a success (PostgreSQL wiki, "Fsync Errors"), so the journal never asks twice.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Final

from logship.errors import JournalError, JournalFull, JournalLocked, JournalReadOnly

LOCK_NAME: Final = "lock"
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_READ_ONLY: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_NO_FALLOCATE: Final = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})
_ZEROS: Final = bytes(1 << 20)


class Files:
    """Real files."""

    def open(self, path: Path, flags: int) -> int:
        return os.open(path, flags | os.O_CLOEXEC, 0o600)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        return os.pread(fd, size, offset)

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        return os.pwrite(fd, data, offset)

    def fallocate(self, fd: int, size: int) -> None:
        os.posix_fallocate(fd, 0, size)

    def fdatasync(self, fd: int) -> None:
        os.fdatasync(fd)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def rename(self, source: Path, target: Path) -> None:
        source.rename(target)

    def unlink(self, path: Path) -> None:
        path.unlink()

    def sync_directory(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def failure(error: OSError, doing: str, file: str) -> JournalError:
    """What ``error`` means when the journal was ``doing`` (an infinitive) something with ``file``."""
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        return JournalFull(doing, reason, file=file)
    if error.errno in _READ_ONLY:
        return JournalReadOnly(doing, reason, file=file)
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return JournalError(
            f"the journal can't {doing} {file}: {reason}",
            file=file,
            hint="give the path of a directory, in one that is there",
        )
    return JournalError(
        f"the journal can't {doing} {file}: {reason}",
        file=file,
        hint="look at the disk and at the kernel's log; what was not acknowledged comes again",
    )


def write_all(files: Files, fd: int, data: bytes, offset: int) -> None:
    """All of ``data`` at ``offset``; a short write goes on, so that its reason comes as an error."""
    written = files.pwrite(fd, data, offset)
    if written == len(data):
        return
    view = memoryview(data)
    while written < len(data):
        written += files.pwrite(fd, view[written:], offset + written)


def preallocate(files: Files, fd: int, size: int) -> None:
    """Reserve ``size`` bytes, which read as zeros; they are written where nothing else reserves them."""
    try:
        files.fallocate(fd, size)
    except OSError as error:
        if error.errno not in _NO_FALLOCATE:
            raise
        for offset in range(0, size, len(_ZEROS)):
            write_all(files, fd, _ZEROS[: size - offset], offset)


def make_directory(files: Files, directory: Path) -> None:
    """Make ``directory`` when it is missing, and its name durable in its parent."""
    try:
        if not directory.is_dir():
            directory.mkdir(parents=True)
            files.sync_directory(directory.parent)
    except OSError as error:
        raise failure(error, "make directory", str(directory)) from error


def lock(files: Files, directory: Path) -> int:
    """Take the directory for this process, as its one writer; closing the descriptor gives it up."""
    path = directory / LOCK_NAME
    try:
        fd = files.open(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise failure(error, "open", str(path)) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        files.truncate(fd, 0)
        files.pwrite(fd, b"%d\n" % os.getpid(), 0)
    except BlockingIOError:
        pid = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
        os.close(fd)
        raise JournalLocked(str(directory), pid) from None
    except OSError as error:
        os.close(fd)
        raise failure(error, "lock", str(path)) from error
    return fd
