"""kill -9 in the middle of a backlog: what is delivered twice."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bench.backlog import fill, make_events, migrated_database
from bench.contenders import peers
from bench.drain import PATIENCE, wait_until_drained
from bench.measurements.measurement import Measurement, thousands
from bench.scene import Scene
from bench.topic import Delivery, compare, count_messages, create_topic, read_topic

EVENTS: Final = 100_000
AGGREGATES: Final = 1000
KILLED_AT: Final = 0.5
"""Share of the backlog that is in the topic when the program is killed."""


@dataclass(frozen=True)
class Crash:
    """One kill. `takeover_seconds`: from the kill to the end of the drain by the next process. outboxd's waits for the
    dead one's lease. (Runs of old have none of a peer.)"""

    program: str
    events: int
    delivered_before: int
    takeover_seconds: float | None
    delivery: Delivery


@dataclass(frozen=True)
class Crashes:
    """All programs."""

    crashes: list[Crash]

    def of(self, program: str) -> Crash | None:
        """One of them."""
        return next((one for one in self.crashes if one.program == program), None)


def measure(scene: Scene) -> Crashes:
    """One kill of each."""
    events = scene.events(EVENTS, least=20_000)
    crashes = [_crash(scene, events)]
    with peers(scene, tuned=[False]) as others:
        for peer in others:
            done = peer.kill(events, AGGREGATES, KILLED_AT)
            crashes.append(Crash(peer.name, events, *done))
    return Crashes(crashes)


def _crash(scene: Scene, events: int) -> Crash:
    """With default settings. Raises RuntimeError when the daemon was too fast to be killed."""
    server, kafka = scene.server, scene.kafka
    program = scene.outboxd()
    written = make_events(events, AGGREGATES)
    topic = create_topic(kafka)
    with migrated_database(server) as database, server.connect(database) as connection:
        fill(connection, written, topic)
        with program.start(server.url(database), kafka.bootstrap, scene.log("killed")) as process:
            enough = KILLED_AT * len(written)
            process.until(lambda: count_messages(kafka, topic) >= enough, "enough is delivered", PATIENCE)
            process.kill()
            killed_at = time.monotonic()
        before = count_messages(kafka, topic)
        if before >= len(written):
            raise RuntimeError("the daemon had delivered everything before it was killed")
        with program.start(server.url(database), kafka.bootstrap, scene.log("next")) as process:
            wait_until_drained(process, connection, kafka, topic, len(written), 0)
            takeover_seconds = time.monotonic() - killed_at
            process.stop()
    delivery = compare(read_topic(kafka, topic), written)
    kafka.delete_topic(topic)
    return Crash(program.name, len(written), before, takeover_seconds, delivery)


def rows(figures: Crashes) -> Sequence[Sequence[str]]:
    """For a table."""
    lines = []
    for one in figures.crashes:
        found = one.delivery
        numbers = (one.events, one.delivered_before, found.duplicates, found.missing, found.out_of_order)
        until = "" if one.takeover_seconds is None else f"{one.takeover_seconds:.1f} s"
        lines.append((one.program, *map(thousands, numbers), until))
    return lines


MEASUREMENT: Final = Measurement(
    "crash",
    "kill -9 in the middle of a backlog",
    lambda scale, _: 50 + 40 * scale,
    Crashes,
    measure,
    ("program", "events", "delivered before", "duplicates", "lost", "out of order", "until drained"),
    rows,
)
