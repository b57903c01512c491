"""An application that writes events in its own transactions, and a ledger of what it committed."""

import json
import random
import threading
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pymysql

INSERT = (
    "INSERT INTO outbox_events (event_id, event_type, aggregate_type, aggregate_id, topic, payload) "
    "VALUES (%s, %s, %s, %s, %s, %s)"
)


@dataclass
class Committed:
    """An event that the database acknowledged."""

    aggregate_id: str
    number: int
    """Its place within its aggregate: it grows from event to event."""
    payload: str
    event_type: str = "changed"
    aggregate_type: str = "order"
    topic: str = ""
    """Empty: not compared, as a row's topic may be corrected while it waits."""
    stored: bytes | None = None
    """The payload as the database gives it back, where that is known: MySQL keeps a JSON value, not its text."""


@dataclass
class Ledger:
    """What was committed, by event id. Each aggregate has one writer, so its events' ids grow with their number."""

    events: dict[str, Committed] = field(default_factory=dict)
    numbers: Counter[str] = field(default_factory=Counter)

    def row(self, aggregate_id: str, topic: str, *, size: int = 200, event_type: str = "changed") -> tuple[str, ...]:
        """The next event of the aggregate, as INSERT takes it."""
        number = self.numbers[aggregate_id]
        self.numbers[aggregate_id] += 1
        payload = json.dumps({"aggregate": aggregate_id, "number": number, "text": "x" * size})
        return (str(uuid.uuid4()), event_type, "order", aggregate_id, topic, payload)

    def commit(self, rows: list[tuple[str, ...]]) -> None:
        """The database said yes."""
        for event_id, event_type, aggregate_type, aggregate_id, _, payload in rows:
            number = json.loads(payload)["number"]
            self.events[event_id] = Committed(aggregate_id, number, payload, event_type, aggregate_type)


def fill(connection: "pymysql.Connection[Any]", ledger: Ledger, topic: str, events: int, aggregates: int) -> None:
    """A backlog: events of the aggregates in turn, a thousand to a transaction."""
    with connection.cursor() as cursor:
        for start in range(0, events, 1000):
            rows = [ledger.row(f"order-{n % aggregates}", topic) for n in range(start, min(events, start + 1000))]
            connection.begin()
            cursor.executemany(INSERT, rows)
            connection.commit()
            ledger.commit(rows)


def insert(
    connection: "pymysql.Connection[Any]",
    ledger: Ledger,
    aggregate_id: str,
    topic: str,
    *,
    size: int = 200,
    **columns: Any,
) -> str:
    """One event in a transaction of its own; other columns override. Returns its event id."""
    row = ledger.row(aggregate_id, topic, size=size)
    names = ["event_id", "event_type", "aggregate_type", "aggregate_id", "topic", "payload"]
    values = dict(zip(names, row, strict=True)) | columns
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO outbox_events ({', '.join(values)}) VALUES ({', '.join(['%s'] * len(values))})",
            tuple(values.values()),
        )
    if "payload" not in columns:
        ledger.commit([tuple(str(values[name]) for name in names)])
    return row[0]


class Writer(threading.Thread):
    """Writes transactions of a few events, some of which it rolls back, until it is told to stop."""

    def __init__(
        self,
        connection: "pymysql.Connection[Any]",
        topic: str,
        name: str,
        aggregates: int = 50,
        event_type: str = "changed",
    ) -> None:
        super().__init__(daemon=True)
        self._event_type = event_type
        self._connection = connection
        self._topic = topic
        self._prefix = name
        self._aggregates = aggregates
        self._stopping = threading.Event()
        self.ledger = Ledger()
        self.errors: list[Exception] = []

    def run(self) -> None:
        dice = random.Random(self._prefix)
        while not self._stopping.is_set():
            numbers = self.ledger.numbers.copy()
            names = [f"{self._prefix}-{dice.randrange(self._aggregates)}" for _ in range(dice.randint(1, 5))]
            rows = [self.ledger.row(name, self._topic, event_type=self._event_type) for name in names]
            try:
                self._connection.begin()
                with self._connection.cursor() as cursor:
                    cursor.executemany(INSERT, rows)
                if dice.random() < 0.1:
                    self._connection.rollback()
                    self.ledger.numbers = numbers
                    continue
                self._connection.commit()
            except pymysql.Error as error:
                self.errors.append(error)
                return
            self.ledger.commit(rows)

    def stop(self) -> Ledger:
        """Ends it; its ledger."""
        self._stopping.set()
        self.join()
        return self.ledger
