"""Where in memory the libpq is that psycopg uses, so that the kernel can ask it without the interpreter.

In: nothing. Out: addresses of functions of the very library that makes psycopg's connections, or None where that
can't be told for certain: several libpqs may be loaded in one process (psycopg2 brings its own), and a
connection of one must never be given to another.

psycopg's compiled modules are linked with their libpq: a symbol that is looked up through such a module is found
in the library that the module itself calls. psycopg in plain Python opens it with ctypes, and keeps the handle.

Source: dlsym(3); psycopg documentation, "pq: libpq wrapper module".
"""

from __future__ import annotations

import ctypes
import functools
import importlib
from typing import Final

from psycopg import pq

_NAMES: Final = ("PQgetCopyData", "PQfreemem", "PQconsumeInput")
_MODULES: Final = {"binary": "psycopg_binary.pq", "c": "psycopg_c.pq"}


@functools.cache
def copy_functions() -> tuple[int, int, int] | None:
    """Addresses of PQgetCopyData, PQfreemem and PQconsumeInput."""
    library = _library()
    if library is None:
        return None
    try:
        same = library.PQlibVersion() == pq.version()
        get, give_back, consume = (_address(library, name) for name in _NAMES)
    except AttributeError:
        return None
    return (get, give_back, consume) if same and get and give_back and consume else None


def _library() -> ctypes.CDLL | None:
    """A handle through which libpq's symbols are found as psycopg finds them."""
    if pq.__impl__ == "python":
        found = getattr(importlib.import_module("psycopg.pq._pq_ctypes"), "pq", None)
        return found if isinstance(found, ctypes.CDLL) else None
    module = _MODULES.get(pq.__impl__)
    try:
        file = importlib.import_module(module).__file__ if module else None
        return ctypes.CDLL(file) if file else None  # it is loaded: this counts one more user of it
    except (ImportError, OSError):
        return None


def _address(library: ctypes.CDLL, name: str) -> int:
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0
