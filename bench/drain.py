"""How fast a program drains a backlog."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.backlog import PAYLOAD, WrittenEvent, fill, make_events, migrated_database, scalar
from bench.program import Process, Program, Usage
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
    program: Program,
    server: SqlServer,
    kafka: Kafka,
    log: Path,
    *,
    events: int,
    aggregates: int,
    payload: int = PAYLOAD,
) -> Drain:
    """Writes a backlog into a database of its own, and has the program drain it. Raises RuntimeError when it fails."""
    with migrated_database(server) as database:
        return drain_in(database, program, server, kafka, log, make_events(events, aggregates, payload=payload))


def drain_in(
    database: str, program: Program, server: SqlServer, kafka: Kafka, log: Path, written: Sequence[WrittenEvent]
) -> Drain:
    """Writes a backlog, lets the program drain it, and compares the topic with what was written.

    While it drains, it is watched by one small request to the broker every WATCH_INTERVAL seconds; both ends of the
    drain are read afterwards, from the topic's and the rows' own timestamps. Raises RuntimeError when it fails.
    """
    topic = create_topic(kafka)
    with server.connect(database) as connection:
        low = newest_id(connection)
        fill(connection, written, topic)
        with program.start(server.url(database), kafka.bootstrap, log) as process:
            wait_until_drained(process, connection, kafka, topic, len(written), low)
            usage = process.stop()
        settled_at = last_settled_at(connection, low)
    messages = list(read_topic(kafka, topic))
    kafka.delete_topic(topic)
    first_at = min(message.appended_ms for message in messages) / 1000
    return Drain(
        database=server.name,
        program=program.name,
        events=len(written),
        seconds=settled_at - first_at,
        first_delivery_seconds=first_at - process.started_at,
        usage=usage,
        delivery=compare(messages, written),
    )


def newest_id(connection: Any) -> int:
    """0 in an empty table."""
    return int(scalar(connection, "SELECT COALESCE(MAX(id), 0) FROM outbox_events"))


def last_settled_at(connection: Any, low: int) -> float:
    """The database's time of the last settle of the rows behind `low`, in seconds since the epoch."""
    return float(scalar(connection, f"SELECT UNIX_TIMESTAMP(MAX(updated_at)) FROM outbox_events WHERE id > {low}"))


def wait_until_drained(process: Process, connection: Any, kafka: Kafka, topic: str, events: int, low: int) -> None:
    """Until `events` messages are in the topic and, if it settles, all rows behind `low` are. Raises RuntimeError."""
    unsettled = f"SELECT COUNT(*) FROM outbox_events WHERE id > {low} AND status <> 1"

    def drained() -> bool:
        return count_messages(kafka, topic) >= events and not (process.settles and scalar(connection, unsettled))

    process.until(drained, "drained", PATIENCE, WATCH_INTERVAL)
