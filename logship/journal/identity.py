"""A journal's identity: 32 hexadecimal digits in the file `identity`, made with its first segment.

In: the directory, which this process has locked. Out: the digits, durable. A journal that is begun anew gets
another one, also where the file of the old one is left; so whoever remembers it can tell the journal that it
knows from any other, and from an empty one. A copy of a directory has the identity of the original.
"""

from __future__ import annotations

import os
import re
import uuid
from pathlib import Path
from typing import Final

from logship.journal.files import Files, write_all

NAME: Final = "identity"
_NEW: Final = NAME + ".making"
_FORM: Final = re.compile(r"[0-9a-f]{32}\n\Z")


def make(files: Files, directory: Path) -> str:
    """A new one, in place of what there is. The file is replaced as a whole."""
    identity = uuid.uuid4().hex
    path = directory / _NEW
    fd = files.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        write_all(files, fd, f"{identity}\n".encode("ascii"), 0)
        files.fsync(fd)
    finally:
        os.close(fd)
    files.rename(path, directory / NAME)
    files.sync_directory(directory)
    return identity


def read(directory: Path) -> str | None:
    """None: there is none, or the file holds something else."""
    try:
        found = (directory / NAME).read_bytes().decode("ascii", "replace")
    except FileNotFoundError:
        return None
    return found.strip() if _FORM.match(found) else None
