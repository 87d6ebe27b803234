"""A replica that is made anew follows whichever shipper there is: the primary's epochs may begin anew with it."""

from __future__ import annotations

from logship.catalog import state
from logship.catalog.state import Replica
from tests.servers import Database

EPOCH = "select shipper_epoch from logship.replica where name = 'one'"


def test_an_init_that_begins_anew_forgets_the_epoch(upgraded_secondary: Database) -> None:
    replica = Replica("one", 7, 1, "app", "slot", "publication", "origin", "full", None, None)
    with upgraded_secondary.connect() as link:
        state.begin(link, replica)
        for epoch, kept in ((3, 3), (2, 3)):  # it never goes back while the replica lives
            state.note_epoch(link, "one", epoch)
            assert upgraded_secondary.value(EPOCH) == kept
        state.begin(link, replica)
    assert upgraded_secondary.value(EPOCH) is None
