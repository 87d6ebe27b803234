"""The shop's schema moves on while it is open: Alembic revisions on the primary, and when each arrives.

In: the primary's conninfo, a link to the secondary, for how long the shop is open. Out: `Migrated`, one for each
revision in migrations/shop, when the secondary has it. Its `shop.alembic_version` says so: that row comes
in the same transaction as what the revision did. Nothing is run on the secondary.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Final

import psycopg

if TYPE_CHECKING:
    from alembic.config import Config

_VERSION: Final = "shop.alembic_version"


@dataclass(frozen=True, slots=True)
class Revision:
    name: str
    what: str


@dataclass(frozen=True, slots=True)
class Migrated:
    """``after_s``: from its commit on the primary until it was seen on the secondary; None: it didn't come."""

    revision: Revision
    after_s: float | None


class Migrations:
    """Spread evenly over ``seconds``: `due` says which, `run` runs it, `arrived` tells what the secondary has since."""

    def __init__(self, primary: str, secondary: psycopg.Connection, seconds: float) -> None:
        self._primary = primary
        self._secondary = secondary
        self._revisions = revisions()
        self._every_s = seconds / (len(self._revisions) + 1)
        self._committed: list[float] = []
        self._seen: list[Migrated] = []

    @property
    def left(self) -> bool:
        """Some are still to be run."""
        return len(self._committed) < len(self._revisions)

    def due(self, elapsed_s: float) -> Revision | None:
        """The next one, once its moment has come."""
        if self.left and elapsed_s >= self._every_s * (len(self._committed) + 1):
            return self._revisions[len(self._committed)]
        return None

    def run(self, revision: Revision) -> None:
        """`alembic upgrade` to it, on the primary."""
        from alembic import command

        with _config(self._primary) as config:
            command.upgrade(config, revision.name)
        self._committed.append(time.monotonic())

    def arrived(self) -> list[Migrated]:
        """Those that the secondary has and hadn't when this was called before."""
        names = [revision.name for revision in self._revisions]
        version = self._version()
        count = 0 if version is None else names.index(version) + 1
        now = time.monotonic()
        fresh = [
            # A revision of several transactions may be seen before `run` has returned.
            Migrated(self._revisions[at], max(0.0, now - self._committed[at]))
            for at in range(len(self._seen), min(count, len(self._committed)))
        ]
        self._seen += fresh
        return fresh

    def all(self) -> list[Migrated]:
        """Every revision, those that didn't arrive among them."""
        return [*self._seen, *(Migrated(revision, None) for revision in self._revisions[len(self._seen) :])]

    def _version(self) -> str | None:
        if self._secondary.execute("select pg_catalog.to_regclass(%s)", [_VERSION]).fetchone() == (None,):
            return None
        row = self._secondary.execute(f"select v.version_num from {_VERSION} v".encode()).fetchone()
        return None if row is None else str(row[0])


def revisions() -> list[Revision]:
    """Of migrations/shop, in their order."""
    from alembic.script import ScriptDirectory

    with _config("") as config:
        scripts = ScriptDirectory.from_config(config).walk_revisions()
        return [Revision(script.revision, script.doc) for script in scripts][::-1]


@contextmanager
def _config(conninfo: str) -> Iterator[Config]:
    from alembic.config import Config

    with as_file(files("logship.migrations").joinpath("shop")) as scripts:
        config = Config()
        # "%" would be read as an interpolation
        config.set_main_option("script_location", str(scripts).replace("%", "%%"))
        config.attributes["conninfo"] = conninfo
        yield config
