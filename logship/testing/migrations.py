"""A project's Alembic history, walked revision by revision on a primary with a replica behind it.

In: the project's Alembic configuration, a `Replica` whose databases have none of the history yet, and rows to
put in on the way. Out: after each revision primary and secondary have the same schema and the same rows, or
`SidesDiffer` names the revision. The project's own env.py connects: it finds ``sqlalchemy.url`` set, and one that
connects elsewhere all the same is `MigratedElsewhere`, since then nothing would be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, TypeAlias

from alembic import command
from alembic.script import ScriptDirectory

from logship.testing.databases import Database
from logship.testing.replica import Replica

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import Script

# Whatever the project calls Alembic's table, and wherever it keeps it: the column has one name.
_VERSION_TABLES: Final = """
select pg_catalog.format('%I.%I', n.nspname, c.relname)
  from pg_catalog.pg_attribute a
  join pg_catalog.pg_class c on c.oid = a.attrelid and c.relkind = 'r'
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where a.attname = 'version_num' and not a.attisdropped
"""
Rows: TypeAlias = Mapping[str, str | Callable[[Database], None]]


class MigratedElsewhere(AssertionError):
    def __init__(self, revision: str) -> None:
        super().__init__(
            f"the upgrade to {revision} left no trace on the test's primary: the project's env.py has migrated another "
            'database. It must connect to context.config.get_main_option("sqlalchemy.url")'
        )


class Migrations:
    """``rows``: what comes after the upgrade to a revision, SQL or a function that is given the primary."""

    def __init__(
        self, config: Config, replica: Replica, *, driver: str = "psycopg", rows: Rows | None = None
    ) -> None:
        self.replica = replica
        self._config = config
        self._rows = dict(rows or {})
        self._upgraded = 0  # so many of the history, from its beginning
        # "%" would be read as an interpolation
        config.set_main_option("sqlalchemy.url", replica.primary.url(driver).replace("%", "%%"))
        scripts = ScriptDirectory.from_config(config)
        self._history: list[Script] = [*scripts.walk_revisions()][::-1]
        unknown = self._rows.keys() - set(self.revisions)
        if unknown:
            raise ValueError(f"rows for revisions that the history hasn't: {', '.join(sorted(unknown))}")

    @property
    def revisions(self) -> list[str]:
        """Every revision, in the order in which they are upgraded."""
        return [script.revision for script in self._history]

    @property
    def linear(self) -> bool:
        """No branches and merges: then it is downgraded one by one, too."""
        return not any(script.is_branch_point or script.is_merge_point for script in self._history)

    def upgrade(self, upto: str = "head", *, rows: bool = True) -> None:
        """One by one as far as ``upto``, each compared; then its ``rows``, where it has some, and compared again."""
        for script in self._history[self._upgraded : self._count(upto)]:
            command.upgrade(self._config, script.revision)
            self._require_here(script.revision)
            self._upgraded += 1
            self.replica.assert_equal(f"after the upgrade to {script.revision} ({script.doc})")
            if rows and script.revision in self._rows:
                self._put(self._rows[script.revision])
                self.replica.assert_equal(f"after the rows of {script.revision}")

    def downgrade(self, downto: str = "base") -> None:
        """One by one as far as ``downto``, each compared; in one go where the history has branches."""
        count = self._count(downto)
        if not self.linear:
            command.downgrade(self._config, downto)
            self._upgraded = count
            self.replica.assert_equal(f"after the downgrade to {downto}")
            return
        for script in reversed(self._history[count : self._upgraded]):
            command.downgrade(self._config, str(script.down_revision or "base"))
            self._upgraded -= 1
            self.replica.assert_equal(f"after the downgrade of {script.revision} ({script.doc})")

    def up_down_up(self) -> None:
        """The whole history, with its rows; back to nothing; and once more, without rows that came from ``rows``."""
        self.upgrade()
        self.downgrade()
        self.upgrade(rows=False)

    def _require_here(self, revision: str) -> None:
        primary = self.replica.primary
        for (table,) in primary.execute(_VERSION_TABLES):
            if primary.execute(f"select 1 from {table} where version_num::text = %s", [revision]):
                return
        raise MigratedElsewhere(revision)

    def _count(self, revision: str) -> int:
        """How many are upgraded when the database is at ``revision``: a name, ``base``, ``head``."""
        known = {"base": 0, "head": len(self._history), "heads": len(self._history)}
        known |= {name: number for number, name in enumerate(self.revisions, 1)}
        if revision not in known:
            raise ValueError(f"the history hasn't the revision {revision}")
        return known[revision]

    def _put(self, rows: str | Callable[[Database], None]) -> None:
        if callable(rows):
            rows(self.replica.primary)
        else:
            self.replica.primary.execute(rows)
