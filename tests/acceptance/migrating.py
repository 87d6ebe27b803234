"""A history of Alembic revisions on a primary under load, and the proof that both sides are the same afterwards."""

from __future__ import annotations

import difflib
import re
import subprocess
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from logship.connection import Side
from logship.service.compare.catalogs import differences, tables
from logship.service.compare.comparison import compare
from logship.service.demo.servers import environment
from logship.testing import Database as Sided
from tests.servers import Database

HISTORY = Path(__file__).parent / "history"
# What is each side's own: logship's event triggers, the replayer's rights to positions, the key of this very dump.
_OWN = re.compile(
    r"^--\n-- Name: [^\n]*; Type: (EVENT TRIGGER;|ACL; Schema: pg_catalog;).*?(?=^--\n-- )"
    r"|^\\(un)?restrict [^\n]*\n",
    re.M | re.S,
)


class History:
    """The revisions in tests/acceptance/history, as far as ``upto``."""

    def __init__(self, primary: Database, upto: str | None = None) -> None:
        self._config = Config()
        self._config.set_main_option("script_location", str(HISTORY).replace("%", "%%"))
        self._config.set_main_option("path_separator", "os")
        url = Sided(primary.conninfo, Side.PRIMARY).url()
        self._config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
        scripts = ScriptDirectory.from_config(self._config).iterate_revisions(upto or "heads", "base")
        self.revisions = [script.revision for script in scripts][::-1]

    @property
    def up(self) -> list[tuple[str, str]]:
        """The steps that `step` takes."""
        return [("upgrade", revision) for revision in self.revisions]

    @property
    def down(self) -> list[tuple[str, str]]:
        return [("downgrade", revision) for revision in ["base", *self.revisions][-2::-1]]

    def step(self, direction: str, revision: str) -> None:
        getattr(command, direction)(self._config, revision)


def assert_same(primary: Database, secondary: Database) -> None:
    """By the facts of every object, by pg_dump where it can tell, and row by row."""
    dumps = [dump(primary), dump(secondary)] if same_version(primary, secondary) else ["", ""]
    unlike = difflib.unified_diff(*(text.splitlines() for text in dumps), lineterm="")
    lines = [*differences(primary.conninfo, secondary.conninfo), *unlike]
    assert not lines, "\n".join(lines)
    with primary.connect() as connection:
        names = tables(connection)
    unequal = [each for each in compare(primary.conninfo, secondary.conninfo, names) if not each.equal]
    assert not unequal, unequal


def same_version(primary: Database, secondary: Database) -> bool:
    """Whether pg_dump says the same of the same schema: each version has its own spelling."""
    version = "select current_setting('server_version_num')::int / 10000"
    return bool(primary.value(version) == secondary.value(version))


def dump(database: Database) -> str:
    """What pg_dump says of the schema, without what is logship's."""
    arguments = ["--schema-only", "--no-publications", "-N", "logship", "-N", "logship_writers"]
    done = subprocess.run(
        [database.program("pg_dump"), *arguments, database.conninfo],
        check=True, capture_output=True, text=True, env=environment(),
    )  # fmt: skip
    return _OWN.sub("", done.stdout)
