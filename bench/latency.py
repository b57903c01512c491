"""How long an event takes from its COMMIT to a consumer."""

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any, Final

from bench.backlog import INSERT, WrittenEvent, make_events, migrated_database
from bench.program import Outboxd
from bench.topic import consumer_of, create_topic, parse
from tests.servers.kafka import Kafka
from tests.servers.sql import SqlServer

PATIENCE: Final = 15.0
"""Seconds until an event that has not arrived is lost."""

WARM_UP: Final = 2.0
"""Seconds of writing that are not counted: the producer meets its topic, Python its code."""


@dataclass(frozen=True)
class Latency:
    """Seconds from the answer to COMMIT until a consumer had the message, of `events` events."""

    database: str
    events: int
    per_second: int
    p50: float
    p95: float
    p99: float
    max: float


class Arrivals:
    """A consumer in a thread, which notes when it first saw an event."""

    def __init__(self, kafka: Kafka, topic: str) -> None:
        self.times: dict[str, float] = {}
        """Event id to the time by `time.monotonic`."""
        self._kafka = kafka
        self._topic = topic
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._consume, daemon=True)

    def __enter__(self) -> dict[str, float]:
        self._thread.start()
        return self.times

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _consume(self) -> None:
        with closing(consumer_of(self._kafka, self._topic)) as consumer:
            while not self._over.is_set():
                message = consumer.poll(0.2)
                if message is not None and message.error() is None:
                    self.times.setdefault(parse(message).event_id, time.monotonic())


def measure_latency(
    program: Outboxd, server: SqlServer, kafka: Kafka, log: Path, *, per_second: int, seconds: float
) -> Latency:
    """One connection commits event by event, for WARM_UP and then `seconds`. Raises RuntimeError when one is lost."""
    warm_up = round(WARM_UP * per_second)
    events = make_events(warm_up + round(seconds * per_second), aggregates=1000)
    topic = create_topic(kafka)
    with (
        migrated_database(server) as database,
        server.connect(database) as connection,
        program.start_ready(server.url(database), kafka.bootstrap, log) as process,
        Arrivals(kafka, topic) as arrived,
    ):
        committed = _write(connection, events, topic, per_second)
        deadline = time.monotonic() + PATIENCE
        while len(arrived) < len(events):
            process.check()
            if time.monotonic() > deadline:
                raise RuntimeError(f"{len(events) - len(arrived)} of {len(events)} events have not arrived; see {log}")
            time.sleep(0.05)
        process.stop()
    kafka.delete_topic(topic)
    counted = [arrived[event.event_id] - committed[event.event_id] for event in events[warm_up:]]
    return summarise(counted, server.name, per_second)


def summarise(latencies: Sequence[float], database: str, per_second: int) -> Latency:
    """The percentiles of at least two measurements."""
    percentiles = quantiles(latencies, n=100, method="inclusive")
    return Latency(
        database,
        len(latencies),
        per_second,
        percentiles[49],
        percentiles[94],
        percentiles[98],
        max(latencies),
    )


def _write(connection: Any, events: Sequence[WrittenEvent], topic: str, per_second: int) -> dict[str, float]:
    """Commits the events one by one. Returns when each COMMIT was answered."""
    committed = {}
    with connection.cursor() as cursor:
        for event, due in zip(events, _schedule(per_second), strict=False):
            time.sleep(max(0.0, due - time.monotonic()))
            cursor.execute("START TRANSACTION")
            cursor.execute(INSERT, event.row(topic))
            cursor.execute("COMMIT")
            committed[event.event_id] = time.monotonic()
    return committed


def _schedule(per_second: int) -> Iterator[float]:
    """Times by `time.monotonic`, irregular, so that they are not in step with the polls."""
    chance = random.Random(1)
    start = time.monotonic()
    number = 0
    while True:
        yield start + (number + chance.random()) / per_second
        number += 1
