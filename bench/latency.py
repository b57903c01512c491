"""How long an event takes from its COMMIT to a consumer."""

import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median, quantiles
from typing import Final

from confluent_kafka import KafkaError, Producer

from bench.backlog import make_events
from bench.program import Process
from bench.topic import PARTITIONS, consumer_of, create_topic, parse
from bench.writer import Writer, steady
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
        self._ready = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._consume, daemon=True)

    def __enter__(self) -> dict[str, float]:
        self._thread.start()
        if not self._ready.wait(PATIENCE):
            raise RuntimeError(f"the consumer has not begun to read {self._topic}")
        return self.times

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _consume(self) -> None:
        with closing(consumer_of(self._kafka, self._topic)) as consumer:
            ended = 0
            while not self._over.is_set():
                message = consumer.poll(0.2)
                if message is None:
                    continue
                error = message.error()
                if error is None:
                    self.times.setdefault(parse(message).event_id, time.monotonic())
                    continue
                ended += error.code() == KafkaError._PARTITION_EOF
                if ended >= PARTITIONS:  # it waits at the end of each
                    self._ready.set()


def latency_of(
    process: Process,
    server: SqlServer,
    database: str,
    kafka: Kafka,
    ledger_file: Path,
    *,
    per_second: int,
    seconds: float,
) -> Latency:
    """An application writes at this rate, for WARM_UP and then `seconds`. Raises RuntimeError when an event is lost."""
    topic = create_topic(kafka)
    load = steady(per_second, WARM_UP + seconds)
    with Writer(server.url(database), topic, load, ledger_file) as writer, Arrivals(kafka, topic) as arrived:
        writer.start()
        ledger = writer.finish()
        deadline = time.monotonic() + PATIENCE
        while len(arrived) < len(ledger.committed):
            process.check()
            if time.monotonic() > deadline:
                raise RuntimeError(f"{len(arrived)} of {len(ledger.committed)} events have arrived by {process}")
            time.sleep(0.05)
    kafka.delete_topic(topic)
    counted = [
        arrived[event] - committed
        for event, committed in ledger.committed.items()
        if committed >= ledger.began + min(WARM_UP, seconds)
    ]
    return summarise(counted, server.name, per_second)


def measure_floor(server: SqlServer, kafka: Kafka, *, per_second: int, seconds: float) -> Latency:
    """The share of the broker and the consumer: a producer in the place of database and daemon."""
    topic = create_topic(kafka)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "linger.ms": 0, "log_level": 0})
    sent: dict[str, float] = {}
    with Arrivals(kafka, topic) as arrived:
        producer.produce(topic, b"", b"", headers={"event_id": "connects"})
        producer.flush(PATIENCE)
        start = time.monotonic()
        for event in make_events(round((WARM_UP + seconds) * per_second), 1000):
            time.sleep(max(0.0, start + len(sent) / per_second - time.monotonic()))
            sent[event.event_id] = time.monotonic()
            producer.produce(topic, event.payload, event.aggregate_id, headers={"event_id": event.event_id})
            producer.poll(0)
        if producer.flush(PATIENCE):
            raise RuntimeError("the broker has not taken everything")
        deadline = time.monotonic() + PATIENCE
        while len(arrived) <= len(sent):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{len(arrived)} of {len(sent) + 1} messages have arrived")
            time.sleep(0.05)
    kafka.delete_topic(topic)
    counted = [arrived[event] - at for event, at in sent.items() if at >= start + min(WARM_UP, seconds)]
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


def middle(sittings: Sequence[Latency]) -> Latency:
    """The median of each percentile; the events of all, and the longest of them."""
    return replace(
        sittings[0],
        events=sum(one.events for one in sittings),
        max=max(one.max for one in sittings),
        **{name: median(getattr(one, name) for one in sittings) for name in ("p50", "p95", "p99")},
    )
