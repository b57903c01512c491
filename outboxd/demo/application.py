"""An application: it changes orders and writes their events, in its own transactions and on its own connections."""

import json
import random
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from outboxd.demo.child import BrokenError
from outboxd.demo.ledger import Entry, Ledger
from outboxd.demo.plan import Flaw, Transaction, orders
from outboxd.store.session import describe

CONNECTIONS: Final = 4
ILLEGAL_TOPIC: Final = "orders/with a slash"
STEPS: Final = ("created", "paid", "packed", "shipped")


class Names(NamedTuple):
    """What the application must know: two tables, a topic, and more bytes than a message may have."""

    orders: str
    events: str
    topic: str
    too_many_bytes: int


class Application:
    """Plays a plan from several threads, at a pace, and keeps a ledger."""

    def __init__(self, engine: Engine, names: Names) -> None:
        self.ledger = Ledger()
        self._engine = engine
        self._names = names
        self._next = threading.Lock()
        self._stopping = threading.Event()
        self._error: BaseException | None = None
        self._threads: list[threading.Thread] = []
        self._insert = (
            f"INSERT INTO {names.events} (event_id, event_type, aggregate_type, aggregate_id, topic, payload, headers)"
            " VALUES (%s, %s, 'order', %s, %s, %s, %s)"
        )

    def prepare(self, aggregates: int) -> None:
        """Creates the orders. Raises DBAPIError."""
        with self._engine.connect() as connection:
            connection.exec_driver_sql(
                f"CREATE TABLE {self._names.orders} (id VARCHAR(32) PRIMARY KEY, version INT NOT NULL) ENGINE=InnoDB"
            )
            rows = [(name, 0) for name in orders(aggregates)]
            connection.exec_driver_sql(f"INSERT INTO {self._names.orders} VALUES (%s, %s)", rows)

    def start(self, plan: Iterator[Transaction], rate: float) -> None:
        """Begins to write, `rate` events a second; 0: as fast as it can."""
        work = (plan, rate, time.monotonic())
        self._threads = [threading.Thread(target=self._write, args=work, daemon=True) for _ in range(CONNECTIONS)]
        for thread in self._threads:
            thread.start()

    @property
    def finished(self) -> bool:
        """Whether it has written all. Raises BrokenError when it could not."""
        if isinstance(self._error, DBAPIError):
            raise BrokenError(f"the application's database connection failed: {describe(self._error)}")
        if self._error is not None:
            raise self._error
        return not any(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        """Ends after the transactions under way."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _write(self, plan: Iterator[Transaction], rate: float, began: float) -> None:
        try:
            with self._engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
                while (transaction := self._take(plan)) is not None:
                    due = began + transaction.before / rate if rate else began
                    if self._stopping.wait(max(0.0, due - time.monotonic())):
                        return
                    self._play(connection, transaction)
        except BaseException as error:
            self._error = error
            self._stopping.set()

    def _take(self, plan: Iterator[Transaction]) -> Transaction | None:
        with self._next:
            return next(plan, None)

    def _play(self, connection: Connection, transaction: Transaction) -> None:
        """The outbox pattern: the change and its events stand or fall together."""
        table, name = self._names.orders, transaction.aggregate_id
        with connection.begin() as database:
            found = connection.exec_driver_sql(f"SELECT version FROM {table} WHERE id = %s FOR UPDATE", (name,))
            version = found.scalar_one()
            ids = [str(uuid.uuid4()) for _ in transaction.events]
            payloads = [self._payload(name, version + n) for n in range(1, len(ids) + 1)]
            rows = [self._row(*each, name) for each in zip(ids, payloads, transaction.events, strict=True)]
            connection.exec_driver_sql(self._insert, rows)
            connection.exec_driver_sql(f"UPDATE {table} SET version = %s WHERE id = %s", (version + len(ids), name))
            if not transaction.commits:
                database.rollback()
                self.ledger.rolled_back.update(ids)
                return
        committed_at = time.monotonic()
        for event_id, payload, flaw in zip(ids, payloads, transaction.events, strict=True):
            self.ledger.committed[event_id] = Entry(name, payload["version"], payload, committed_at, flaw)

    def _payload(self, name: str, version: int) -> dict[str, Any]:
        total = random.randint(1, 100_000)  # noqa: S311 - an amount of money, not a secret
        return {"order": name, "version": version, "step": STEPS[version % len(STEPS)], "total_cents": total}

    def _row(self, event_id: str, payload: dict[str, Any], flaw: Flaw | None, name: str) -> tuple[str | None, ...]:
        topic = ILLEGAL_TOPIC if flaw is Flaw.TOPIC else self._names.topic
        scan = {"scan": "x" * self._names.too_many_bytes} if flaw is Flaw.SIZE else {}
        headers = '["no", "object"]' if flaw is Flaw.HEADERS else None
        return event_id, f"order.{payload['step']}", name, topic, json.dumps(payload | scan), headers
