"""What an application has written: events of many aggregates, committed in a database made for one measurement."""

import json
import random
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import count
from typing import Any, Final, NamedTuple

from outboxd.model import TableNames
from outboxd.store.migrator import Migrator
from tests.servers.sql import SqlServer

INSERT: Final = (
    "INSERT INTO outbox_events (event_id, event_type, aggregate_type, aggregate_id, topic, payload) "
    "VALUES (%s, %s, %s, %s, %s, %s)"
)
COMMIT_EVERY: Final = 1000
"""Rows per transaction of `fill`, unless they are large."""
COMMIT_BYTES: Final = 1_000_000
"""Bytes per transaction of `fill`, about."""
PAYLOAD: Final = 250
"""Bytes of a payload, about, unless told otherwise."""
SHORTEST: Final = 150
"""Bytes of a payload without its note, about."""

_serial = count(1)


class WrittenEvent(NamedTuple):
    """An event as the application knows it."""

    event_id: str
    aggregate_id: str
    payload: str

    def row(self, topic: str) -> tuple[str, ...]:
        """The values of INSERT."""
        return self.event_id, "order.changed", "order", self.aggregate_id, topic, self.payload


@lru_cache(maxsize=2)
def make_events(number: int, aggregates: int, seed: int = 1, payload: int = PAYLOAD) -> Sequence[WrittenEvent]:
    """`number` events of `aggregates` aggregates in random turn, with payloads of about `payload` bytes.

    With at least as many events as aggregates, all of them occur, as often as each other; with fewer, some twice.
    """
    chance = random.Random(seed)
    if number < aggregates:
        dealt = [chance.randrange(aggregates) for _ in range(number)]
    else:
        dealt = [serial % aggregates for serial in range(number)]
        chance.shuffle(dealt)
    return [_make_event(chance, aggregate, serial, payload) for serial, aggregate in enumerate(dealt)]


def _make_event(chance: random.Random, aggregate: int, serial: int, size: int) -> WrittenEvent:
    order = f"order-{aggregate:06d}"
    payload = {
        "order": order,
        "serial": serial,
        "customer": f"customer-{chance.randrange(10**9)}",
        "status": chance.choice(["placed", "paid", "packed", "shipped"]),
        "total": {"amount": chance.randrange(100, 100_000), "currency": "EUR"},
        "note": chance.randbytes(max(0, size - SHORTEST) // 2).hex(),
    }
    event_id = str(uuid.UUID(int=chance.getrandbits(128), version=4))
    return WrittenEvent(event_id, order, json.dumps(payload))


@contextmanager
def migrated_database(server: SqlServer) -> Iterator[str]:
    """The name of a new database with outboxd's tables; dropped afterwards."""
    name = f"bench_{next(_serial)}"
    server.create_database(name)
    try:
        Migrator(server.url(name), TableNames()).upgrade()
        yield name
    finally:
        server.drop_database(name)


def fill(connection: Any, events: Sequence[WrittenEvent], topic: str) -> None:
    """Commits the events in their order, in transactions of COMMIT_EVERY rows or COMMIT_BYTES."""
    if not events:
        return
    rows = max(1, min(COMMIT_EVERY, COMMIT_BYTES // len(events[0].payload)))
    with connection.cursor() as cursor:
        for start in range(0, len(events), rows):
            cursor.execute("START TRANSACTION")
            cursor.executemany(INSERT, [event.row(topic) for event in events[start : start + rows]])
            cursor.execute("COMMIT")


def fill_at_once(connection: Any, events: Sequence[WrittenEvent], topic: str) -> None:
    """Commits the events in their order, all in one transaction: whoever looks sees none of them, or all."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE staged LIKE outbox_events")
        try:
            cursor.execute("START TRANSACTION")
            cursor.executemany(INSERT.replace("outbox_events", "staged"), [event.row(topic) for event in events])
            cursor.execute("COMMIT")
            columns = "event_id, event_type, aggregate_type, aggregate_id, topic, payload"
            cursor.execute(f"INSERT INTO outbox_events ({columns}) SELECT {columns} FROM staged ORDER BY id")
        finally:
            cursor.execute("DROP TABLE staged")


def scalar(connection: Any, query: str) -> Any:
    """The one value that a query returns."""
    with connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchone()[0]
