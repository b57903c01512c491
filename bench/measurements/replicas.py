"""Several daemons on one table, which share its lanes; beside one bare loop, and one peer."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

from bench.backlog import WrittenEvent, fill, fill_at_once, make_events
from bench.contenders import contenders
from bench.drain import Drain, last_settled_at, newest_id, wait_until_drained
from bench.measurements import contest
from bench.measurements.contest import Contest
from bench.measurements.measurement import Measurement
from bench.program import Outboxd, Process, Usage
from bench.scene import Scene, fewer
from bench.stage import Contender, Stage
from bench.topic import compare, create_topic, read_topic

EVENTS: Final = 60_000
AGGREGATES: Final = 1000
NUMBERS: Final = (1, 2, 4)
OUTBOXD: Final = Outboxd().name
PATIENCE: Final = 60.0
"""Seconds for the replicas to share the lanes."""


def measure(scene: Scene) -> Contest:
    """1, 2 and 4 daemons, beside one of each other contender."""
    with contenders(scene) as found:
        turns = {
            (variant(number), one.name): partial(drain, scene, one, number)
            for number in NUMBERS
            for one in found
            if number == 1 or one.name == OUTBOXD
        }
        return contest.hold(scene, turns, scene.fewer_rounds)


def variant(number: int) -> str:
    """As the table calls it."""
    return f"{number} replica{'s' if number > 1 else ''}"


def drain(scene: Scene, contender: Contender, number: int) -> Drain:
    """The backlog appears in one transaction, when the replicas have shared the lanes. CPU and memory are of all."""
    kafka = scene.kafka
    written = make_events(scene.events(EVENTS), AGGREGATES)
    topic = create_topic(kafka)
    with contender.stage() as stage, ExitStack() as stack:
        processes = [stack.enter_context(stage.ready()) for _ in range(number)]
        if number > 1:
            _wait_until_shared(stage.connection, processes)
        if ahead := contender.run_up(len(written)):
            _deliver(scene, stage, processes[0], ahead)
        low = newest_id(stage.connection)
        before = [process.cpu_seconds for process in processes]
        fill_at_once(stage.connection, written, topic)
        committed_at = time.time()
        wait_until_drained(processes[0], stage.connection, kafka, topic, len(written), low)
        cpu = sum(process.cpu_seconds - used for process, used in zip(processes, before, strict=True))
        peak_rss = sum(process.peak_rss for process in processes)
        settled_at = last_settled_at(stage.connection, low) if processes[0].settles else 0.0
    messages = list(read_topic(kafka, topic))
    kafka.delete_topic(topic)
    times = [message.appended_ms / 1000 for message in messages]
    start = scene.starts.get(contender.name, Usage(0, 0)).cpu_seconds  # `summarise` takes it away again
    return Drain(
        database=scene.server.name,
        program=contender.name,
        events=len(written),
        seconds=(settled_at or max(times)) - min(times),
        first_delivery_seconds=min(times) - committed_at,
        usage=Usage(cpu + start, peak_rss),
        delivery=compare(messages, written),
    )


def _deliver(scene: Scene, stage: Stage, process: Process, events: Sequence[WrittenEvent]) -> None:
    topic = create_topic(scene.kafka)
    low = newest_id(stage.connection)
    fill(stage.connection, events, topic)
    wait_until_drained(process, stage.connection, scene.kafka, topic, len(events), low)
    scene.kafka.delete_topic(topic)


def _wait_until_shared(connection: Any, processes: Sequence[Process]) -> None:
    deadline = time.monotonic() + PATIENCE
    with connection.cursor() as cursor:
        while True:
            cursor.execute("SELECT owner, COUNT(*) FROM outbox_lanes GROUP BY owner")
            shares = [lanes for owner, lanes in cursor.fetchall() if owner is not None]
            if len(shares) == len(processes) and sum(shares) == 64 and max(shares) - min(shares) <= 1:
                return
            for process in processes:
                process.check()
            if time.monotonic() > deadline:
                raise RuntimeError(f"{len(processes)} replicas have not shared the lanes: {shares}")
            time.sleep(0.05)


MEASUREMENT: Final = Measurement(
    "replicas",
    "Replicas",
    lambda scale, rounds: 28 + fewer(rounds) * (20 + 45 * scale),
    Contest,
    measure,
    contest.HEADINGS,
    contest.rows,
)
