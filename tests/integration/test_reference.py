"""docs/reference.md is what the code says: commands, settings, figures, and the views as a server has them."""

from __future__ import annotations

from pathlib import Path

from docs.reference import reference
from logship.catalog import migrate
from logship.connection import Side
from tests.servers import Database

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference.md"


def test_the_reference_is_the_codes(primary: Database, secondary: Database) -> None:
    migrate.upgrade(primary.conninfo, Side.PRIMARY)
    migrate.upgrade(secondary.conninfo, Side.SECONDARY)
    assert PAGE.read_text() == reference(primary.conninfo, secondary.conninfo), "stale: run `make docs`"
