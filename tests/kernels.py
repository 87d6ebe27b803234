"""The implementations of the kernel that are here, for tests that are run on each."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest

from logship import kernel
from logship.kernel.choice import CYTHON, PYTHON, implementation, is_built

WHY = "the kernel wasn't built with Cython here: there was no compiler, or no Python.h"
EACH = [PYTHON, pytest.param(CYTHON, marks=pytest.mark.skipif(not is_built(), reason=WHY))]
_NAMES = [name for name in vars(implementation(PYTHON)) if name in kernel.__all__]


def in_use(name: str) -> Iterator[ModuleType]:
    """What takes its functions from `logship.kernel` when it is run gets those of ``name``."""
    with pytest.MonkeyPatch.context() as patch:
        for function in _NAMES:
            patch.setattr(kernel, function, getattr(implementation(name), function))
        yield implementation(name)
