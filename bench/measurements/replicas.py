"""Several daemons on one table: they share its lanes."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

from bench.backlog import fill_at_once, make_events, migrated_database
from bench.drain import Drain, last_settled_at, wait_until_drained
from bench.measurements import contest
from bench.measurements.contest import Contest
from bench.measurements.measurement import Measurement
from bench.program import Outboxd, Process, Usage
from bench.scene import Scene
from bench.topic import compare, create_topic, read_topic

EVENTS: Final = 60_000
AGGREGATES: Final = 1000
NUMBERS: Final = (1, 2, 4)
PATIENCE: Final = 60.0
"""Seconds for the replicas to share the lanes."""


def measure(scene: Scene) -> Contest:
    """1, 2 and 4 daemons."""
    program = scene.outboxd()
    turns = {(variant(number), program.name): partial(drain, scene, program, number) for number in NUMBERS}
    return contest.hold(scene, turns, scene.fewer_rounds)


def variant(number: int) -> str:
    """As the table calls it."""
    return f"{number} replica{'s' if number > 1 else ''}"


def drain(scene: Scene, program: Outboxd, number: int) -> Drain:
    """The backlog appears in one transaction, when the replicas have shared the lanes. CPU and memory are of all."""
    server, kafka = scene.server, scene.kafka
    written = make_events(scene.events(EVENTS), AGGREGATES)
    topic = create_topic(kafka)
    with migrated_database(server) as database, server.connect(database) as connection, ExitStack() as stack:
        processes = [
            stack.enter_context(program.start_ready(server.url(database), kafka.bootstrap, scene.log(program)))
            for _ in range(number)
        ]
        _wait_until_shared(connection, processes)
        before = [process.cpu_seconds for process in processes]
        fill_at_once(connection, written, topic)
        committed_at = time.time()
        wait_until_drained(processes[0], connection, kafka, topic, len(written), 0)
        cpu = sum(process.cpu_seconds - used for process, used in zip(processes, before, strict=True))
        usages = [process.stop() for process in processes]
        settled_at = last_settled_at(connection, 0)
    messages = list(read_topic(kafka, topic))
    kafka.delete_topic(topic)
    first_at = min(message.appended_ms for message in messages) / 1000
    start = scene.starts.get(program.name, Usage(0, 0)).cpu_seconds  # `summarise` takes it away again
    return Drain(
        database=server.name,
        program=program.name,
        events=len(written),
        seconds=settled_at - first_at,
        first_delivery_seconds=first_at - committed_at,
        usage=Usage(cpu + start, sum(usage.peak_rss for usage in usages)),
        delivery=compare(messages, written),
    )


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


MEASUREMENT: Final = Measurement("replicas", "Replicas", 85, Contest, measure, contest.HEADINGS, contest.rows)
