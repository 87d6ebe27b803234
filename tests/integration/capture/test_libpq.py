"""The kernel's way to libpq: the very library that made the connection, whatever else is loaded."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import psycopg2
import pytest
from psycopg import pq

from logship.capture.libpq import copy_functions

PROGRAM = """
from logship.capture.libpq import copy_functions
print(copy_functions() is not None)
"""


def test_the_addresses_are_those_of_psycopgs_own_library() -> None:
    assert psycopg2.__libpq_version__  # another libpq is loaded in this process
    found = copy_functions()
    assert found is not None
    maps = Path("/proc/self/maps").read_text().splitlines()
    lines = [line.split() for line in maps if "libpq" in line]
    files = {
        fields[5]
        for fields in lines
        for address in found
        if int(fields[0].split("-")[0], 16) <= address < int(fields[0].split("-")[1], 16)
    }
    (file,) = files
    assert ctypes.CDLL(file).PQlibVersion() == pq.version()
    if pq.__impl__ == "binary":
        assert "psycopg_binary" in file


@pytest.mark.parametrize("implementation", ["binary", "python"])
def test_each_implementation_is_known(implementation: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True,
        env={**os.environ, "PSYCOPG_IMPL": implementation},
    )  # fmt: skip
    assert ended.stdout == "True\n", ended.stderr
