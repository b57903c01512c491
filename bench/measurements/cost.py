"""What an event costs while a backlog is drained: statements, bytes of the logs, CPU of everybody who takes part."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bench.backlog import fill, make_events, migrated_database
from bench.counters import counters, cpu, difference
from bench.drain import wait_until_drained
from bench.measurements.measurement import Measurement, mebibytes
from bench.program import cpu_seconds
from bench.scene import Scene
from bench.topic import create_topic

EVENTS: Final = 100_000
AGGREGATES: Final = 1000
CALM: Final = 0.05
"""Share of a core that the database may use to count as calm."""
LONGEST_CALM: Final = 20.0
"""Seconds; then it is measured all the same."""


@dataclass(frozen=True)
class Cost:
    """Per event. `cpu_us`: by the process: daemon, database, broker."""

    events: int
    seconds: float
    statements: dict[str, float]
    redo_bytes: float
    binlog_bytes: float
    cpu_us: dict[str, float]
    peak_rss: int


@dataclass(frozen=True)
class Observation:
    """What was counted from the start of the daemon until the end of the drain."""

    seconds: float
    counted: dict[str, float]
    cpu: dict[str, float]
    peak_rss: int


def measure(scene: Scene) -> Cost:
    """A run with a backlog, less a run of the same length without one."""
    events = scene.events(EVENTS)
    loaded = observe(scene, events)
    idle = observe(scene, 0, loaded.seconds)
    counted = {name: value / events for name, value in difference(loaded.counted, idle.counted).items()}
    return Cost(
        events,
        loaded.seconds,
        {name: counted[name] for name in counted if not name.endswith("_bytes")},
        counted["redo_bytes"],
        counted["binlog_bytes"],
        {name: seconds / events * 1e6 for name, seconds in difference(loaded.cpu, idle.cpu).items()},
        loaded.peak_rss,
    )


def observe(scene: Scene, events: int, seconds: float = 0.0) -> Observation:
    """Starts a daemon on a backlog, and counts until that is drained, and until so many seconds have passed."""
    server, kafka = scene.server, scene.kafka
    topic = create_topic(kafka)
    pids = {"database": server.pid, "broker": kafka.pid}
    with migrated_database(server) as database, server.connect(database) as connection:
        fill(connection, make_events(events, AGGREGATES), topic)
        wait_until_calm(scene)
        before, used = counters(connection), cpu(pids)
        began = time.monotonic()
        with scene.outboxd().start(server.url(database), kafka.bootstrap, scene.log("cost")) as process:
            wait_until_drained(process, connection, kafka, topic, events, 0)
            while (passed := time.monotonic() - began) < seconds:
                time.sleep(min(0.1, seconds - passed))
                process.check()
            after = difference(counters(connection), before)
            spent = difference(cpu(pids), used) | {"daemon": process.cpu_seconds}
            peak_rss = process.stop().peak_rss
    kafka.delete_topic(topic)
    return Observation(passed, after, spent, peak_rss)


def wait_until_calm(scene: Scene) -> None:
    """Until the database has written back and purged what was written before."""
    deadline = time.monotonic() + LONGEST_CALM
    used = cpu_seconds(scene.server.pid)
    while time.monotonic() < deadline:
        time.sleep(1.0)
        now = cpu_seconds(scene.server.pid)
        if now - used < CALM:
            return
        used = now
    scene.tell(f"{scene.server.name} was not calm within {LONGEST_CALM:.0f} s")


def rows(figures: Cost) -> Sequence[Sequence[str]]:
    """For a table."""
    return [
        ("statements, each a round trip", _listed(figures.statements)),
        ("redo log", f"{figures.redo_bytes:.0f} bytes"),
        ("binary log", f"{figures.binlog_bytes:.0f} bytes"),
        *((f"CPU of the {name}", f"{figures.cpu_us[name]:.1f} µs") for name in ("daemon", "database", "broker")),
        ("peak memory of the daemon (not per event)", mebibytes(figures.peak_rss)),
    ]


def _listed(statements: Mapping[str, float]) -> str:
    total = f"{statements['statements']:.4f}"
    kinds = [f"{name} {value:.4f}" for name, value in statements.items() if name != "statements" and value > 0.00005]
    return f"{total} ({', '.join(kinds)})"


MEASUREMENT: Final = Measurement(
    "cost", "Cost of an event", 35, Cost, measure, ("while draining a backlog", "per event"), rows
)
