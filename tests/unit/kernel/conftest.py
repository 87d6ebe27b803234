"""Each test of the kernel is run on each implementation."""

from __future__ import annotations

from types import ModuleType

import pytest

from logship.kernel.choice import CYTHON, PYTHON, implementation, is_built

WHY = "the kernel wasn't built with Cython here: there was no compiler, or no Python.h"


@pytest.fixture(scope="module", params=[PYTHON, CYTHON])
def kernel(request: pytest.FixtureRequest) -> ModuleType:
    if request.param == CYTHON and not is_built():
        pytest.skip(WHY)
    return implementation(request.param)
