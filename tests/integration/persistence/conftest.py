"""``replica``: a secondary with a replayer who is no superuser. ``as_superuser``: one who is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.persistence.replica import Replica, make_replica
from tests.servers import Database


@pytest.fixture
def secondary(upgraded_secondary: Database) -> Database:
    return upgraded_secondary


@pytest.fixture
def replica(secondary: Database) -> Iterator[Replica]:
    made = make_replica(secondary, superuser=False)
    yield made
    made.close()


@pytest.fixture
def as_superuser(secondary: Database) -> Iterator[Replica]:
    made = make_replica(secondary, superuser=True)
    yield made
    made.close()
