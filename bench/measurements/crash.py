"""kill -9 in the middle of a backlog: what is delivered twice."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bench.backlog import fill, make_events, migrated_database
from bench.drain import PATIENCE, wait_until_drained
from bench.measurements.measurement import Measurement, thousands
from bench.scene import Scene
from bench.topic import Delivery, compare, count_messages, create_topic, read_topic

EVENTS: Final = 100_000
AGGREGATES: Final = 1000
KILLED_AT: Final = 0.3
"""Share of the backlog that is in the topic when the daemon is killed."""


@dataclass(frozen=True)
class Crash:
    """One kill. `takeover_seconds`: from the kill to the end of the drain by the next daemon, which waits for the
    dead one's lease."""

    events: int
    delivered_before: int
    takeover_seconds: float
    delivery: Delivery


def measure(scene: Scene) -> Crash:
    """With default settings. Raises RuntimeError when the daemon was too fast to be killed."""
    server, kafka = scene.server, scene.kafka
    program = scene.outboxd()
    written = make_events(scene.events(EVENTS, least=5000), AGGREGATES)
    topic = create_topic(kafka)
    with migrated_database(server) as database, server.connect(database) as connection:
        fill(connection, written, topic)
        with program.start(server.url(database), kafka.bootstrap, scene.log("killed")) as process:
            deadline = time.monotonic() + PATIENCE
            while (before := count_messages(kafka, topic)) < KILLED_AT * len(written):
                process.check()
                if time.monotonic() > deadline:
                    raise RuntimeError("the daemon has not delivered enough to be killed")
            process.kill()
            killed_at = time.monotonic()
        if before >= len(written):
            raise RuntimeError("the daemon had delivered everything before it was killed")
        with program.start(server.url(database), kafka.bootstrap, scene.log("next")) as process:
            wait_until_drained(process, connection, kafka, topic, len(written), 0)
            takeover_seconds = time.monotonic() - killed_at
            process.stop()
    delivery = compare(read_topic(kafka, topic), written)
    kafka.delete_topic(topic)
    return Crash(len(written), before, takeover_seconds, delivery)


def rows(figures: Crash) -> list[Sequence[str]]:
    """For a table."""
    delivery = figures.delivery
    numbers = (figures.events, figures.delivered_before, delivery.duplicates, delivery.missing, delivery.out_of_order)
    return [(*map(thousands, numbers), f"{figures.takeover_seconds:.1f} s")]


MEASUREMENT: Final = Measurement(
    "crash",
    "kill -9 in the middle of a backlog",
    50,
    Crash,
    measure,
    ("events", "delivered before", "duplicates", "lost", "out of order", "until drained"),
    rows,
)
