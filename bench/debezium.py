"""The peer that a user would pick: Debezium's outbox event router. `debezium.md` tells how it is measured."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench.backlog import PAYLOAD, WrittenEvent, fill, make_events, migrated_database
from bench.debezium_worker import Worker
from bench.drain import PATIENCE, WATCH_INTERVAL, Drain
from bench.program import Process, Usage
from bench.scene import Scene
from bench.topic import Delivery, compare, count_messages, create_topic, read_topic

WARM_UP: Final = 50_000
"""Events that a worker delivers before it is measured: Java has compiled by then what runs often. Fewer in a trial."""
SETTLE: Final = 3.0
"""Seconds after the warm-up, for what it left behind: compilers, collectors, dirty pages."""
REST: Final = 1.5
"""Seconds over which the use at rest is measured, three times: the least of them, as Java may still compile."""

RUN_UP: Final = 0.2
"""Share of a backlog that goes ahead of it and is not measured: a task that was resumed is slow for some tenths of a
second."""
LEAST_RUN_UP: Final = 20_000
"""Events, however small the backlog is. Fewer in a trial."""

_serial = count(100)  # also seeds: apart from those of the measured events


class Killed(NamedTuple):
    """What was delivered before the kill, how long the rest took from then on, and what the topic held in the end."""

    delivered_before: int
    takeover_seconds: float
    delivery: Delivery


@dataclass
class WorkerStage:
    """A warm worker, whose task is stopped: it reads nothing of what is written meanwhile."""

    debezium: "Debezium"
    worker: Worker
    database: str
    connection: Any

    @cached_property
    def rest(self) -> float:
        """The share of a core that it uses all the same."""
        return min(self.worker.at_rest(REST) for _ in range(3))

    @cached_property
    def begin(self) -> float:
        """Seconds of CPU from when it is resumed until it delivers: that its task starts."""
        used = self.worker.cpu_seconds
        with self.ready():
            return self.worker.cpu_seconds - used

    @contextmanager
    def delivering(self) -> Iterator[Process]:
        """See `Stage`."""
        self.worker.resume()
        yield self.worker
        self.worker.hold()

    @contextmanager
    def ready(self) -> Iterator[Process]:
        """See `Stage`."""
        with self.delivering():
            self.debezium.await_stream(self.worker, self.connection)
            yield self.worker

    def clear(self) -> None:
        """For the next turn: an empty table, and past what others have written to the log."""
        with self.connection.cursor() as cursor:
            cursor.execute("TRUNCATE TABLE outbox_events")
        with self.ready():
            pass


@dataclass
class Debezium:
    """Kafka Connect with Debezium's connector, `tuned` or with default settings.

    Its worker is started and warmed for the first turn, and lives as long as `kept`. Where it is, it saves in a folder
    by database.
    """

    scene: Scene
    kept: ExitStack
    tuned: bool
    _stage: WorkerStage | None = field(default=None, init=False)

    @property
    def name(self) -> str:
        """See `Contender`."""
        return f"Debezium, {'tuned' if self.tuned else 'default'}"

    @contextmanager
    def stage(self) -> Iterator[WorkerStage]:
        """See `Contender`."""
        if self._stage is None:
            self._stage = self.kept.enter_context(self._open())
        self._stage.clear()
        yield self._stage

    @contextmanager
    def _open(self) -> Iterator[WorkerStage]:
        server = self.scene.server
        with (
            migrated_database(server) as database,
            server.connect(database) as connection,
            self._start(database) as worker,
        ):
            self.await_stream(worker, connection)
            topic = create_topic(self.scene.kafka)
            events = min(WARM_UP, self.scene.events(2 * WARM_UP))
            fill(connection, make_events(events, 1000, seed=next(_serial)), topic)
            self._await(worker, topic, events)
            time.sleep(SETTLE)
            worker.hold()
            yield WorkerStage(self, worker, database, connection)

    def run_up(self, events: int, /) -> Sequence[WrittenEvent]:
        """See `Contender`."""
        least = min(LEAST_RUN_UP, self.scene.events(2 * LEAST_RUN_UP))
        return make_events(max(least, round(RUN_UP * events)), 1000, next(_serial))

    def _start(self, database: str) -> Worker:
        """Starts where it was when it last ended, or at what is written from now on."""
        scene = self.scene
        folder: Path = scene.folder / "debezium" / scene.server.product / self.name.replace(", ", "-") / database
        return Worker(scene.server, database, scene.kafka.bootstrap, folder, scene.log(self.name), tuned=self.tuned)

    def await_stream(self, worker: Worker, connection: Any) -> None:
        """Waits until what is written arrives. What was written before its first start never does."""
        topic = create_topic(self.scene.kafka)

        def arrived() -> int:
            fill(connection, make_events(1, 1, seed=next(_serial)), topic)
            return count_messages(self.scene.kafka, topic)

        worker.until(arrived, "a first message", interval=WATCH_INTERVAL)

    def _await(self, worker: Worker, topic: str, number: int) -> None:
        kafka = self.scene.kafka
        worker.until(
            lambda: count_messages(kafka, topic) >= number, f"{number} messages", PATIENCE, interval=WATCH_INTERVAL
        )

    def drain(self, *, events: int, aggregates: int, payload: int = PAYLOAD) -> Drain:
        """See `Contender`. From the first to the last message behind the run-up, by the broker's time.

        `first_delivery_seconds`: from the resumption. `usage`: the backlog's share of the CPU from before it was
        written to the last message, less what it uses at rest and to begin: compare it with Usage(0, 0). (That share
        is right where the backlog's events are as small as the run-up's.) The most memory is that of its whole life.
        """
        kafka = self.scene.kafka
        run_up = self.run_up(events)
        written = make_events(events, aggregates, payload=payload)
        everything = [*run_up, *written]
        topic = create_topic(kafka)
        with self.stage() as stage:
            worker, rest, begin = stage.worker, stage.rest, stage.begin
            used, since = worker.cpu_seconds, time.monotonic()
            fill(stage.connection, everything, topic)
            resumed_at = time.time()
            with stage.delivering():
                self._await(worker, topic, len(everything))
                used = worker.cpu_seconds - used - begin - rest * (time.monotonic() - since)
            usage = Usage(used * events / len(everything), worker.peak_rss)
        messages = list(read_topic(kafka, topic))
        kafka.delete_topic(topic)
        first_at = min(message.appended_ms for message in messages) / 1000
        ahead = {event.event_id for event in run_up}
        messages = [message for message in messages if message.event_id not in ahead]
        times = [message.appended_ms / 1000 for message in messages]
        return Drain(
            database=self.scene.server.name,
            program=self.name,
            events=events,
            seconds=max(times) - min(times),
            first_delivery_seconds=first_at - resumed_at,
            usage=usage,
            delivery=compare(messages, written),
        )

    def first_delivery(self) -> float:
        """Seconds from the start of a process to the broker's time of the first message, which waits for it."""
        scene = self.scene
        topic = create_topic(scene.kafka)
        with migrated_database(scene.server) as database, scene.server.connect(database) as connection:
            self._run_once(database, connection)
            fill(connection, make_events(1, 1), topic)
            with self._start(database) as worker:
                self._await(worker, topic, 1)
                worker.stop()
        (message,) = read_topic(scene.kafka, topic)
        return message.appended_ms / 1000 - worker.started_at

    def kill(self, events: int, aggregates: int, killed_at: float) -> Killed:
        """kill -9 when this share of a backlog is delivered; the next start delivers the rest."""
        scene = self.scene
        written = make_events(events, aggregates)
        topic, last = create_topic(scene.kafka), create_topic(scene.kafka)
        with migrated_database(scene.server) as database, scene.server.connect(database) as connection:
            self._run_once(database, connection)
            fill(connection, written, topic)
            with self._start(database) as worker:
                self._await(worker, topic, round(killed_at * events))
                worker.kill()
            began = time.monotonic()
            delivered_before = count_messages(scene.kafka, topic)
            if delivered_before >= events:
                raise RuntimeError(f"{self.name} had delivered everything before it was killed")
            fill(connection, make_events(1, 1, seed=next(_serial)), last)
            with self._start(database) as worker:
                self._await(worker, last, 1)  # it reads in order: the rest is delivered
                takeover_seconds = time.monotonic() - began
                worker.stop()  # it sends what it has taken before it ends
        return Killed(delivered_before, takeover_seconds, compare(read_topic(scene.kafka, topic), written))

    def _run_once(self, database: str, connection: Any) -> None:
        """It has a place in the log to go on from: a first start passes over what waits."""
        with self._start(database) as worker:
            self.await_stream(worker, connection)
            worker.stop()
