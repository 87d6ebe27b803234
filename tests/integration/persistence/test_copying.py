"""Rows go by COPY where nothing of users' runs, and nowhere else, whatever an owner does meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace

import psycopg
import pytest

from logship.change import Column, Relation
from logship.lsn import Lsn
from logship.replay import copying, ladder, transaction
from logship.replay.batch import Batch
from logship.replay.failures import ConstraintViolated, StatementFailed
from logship.replay.session import TEXT_ARRAY, Command, Session
from logship.replay.shape import SecondaryTarget
from logship.replay.targets import catalog_query, target_of
from tests.integration.persistence.replica import Log, Replica, cells
from tests.servers import eventually

PLAIN = "create table t (id int primary key, n int, v text)"
MANY = 1500


@pytest.fixture(autouse=True)
def fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "COPY_ROWS", 1000)


@pytest.fixture
def granted(replica: Replica) -> Replica:
    """The replayer may insert everywhere. Schema public belongs to the database's owner, a superuser."""
    replica.database.execute(f"grant pg_write_all_data to {replica.user}")
    return replica


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each COPY took."""
    taken: list[int] = []
    copy_in = Session.copy_in

    def noted(session: Session, statement: bytes, pieces: Iterable[bytes]) -> int:
        taken.append(copy_in(session, statement, pieces))
        return taken[-1]

    monkeypatch.setattr(Session, "copy_in", noted)
    return taken


def many(replica: Replica, start: int = 0, log: Log | None = None) -> Batch:
    log, target = log or Log(), replica.target("t")
    for n in range(start, start + MANY):
        log.insert(
            target, cells(str(n), str(n % 7), None if n % 3 == 0 else f"tab\t back\\ line\n é \\. {n}")
        )
    return log.batch()


def count(replica: Replica) -> int:
    (found,) = replica.execute("select count(*) from t")[0]
    assert isinstance(found, int)
    return found


def test_many_rows_are_copied_as_they_are(granted: Replica, copies: list[int]) -> None:
    granted.create(PLAIN.replace("id int", "id int generated always as identity"))
    granted.create("alter table t add extra int")  # the primary doesn't have it
    persistence, log = granted.opened(), Log()
    relation, types = granted.relation("t")
    target = granted.resolve(replace(relation, columns=relation.columns[:3]), types)
    for n in range(MANY):
        log.insert(
            target, cells(str(n), str(n % 7), None if n % 3 == 0 else f"tab\t back\\ line\n é \\. {n}")
        )
    persistence.apply([log.batch()])
    assert copies == [MANY]
    got = granted.execute("select id, n, v, extra from t order by id")
    assert got == [
        (n, n % 7, None if n % 3 == 0 else f"tab\t back\\ line\n é \\. {n}", None) for n in range(MANY)
    ]
    assert persistence.position == granted.stored_position() == Lsn(0x200)
    for n in range(5):  # too few to ask
        log.insert(target, cells(str(MANY + n), "1", "x"))
    persistence.apply([log.batch()])
    assert copies == [MANY]
    assert count(granted) == MANY + 5


def test_rows_without_a_binary_form_are_copied_as_text(
    granted: Replica, copies: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transaction, "_PIECE_ROWS", 400)
    granted.create("create table t (id int primary key, at timestamptz, n numeric(9,2), f interval)")
    granted.create("create table u (id int primary key, at timestamptz, n numeric(9,2), v text)")
    odd, persistence, log = (
        {900: "infinity", 901: "-infinity", 1300: "0044-03-15 00:00:00+00 BC"},
        granted.opened(),
        Log(),
    )
    for table, last in (("t", "1 day"), ("u", "x")):  # of interval there is none at all
        target = granted.target(table)
        for n in range(MANY):
            at = odd.get(n, "2026-11-23 02:51:20.5+00")
            log.insert(target, cells(str(n), at, "NaN" if n == 950 else f"{n}.50", last))
        persistence.apply([log.batch()])
    assert copies == [MANY, 800, MANY - 800]
    for table in ("t", "u"):
        got = granted.execute(f"select id, format('%s', at), format('%s', n) from {table} order by id")
        assert got == [
            (n, odd.get(n, "2026-11-23 02:51:20.5+00"), "NaN" if n == 950 else f"{n}.50") for n in range(MANY)
        ]


def test_without_the_privilege_the_writer_writes(replica: Replica, copies: list[int]) -> None:
    replica.create(PLAIN)
    persistence = replica.opened()
    persistence.apply([many(replica)])
    assert copies == []
    assert count(replica) == MANY

    replica.create(f"grant insert on t to {replica.user}")
    log = Log(0x200)
    persistence.apply([many(replica, MANY, log)])
    assert copies == [MANY]

    # Taken away behind the look-up: it goes on, and doesn't ask again of this target.
    batch = many(replica, 2 * MANY, log)
    replica.create(f"revoke insert on t from {replica.user}")
    persistence.apply([batch])
    assert copies == [MANY]
    assert count(replica) == 3 * MANY
    assert replica.retries == []


NOT_COPIED = {
    "check": "alter table t add check (n >= 0)",
    "not valid": "alter table t add check (n >= 0) not valid",
    "generated": "alter table t add g int generated always as (n + 1) stored",
    "default": "alter table t add extra int default random()",
    "identity": "alter table t add extra int generated by default as identity",
    "expression": "create index on t ((n + 1))",
    "predicate": "create index on t (n) where n > 1",
    "exclusion": "alter table t add exclude using btree (id with =)",
    "rule": "create rule r as on insert to t do also nothing; alter table t disable rule r",
    "always": "create function f() returns trigger language plpgsql as 'begin return new; end'; "
              "create trigger g before insert on t for each row execute function f(); "
              "alter table t enable always trigger g",
    "replica": "create function f() returns trigger language plpgsql as 'begin return null; end'; "
               "create trigger g after insert on t execute function f(); "
               "alter table t enable replica trigger g",
    "row security": "alter table t enable row level security",
    "domain": "create domain d as text; alter table t add e d",
    "array of domain": "create domain d as text; alter table t add e d[]",
    "enum": "create type e as enum ('a'); alter table t add e e",
    "composite": "create type e as (a int); alter table t add e e",
    "range": "create type e as range (subtype = int4); alter table t add e e",
    "regclass": "alter table t add e regclass",
    "operator class": "create index on t (v public.theirs)",
    "xml": "alter table t add e xml",
    "catalog domain": "alter table t add e information_schema.cardinal_number",
    "partition": "create table p (id int not null, n int, v text) partition by range (id); "
                 "alter table p attach partition t for values from (minvalue) to (maxvalue)",
}  # fmt: skip
COPIED = {
    "ordinary trigger": "create function f() returns trigger language plpgsql as 'begin return null; end'; "
                        "create trigger g before insert on t for each row execute function f()",
    "foreign key": "create table o (id int primary key); alter table t add foreign key (n) references o",
    "indexes": "create index on t (n, v); create index on t using hash (v); create unique index on t (id) include (n)",
    "types": "alter table t add a numeric(10,2)[], add b timestamptz, add c jsonb, add d int8range, add e uuid",
    "parent": "create table c () inherits (t)",
}  # fmt: skip


def test_what_is_copied(granted: Replica, copies: list[int]) -> None:
    granted.database.execute(
        "create operator class theirs for type text using btree as operator 1 <, operator 2 <=, operator 3 =, "
        "operator 4 >=, operator 5 >, function 1 bttextcmp(text, text)"
    )
    granted.database.execute(
        f"create schema mine; grant all on schema mine to {granted.owner}, {granted.user}"
    )
    with psycopg.connect(granted.database.conninfo) as connection:
        for what, ddl in NOT_COPIED.items():
            assert not copyable(granted, connection, PLAIN, ddl), what
        for what, ddl in COPIED.items():
            assert copyable(granted, connection, PLAIN, ddl), what
        partitioned = PLAIN + " partition by range (id)"
        assert not copyable(granted, connection, partitioned, "create table p partition of t default")
    # Its owner could give another schema this one's name between the question and the COPY.
    elsewhere = PLAIN.replace("table t", "table mine.t")
    with psycopg.connect(granted.database.conninfo) as connection:
        assert copyable(granted, connection, elsewhere, "select", "mine")
        connection.execute(f"alter schema mine owner to {granted.owner}".encode())
        connection.commit()
        assert not copyable(granted, connection, elsewhere, "select", "mine")
    assert copies == []


def copyable(
    granted: Replica, connection: psycopg.Connection, table: str, ddl: str, schema: str = "public"
) -> bool:
    """Whether the owner's table t with ``ddl`` is one to copy into, as it is looked up, and as it is asked in the
    transaction by who believes that it was when it had been looked up."""

    def ask(command: Command) -> bytes | None:
        formats = [int(oid == TEXT_ARRAY) for oid in command.types]
        result = connection.pgconn.exec_params(command.sql, command.parameters, command.types, formats)
        assert result.error_message == b""
        return result.get_value(0, 0) if result.ntuples else None

    for role, statement in ((granted.owner, f"{table}; {ddl}"), (granted.user, "select")):
        connection.execute(f"set local session authorization {role}".encode())
        connection.execute(statement.encode())
    columns = tuple(Column(name, oid, -1, name == "id") for name, oid in (("id", 23), ("n", 23), ("v", 25)))
    relation = Relation(1, schema, "t", "d", columns)
    target = target_of(relation, {}, ask(catalog_query(relation)))
    assert (ask(copying.question(target, [0, 1, 2])) is not None) == target.copyable, ddl
    connection.rollback()
    return target.copyable


# -- an owner at work meanwhile ------------------------------------------------------------------

SPY = """
create table seen (who text);
create function note() returns void language sql as 'insert into public.seen select current_user';
create function spy(int) returns int language plpgsql immutable as $$
begin perform public.note(); return $1; end $$;
create function noted() returns trigger language plpgsql as $$ begin perform public.spy(1); return new; end $$
"""
MEANWHILE = (
    "create index concurrently on t (public.spy(n))",
    "create index concurrently on t (n) where public.spy(n) >= 0",
    "create index on t (public.spy(n))",
    "alter table t add check (public.spy(n) >= 0)",
    "alter table t add check (public.spy(n) >= 0) not valid",
    "alter table t alter n type bigint using public.spy(n)",
    "create trigger g before insert on t for each row execute function noted(); alter table t enable always trigger g",
    "alter table t enable always trigger g",
    "create rule r as on insert to t do also select public.spy(1); alter table t enable always rule r",
    "alter table t rename to t2; alter table t2 rename to t",
)


class Owner:
    """Statements of the owner's, in a session of their own, that may have to wait."""

    def __init__(self, replica: Replica, *statements: str) -> None:
        self._replica, self._statements = replica, statements
        self.pid = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with psycopg.connect(
            self._replica.database.conninfo_as(self._replica.owner), autocommit=True
        ) as link:
            self.pid = link.info.backend_pid
            for statement in self._statements:
                link.execute(statement.encode())

    def waits(self) -> bool:
        return bool(self.pid) and waits(self._replica, self.pid)

    def join(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()


def waits(replica: Replica, pid: int) -> bool:
    return replica.execute(f"select cardinality(pg_blocking_pids({pid})) > 0") == [(True,)]


def seen_by(replica: Replica) -> set[str]:
    return {who for (who,) in replica.execute("select distinct who from seen")}


def test_what_begins_behind_the_question_waits(granted: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    granted.create(SPY)
    persistence, log = granted.opened(), Log()
    copy_in, owners = Session.copy_in, list[Owner]()

    def meanwhile(session: Session, statement: bytes, pieces: Iterable[bytes]) -> int:
        owner = Owner(granted, ddl)
        owners.append(owner)
        eventually(owner.waits, what=ddl)
        taken = copy_in(session, statement, pieces)
        assert owner.waits()
        return taken

    monkeypatch.setattr(Session, "copy_in", meanwhile)
    for ddl in MEANWHILE:
        granted.create(PLAIN)
        if ddl == "alter table t enable always trigger g":
            granted.create("create trigger g before insert on t for each row execute function noted()")
        persistence.apply([many(granted, log=log)])
        owners[-1].join()
        assert count(granted) == MANY
        granted.create("drop table t")
    assert len(owners) == len(MEANWHILE)
    assert seen_by(granted) <= {granted.owner}


def test_what_was_before_the_question_is_seen(granted: Replica, copies: list[int]) -> None:
    granted.create(SPY + ";" + PLAIN)
    persistence, log = granted.opened(), Log()
    pid = persistence.backend_pid
    assert pid is not None

    # Changed behind the look-up, and not committed yet.
    batch = many(granted, log=log)
    with psycopg.connect(granted.database.conninfo_as(granted.owner)) as owner:
        owner.execute("alter table t add check (public.spy(n) >= 0) not valid")
        replay = threading.Thread(target=persistence.apply, args=([batch],))
        replay.start()
        eventually(lambda: waits(granted, pid))
        owner.commit()
        replay.join()
    assert count(granted) == MANY
    assert seen_by(granted) == {granted.owner}

    # An index whose row is there, and which isn't ready: it is waiting for another transaction.
    granted.create("drop table t")
    granted.create(PLAIN)
    batch = many(granted, log=log)
    with psycopg.connect(granted.database.conninfo_as(granted.owner)) as other:
        other.execute("lock table t in row exclusive mode")
        building = Owner(granted, "create index concurrently on t (public.spy(n))")
        index = (
            "select indisready from pg_index where indrelid = 'public.t'::regclass and indexprs is not null"
        )
        eventually(lambda: granted.execute(index) == [(False,)])
        persistence.apply([batch])
    building.join()
    assert count(granted) == MANY

    # What runs in our own transaction changes a table that the transaction itself has locked.
    granted.create("drop table t")
    granted.create(PLAIN)
    granted.create(
        "create table u (id int primary key); "
        "create function change() returns trigger language plpgsql as $$ begin "
        "alter table public.t add check (public.spy(n) >= 0); return new; end $$; "
        "create trigger g before insert on u for each row execute function change(); "
        "alter table u enable always trigger g"
    )
    log.insert(granted.target("u"), cells("1"))
    persistence.apply([many(granted, log=log)])
    assert count(granted) == MANY
    assert seen_by(granted) == {granted.owner}
    assert copies == []
    assert granted.retries == []


# -- when something fails ------------------------------------------------------------------------


def test_a_violation_climbs_the_ladder(granted: Replica, copies: list[int]) -> None:
    granted.create(PLAIN.replace("n int", "n int unique deferrable initially immediate"))
    granted.create("alter table t drop constraint t_n_key; create unique index u on t (n)")
    granted.create("insert into t values (-1, -1), (-2, -2)")
    persistence, log, target = granted.opened(), Log(), granted.target("t")
    for new in (("-1", "-3"), ("-2", "-1"), ("-1", "-2")):  # two rows exchange a value
        log.update(target, cells(*new, None))
    for n in range(MANY):
        log.insert(target, cells(str(n), str(n), "x"))
    persistence.apply([log.batch()])
    assert copies == [MANY]
    assert granted.execute("select id, n from t where id < 0 order by 1") == [(-2, -1), (-1, -2)]

    # In pieces of one transaction: what goes before stays, until it is known that nothing can.
    for start in (MANY, 2 * MANY):
        for n in range(start, start + MANY):
            log.insert(target, cells(str(n), str(n), "x"))
        persistence.apply([log.batch(complete=False)])
    assert copies == [MANY] * 3
    granted_rows = many_of(log, target, MANY)
    with pytest.raises(ConstraintViolated, match="t_pkey"):
        persistence.apply([granted_rows])
    assert count(granted) == MANY + 2
    assert persistence.position == granted.stored_position() == Lsn(0x200)

    # A value is in no message, and the transaction is as if it had not been.
    for n in range(MANY, 2 * MANY):
        log.insert(target, cells(str(n), "secret" if n == 2 * MANY - 1 else str(n), "x"))
    with pytest.raises(StatementFailed, match=r"INSERT of public\.t failed") as failed:
        persistence.apply([log.batch()])
    assert failed.value.sqlstate == "22P02"
    assert "secret" not in f"{failed.value} {failed.value.hint}"
    assert count(granted) == MANY + 2


def many_of(log: Log, target: SecondaryTarget, start: int) -> Batch:
    for n in range(start, start + MANY):
        log.insert(target, cells(str(n), str(-10 - n), "x"))
    return log.batch()


def test_a_link_that_breaks_inside_a_copy(granted: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    granted.create(PLAIN)
    persistence = granted.opened()
    copy_in, before = Session.copy_in, list[int]()

    def broken(session: Session, statement: bytes, pieces: Iterable[bytes]) -> int:
        def cut() -> Iterator[bytes]:
            for piece in pieces:
                if not before:
                    before.append(session.backend_pid)
                    granted.execute(f"select pg_terminate_backend({session.backend_pid}, 20000)")
                yield piece

        return copy_in(session, statement, cut())

    monkeypatch.setattr(Session, "copy_in", broken)
    persistence.apply([many(granted)])
    assert persistence.backend_pid not in before
    assert count(granted) == MANY
    assert persistence.position == granted.stored_position() == Lsn(0x200)
    assert len(granted.retries) == 1


def test_what_fails_while_rows_are_made_leaves_the_session_whole(
    granted: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    granted.create(PLAIN)
    persistence = granted.opened()
    session = persistence.backend_pid
    batch = many(granted)
    with monkeypatch.context() as patched:
        copy_in = Session.copy_in

        def failing(session: Session, statement: bytes, pieces: Iterable[bytes]) -> int:
            def some() -> Iterator[bytes]:
                yield next(iter(pieces))
                raise MemoryError

            return copy_in(session, statement, some())

        patched.setattr(Session, "copy_in", failing)
        with pytest.raises(MemoryError):
            persistence.apply([batch])
    assert count(granted) == 0
    persistence.apply([batch])
    assert count(granted) == MANY
    assert persistence.backend_pid == session
