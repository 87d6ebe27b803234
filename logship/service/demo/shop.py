"""A small shop, and its customers: the schema and the workload of `logship demo`.

In: the conninfo of an empty database. Out: tables in the schema ``shop`` (one without a key), and
client threads that insert, update, delete and roll back there until they are stopped. Each thread
draws from a seeded generator, but how they interleave is the scheduler's affair. A transaction that
fails for a reason that may pass is begun again; any other error stops the workload and is raised by `stop`.
"""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass
from typing import Final

import psycopg

from logship.connection import Side, connect
from logship.errors import is_transient

TABLES: Final = ("shop.customer", "shop.product", "shop.purchase", "shop.purchase_line", "shop.event")
CUSTOMERS: Final = 500
PRODUCTS: Final = 200

_SCHEMA: Final = f"""
create schema shop;
create type shop.status as enum ('placed', 'paid', 'shipped');
create table shop.customer (
  id bigint generated always as identity primary key,
  email text not null unique,
  name text not null,
  created_at timestamptz not null default now()
);
create table shop.product (
  id bigint generated always as identity primary key,
  name text not null,
  price numeric(10, 2) not null check (price > 0),
  stock integer not null,
  attributes jsonb not null default '{{}}'
);
create table shop.purchase (
  id bigint generated always as identity primary key,
  customer_id bigint not null references shop.customer,
  status shop.status not null default 'placed',
  placed_at timestamptz not null default now()
);
create table shop.purchase_line (
  purchase_id bigint not null references shop.purchase on delete cascade,
  line integer not null,
  product_id bigint not null references shop.product,
  quantity integer not null,
  price numeric(10, 2) not null,
  total numeric(12, 2) generated always as (quantity * price) stored,
  primary key (purchase_id, line)
);
-- A table without a key, as every database has one.
create table shop.event (
  at timestamptz not null default clock_timestamp(),
  kind text not null,
  detail jsonb
);
insert into shop.customer (email, name)
  select 'c' || i || '@example.com', 'Customer ' || i from generate_series(1, {CUSTOMERS}) as i;
insert into shop.product (name, price, stock, attributes)
  select 'Product ' || i, 1 + i % 90, 100000, jsonb_build_object('colour', (array['red', 'green'])[1 + i % 2])
    from generate_series(1, {PRODUCTS}) as i;
"""

_LINES: Final = """
insert into shop.purchase_line (purchase_id, line, product_id, quantity, price)
select %(purchase)s, o.line, p.id, o.quantity, p.price
  from unnest(%(products)s::bigint[], %(quantities)s::integer[])
       with ordinality as o (product, quantity, line)
  join shop.product p on p.id = o.product
"""


def create(conninfo: str) -> None:
    """Schema and first rows."""
    with connect(conninfo, Side.PRIMARY, application_name="shop") as connection, connection.transaction():
        connection.execute(_SCHEMA.encode())


@dataclass
class Client:
    """One customer's session. ``transactions`` counts what it committed and what changed a row."""

    connection: psycopg.Connection
    generator: random.Random
    transactions: int = 0

    def act(self) -> None:
        """One transaction, begun again while the reason for its failure may pass."""
        action = self.generator.choices(
            [self._place, self._advance, self._cancel, self._reprice, self._register, self._change_mind],
            [40, 25, 10, 10, 10, 5],
        )[0]
        while True:
            try:
                with self.connection.transaction():
                    changed = action()
            except psycopg.Error as error:
                if self.connection.closed or not is_transient(error.sqlstate):
                    raise
            else:
                self.transactions += changed
                return

    def _place(self) -> bool:
        products = sorted(self.generator.sample(range(1, PRODUCTS + 1), self.generator.randint(1, 4)))
        quantities = [self.generator.randint(1, 3) for _ in products]
        row = self.connection.execute(
            "insert into shop.purchase (customer_id) values (%s) returning id",
            [self.generator.randint(1, CUSTOMERS)],
        ).fetchone()
        order = {"purchase": row and row[0], "products": products, "quantities": quantities}
        self.connection.execute(_LINES, order)
        # In the order of their ids: two clients that want the same products don't deadlock.
        for product, quantity in zip(products, quantities, strict=True):
            self.connection.execute(
                "update shop.product set stock = stock - %s where id = %s", [quantity, product]
            )
        return self._note("placed")

    def _advance(self) -> bool:
        updated = self.connection.execute(
            "update shop.purchase set status = case status when 'placed' then 'paid' else 'shipped' end"
            "::shop.status where id = any (%s)",
            [self._some_purchases(5)],
        )
        return updated.rowcount > 0

    def _cancel(self) -> bool:
        self.connection.execute("delete from shop.purchase where id = any (%s)", [self._some_purchases(1)])
        return self._note("cancelled")

    def _reprice(self) -> bool:
        self.connection.execute(
            "update shop.product set price = %s, attributes = attributes || '{\"sale\": true}' where id = %s",
            [self.generator.randint(1, 9000) / 100, self.generator.randint(1, PRODUCTS)],
        )
        return True

    def _register(self) -> bool:
        address = f"{self.generator.getrandbits(64):x}@example.com"
        self.connection.execute(
            "insert into shop.customer (email, name) values (%s, %s)", [address, "New customer"]
        )
        return True

    def _change_mind(self) -> bool:
        """A transaction that changes nothing in the end."""
        with self.connection.transaction():
            self._place()
            raise psycopg.Rollback
        return False

    def _note(self, kind: str) -> bool:
        self.connection.execute(
            "insert into shop.event (kind, detail) values (%s, jsonb_build_object('by', pg_backend_pid()))",
            [kind],
        )
        return True

    def _some_purchases(self, count: int) -> list[int]:
        """Ids in ascending order, near the latest ones; they need not exist any more."""
        row = self.connection.execute("select coalesce(max(id), 1) from shop.purchase").fetchone()
        latest = int(row[0]) if row else 1
        return sorted({self.generator.randint(max(1, latest - 500), latest) for _ in range(count)})


class Workload:
    """``clients`` threads, each ``rate`` transactions a second at most. `start`, then `stop`."""

    def __init__(self, conninfo: str, *, clients: int = 4, rate: float = 25.0, seed: int = 1) -> None:
        self._conninfo = conninfo
        self._interval_s = 1.0 / rate
        self._seed = seed
        self._clients: list[Client] = []
        self._threads = [
            threading.Thread(target=self._run, args=[number], name=f"shop-{number}", daemon=True)
            for number in range(clients)
        ]
        self._stopping = threading.Event()
        self._error: Exception | None = None

    @property
    def transactions(self) -> int:
        """Committed so far by all clients, those that changed nothing left out: they aren't in the log."""
        return sum(client.transactions for client in self._clients)

    @property
    def failed(self) -> bool:
        return self._error is not None

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End every client after its transaction; raises what stopped one before."""
        self._stopping.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        if self._error is not None:
            raise self._error

    def _run(self, number: int) -> None:
        try:
            with connect(self._conninfo, Side.PRIMARY, application_name="shop") as connection:
                client = Client(connection, random.Random(self._seed * 1000 + number))
                self._clients.append(client)
                while not self._stopping.wait(self._interval_s):
                    client.act()
        except Exception as error:  # noqa: BLE001  raised again by stop(), in the thread that asked for the load
            self._error = error
            self._stopping.set()
