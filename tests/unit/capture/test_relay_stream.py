"""What an error of a shipper means to its replayer: wait, or end with what to do."""

from __future__ import annotations

import pytest

from logship.capture.relay_stream import relay_error
from logship.errors import LogGone, PrimaryError, ReplicaServed, ReplicaUnknown, ShipperBroken


@pytest.mark.parametrize(
    ("sqlstate", "kind", "transient"),
    [
        (None, ShipperBroken, True),  # the link broke
        ("57P01", ShipperBroken, True),  # it shuts down
        ("08006", ShipperBroken, True),  # it has no link itself
        ("55006", ReplicaServed, True),
        ("42704", ReplicaUnknown, True),  # it may not have looked yet
        ("58P01", LogGone, False),
        ("28P01", ShipperBroken, False),
        ("08P01", ShipperBroken, True),
        ("0A000", ShipperBroken, False),
        ("XX001", ShipperBroken, False),
    ],
)
def test_wait_or_end(sqlstate: str | None, kind: type[PrimaryError], transient: bool) -> None:
    error = relay_error(sqlstate, "it said so", "one")
    assert type(error) is kind
    assert error.transient is transient
    assert error.hint or transient
    assert "it said so" in str(error) or kind is ReplicaServed


def test_a_link_that_breaks_without_a_word_is_named() -> None:
    assert str(relay_error(None, "", "one")) == "the shipper's stream ended: the connection was closed"
