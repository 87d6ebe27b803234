"""Which implementation of the kernel is in use.

In: `LOGSHIP_KERNEL`. Out: a module, and its name. A wish that can't be met is an error, never another one.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from types import ModuleType
from typing import Final

from logship.errors import UsageError
from logship.kernel.sources import digest

VARIABLE: Final = "LOGSHIP_KERNEL"
PYTHON: Final = "python"
CYTHON: Final = "cython"


def is_built() -> bool:
    """Whether the package has the compiled implementation."""
    return importlib.util.find_spec("logship.kernel._cython") is not None


def chosen(environment: Mapping[str, str]) -> str:
    """`PYTHON` or `CYTHON`. Raises `UsageError` for what isn't there."""
    wish = environment.get(VARIABLE, "")
    if wish not in ("", PYTHON, CYTHON):
        raise UsageError(f"{VARIABLE} is {wish!r}", hint=f"it is {PYTHON} or {CYTHON}; unset, the faster one")
    if wish == CYTHON and not is_built():
        raise UsageError(
            f"{VARIABLE} is {CYTHON}, and this installation was built without it",
            hint="install logship again where there are a C compiler and Python's headers (on Debian: gcc, "
            f"python3-dev), or unset {VARIABLE}",
        )
    return wish or (CYTHON if is_built() else PYTHON)


def implementation(name: str) -> ModuleType:
    """Raises `UsageError` for a compiled one that is older than the sources beside it: it may not know what the rest
    of the package takes for granted."""
    module = importlib.import_module(f"logship.kernel._{name}")
    if name == CYTHON and digest() not in ("", getattr(module, "SOURCES", None)):
        raise UsageError(
            "the compiled kernel was built from other sources than those beside it",
            hint=f"build it again: make init; or set {VARIABLE}={PYTHON}",
        )
    return module
