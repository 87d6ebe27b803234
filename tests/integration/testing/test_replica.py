"""`logship.testing` on real servers: what agrees passes, and what doesn't is named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.config import Config

from logship.connection import Side
from logship.service.demo.running import ReplicationEnded
from logship.testing import Database, MigratedElsewhere, Migrations, Replica, SidesDiffer
from tests.conftest import Pair

_REVISION = '''
from alembic import op

revision = "{revision}"
down_revision = {before!r}


def upgrade():
    op.execute("""{up}""")


def downgrade():
    op.execute("""{down}""")
'''
_ENV = """
from alembic import context
from sqlalchemy import create_engine

engine = create_engine(context.config.get_main_option("sqlalchemy.url"))
with engine.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
"""


@pytest.fixture
def replica(pair: Pair, tmp_path: Path) -> Iterator[Replica]:
    primary = Database(pair.primary.conninfo, Side.PRIMARY)
    secondary = Database(pair.secondary.conninfo, Side.SECONDARY)
    with Replica(primary, secondary, tmp_path / "replica", pg_dump=pair.primary.program("pg_dump")) as made:
        yield made


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A history of two revisions; the second reads rows."""
    (tmp_path / "scripts" / "versions").mkdir(parents=True)
    (tmp_path / "scripts" / "env.py").write_text(_ENV)
    for revision, before, up, down in (
        ("a", None, "create table one (id integer primary key)", "drop table one"),
        ("b", "a", "create table two as select id from one", "drop table two"),
    ):
        text = _REVISION.format(revision=revision, before=before, up=up, down=down)
        (tmp_path / "scripts" / "versions" / f"{revision}.py").write_text(text)
    config = Config()
    config.set_main_option("script_location", str(tmp_path / "scripts"))
    return config


def test_what_differs_is_named(replica: Replica, config: Config) -> None:
    history = Migrations(config, replica, rows={"a": "insert into one values (1), (2)"})
    assert history.revisions == ["a", "b"]
    history.up_down_up()
    assert replica.secondary.execute("select id from two") == [], "the second time without rows"

    replica.secondary.execute("insert into one values (3)")
    with pytest.raises(SidesDiffer) as rows:
        replica.assert_equal("now")
    assert rows.value.lines == ("table public.one: 0 rows on the primary, 1 on the secondary",)

    replica.secondary.execute("alter table one add here integer; create view only_here as select 1 as x")
    with pytest.raises(SidesDiffer, match="differ after the downgrade of b") as schema:
        history.downgrade("a")
    assert [line.partition(":")[0] for line in schema.value.lines] == [
        "table public.one",
        "view public.only_here",
    ]


def test_as_far_as_a_revision_and_on_after_a_kill(replica: Replica, config: Config, tmp_path: Path) -> None:
    history = Migrations(config, replica, rows={"a": "insert into one values (1)"})
    history.upgrade("a")
    history.upgrade("a")
    assert replica.secondary.execute("select id from one") == [(1,)], "its rows come once"
    with pytest.raises(ValueError, match="hasn't the revision c"):
        history.upgrade("c")
    history.downgrade("a")
    history.upgrade()
    history.downgrade()
    assert replica.secondary.execute("select to_regclass('one'), to_regclass('two')") == [(None, None)]

    with pytest.raises(ValueError, match="the history hasn't: c"):
        Migrations(config, replica, rows={"c": "select"})
    replica.process.kill()
    with pytest.raises(ReplicationEnded, match="exit code -9") as ended:
        replica.assert_equal("after the kill")
    assert ended.value.__notes__ == ["the replica stopped after the kill"]
    replica.process.start()
    replica.assert_equal("after its process was killed")

    env = tmp_path / "scripts" / "env.py"
    env.write_text(env.read_text().replace('context.config.get_main_option("sqlalchemy.url")', '"sqlite://"'))
    with pytest.raises(MigratedElsewhere, match="the upgrade to a left no trace"):
        Migrations(config, replica).upgrade()
