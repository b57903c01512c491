"""How fast a program drains a backlog."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.backlog import fill, make_events, migrated_database
from bench.program import Program, Usage
from bench.topic import Delivery, compare, count_messages, create_topic, read_topic
from tests.servers.kafka import Kafka
from tests.servers.sql import SqlServer

PATIENCE: Final = 120.0
"""Seconds until a drain that does not end has failed."""

WATCH_INTERVAL: Final = 0.1


@dataclass(frozen=True)
class Drain:
    """One drain. `seconds`: from the broker's time of the first message to the database's time of the last settle."""

    database: str
    program: str
    events: int
    seconds: float
    first_delivery_seconds: float
    """From the start of the process to the first message."""
    usage: Usage
    delivery: Delivery

    @property
    def rate(self) -> float:
        """Events per second."""
        return self.events / self.seconds

    def cpu_us_per_event(self, start: Usage) -> float:
        """Microseconds of the process's CPU per event, without what its start and end use."""
        return (self.usage.cpu_seconds - start.cpu_seconds) / self.events * 1e6


def measure_start(program: Program, server: SqlServer, kafka: Kafka, log: Path) -> Usage:
    """What the program uses with nothing to do."""
    with migrated_database(server) as database:
        return program.start_usage(server.url(database), kafka.bootstrap, log)


def measure_drain(
    program: Program, server: SqlServer, kafka: Kafka, log: Path, *, events: int, aggregates: int
) -> Drain:
    """Writes a backlog, lets the program drain it, and compares the topic with what was written.

    While it drains, it is watched by one small request to the broker every WATCH_INTERVAL seconds; both ends of the
    drain are read afterwards, from the topic's and the rows' own timestamps. Raises RuntimeError when it fails.
    """
    written = make_events(events, aggregates)
    topic = create_topic(kafka)
    with migrated_database(server) as database, server.connect(database) as connection:
        fill(connection, written, topic)
        with program.start(server.url(database), kafka.bootstrap, log) as process:
            deadline = time.monotonic() + PATIENCE
            while count_messages(kafka, topic) < events or _unsettled(connection):
                process.check()
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{program.name} has not drained within {PATIENCE:.0f} s; see {log}")
                time.sleep(WATCH_INTERVAL)
            usage = process.stop()
        settled_at = float(_scalar(connection, "SELECT UNIX_TIMESTAMP(MAX(updated_at)) FROM outbox_events"))
    messages = list(read_topic(kafka, topic))
    kafka.delete_topic(topic)
    first_at = min(message.appended_ms for message in messages) / 1000
    return Drain(
        database=server.name,
        program=program.name,
        events=events,
        seconds=settled_at - first_at,
        first_delivery_seconds=first_at - process.started_at,
        usage=usage,
        delivery=compare(messages, written),
    )


def _unsettled(connection: Any) -> int:
    return int(_scalar(connection, "SELECT COUNT(*) FROM outbox_events WHERE status <> 1"))


def _scalar(connection: Any, query: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchone()[0]
