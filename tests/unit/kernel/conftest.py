"""Each test of the kernel is run on each implementation."""

from __future__ import annotations

from types import ModuleType

import pytest

from logship.kernel.choice import implementation
from tests.kernels import EACH


@pytest.fixture(scope="module", params=EACH)
def kernel(request: pytest.FixtureRequest) -> ModuleType:
    return implementation(request.param)
