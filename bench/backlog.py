"""What an application has written: events of many aggregates, committed in a database made for one measurement."""

import json
import random
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
"""Rows per transaction of `fill`."""

_serial = count(1)


class WrittenEvent(NamedTuple):
    """An event as the application knows it."""

    event_id: str
    aggregate_id: str
    payload: str

    def row(self, topic: str) -> tuple[str, ...]:
        """The values of INSERT."""
        return self.event_id, "order.changed", "order", self.aggregate_id, topic, self.payload


def make_events(number: int, aggregates: int, seed: int = 1) -> list[WrittenEvent]:
    """`number` events of `aggregates` aggregates in random turn, with payloads of about 250 bytes."""
    chance = random.Random(seed)
    return [_make_event(chance, aggregates, serial) for serial in range(number)]


def _make_event(chance: random.Random, aggregates: int, serial: int) -> WrittenEvent:
    order = f"order-{chance.randrange(aggregates):06d}"
    payload = {
        "order": order,
        "serial": serial,
        "customer": f"customer-{chance.randrange(10**9)}",
        "status": chance.choice(["placed", "paid", "packed", "shipped"]),
        "total": {"amount": chance.randrange(100, 100_000), "currency": "EUR"},
        "note": f"{chance.getrandbits(400):0100x}",
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
    """Commits the events in their order, in transactions of COMMIT_EVERY rows."""
    with connection.cursor() as cursor:
        for start in range(0, len(events), COMMIT_EVERY):
            cursor.execute("START TRANSACTION")
            cursor.executemany(INSERT, [event.row(topic) for event in events[start : start + COMMIT_EVERY]])
            cursor.execute("COMMIT")
