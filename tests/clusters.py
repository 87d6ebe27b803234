"""Servers that cost little: in memory where the machine has it, their clusters copied from one initdb.

In: binaries and settings, as `logship.service.demo.servers.Server` takes them. Out: the same server, with a system
identifier of its own, as initdb would have given it. Assumes that its files need outlive no machine: a test
kills servers, never the kernel. LOGSHIP_TEST_DIR names another directory for the servers' files.
"""

from __future__ import annotations

import os
import secrets
import shutil
import struct
import subprocess
from functools import cache
from pathlib import Path
from typing import Final

import google_crc32c

from logship.service.demo.binaries import TEMPORARY
from logship.service.demo.servers import Server, environment

_MEMORY: Final = Path("/dev/shm")
# The servers of three workers, with their WAL, take a quarter of it.
_ENOUGH_BYTES: Final = 4 << 30
_TEMPLATES: dict[tuple[Path, str | None], Server] = {}


@cache
def directory() -> Path:
    """Where test servers keep their files: a new database costs a tenth in memory of what it does on ext4."""
    if named := os.environ.get("LOGSHIP_TEST_DIR"):
        return Path(named)
    usable = os.access(_MEMORY, os.W_OK) and min(shutil.disk_usage(_MEMORY).free, _available_bytes())
    return _MEMORY if usable >= _ENOUGH_BYTES else TEMPORARY


def _available_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


class Cluster(Server):
    """A server whose data directory is a copy of one that initdb made before, in this process."""

    def make_cluster(self) -> None:
        template = self._template()
        self.password = template.password
        self._run("cp", "-a", "--reflink=auto", template.data_directory, self.data_directory)
        control = self.data_directory / "global" / "pg_control"
        control.write_bytes(_with_identifier(control.read_bytes(), secrets.randbits(63)))
        self._run(self.binaries.program("pg_resetwal"), self.data_directory)  # WAL bears the identifier, too

    def _template(self) -> Server:
        key = (self.binaries.directory, self.tcp)
        if key not in _TEMPLATES:
            template = Server(self.binaries, "template", tcp=self.tcp, parent=self.parent)
            template.make_cluster()
            _TEMPLATES[key] = template
        return _TEMPLATES[key]

    def _run(self, *command: str | Path) -> None:
        subprocess.run(
            command, check=True, capture_output=True, env=environment(), cwd=self.base, **self.identity()
        )


def _with_identifier(control: bytes, identifier: int) -> bytes:
    """pg_control with another system identifier. It stands first; the CRC-32C stands behind what it covers."""
    for end in range(8, len(control) - 3, 4):
        if struct.unpack_from("=I", control, end)[0] == google_crc32c.value(control[:end]):
            changed = struct.pack("=Q", identifier) + control[8:end]
            return changed + struct.pack("=I", google_crc32c.value(changed)) + control[end + 4 :]
    raise AssertionError("no CRC-32C in pg_control")
