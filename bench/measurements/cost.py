"""What an event costs while a backlog is drained: statements, bytes of the logs, CPU of everybody who takes part."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bench.backlog import fill, make_events
from bench.contenders import contenders
from bench.counters import counters, cpu, difference
from bench.drain import newest_id, wait_until_drained
from bench.measurements.measurement import Measurement, cpu_per_event, mebibytes
from bench.scene import Scene
from bench.stage import Contender
from bench.topic import create_topic

EVENTS: Final = 100_000
AGGREGATES: Final = 1000


@dataclass(frozen=True)
class Cost:
    """Of one program, per event. `cpu_us`: by the process: daemon (whoever it is), database, broker."""

    program: str
    events: int
    seconds: float
    statements: dict[str, float]
    redo_bytes: float
    binlog_bytes: float
    cpu_us: dict[str, float]
    peak_rss: int


@dataclass(frozen=True)
class Costs:
    """All programs."""

    costs: list[Cost]

    def of(self, program: str) -> Cost | None:
        """One of them."""
        return next((one for one in self.costs if one.program == program), None)


@dataclass(frozen=True)
class Observation:
    """What was counted from the start of the program until the end of the drain, and by the database until it had
    purged behind it."""

    seconds: float
    counted: dict[str, float]
    cpu: dict[str, float]
    peak_rss: int


def measure(scene: Scene) -> Costs:
    """All contenders."""
    with contenders(scene) as found:
        return Costs([_cost(scene, one) for one in found])


def _cost(scene: Scene, contender: Contender) -> Cost:
    """A run with a backlog, less a run of the same length without one."""
    events = scene.events(EVENTS)
    loaded = observe(scene, contender, events)
    idle = observe(scene, contender, 0, loaded.seconds)
    counted = {name: value / events for name, value in difference(loaded.counted, idle.counted).items()}
    return Cost(
        contender.name,
        events,
        loaded.seconds,
        {name: counted[name] for name in counted if not name.endswith("_bytes")},
        counted["redo_bytes"],
        counted["binlog_bytes"],
        {name: seconds / events * 1e6 for name, seconds in difference(loaded.cpu, idle.cpu).items()},
        loaded.peak_rss,
    )


def observe(scene: Scene, contender: Contender, events: int, seconds: float = 0.0) -> Observation:
    """It begins on a backlog; counts until that is drained, and until so many seconds have passed."""
    topic = create_topic(scene.kafka)
    pids = {"database": scene.server.pid, "broker": scene.kafka.pid}
    with contender.stage() as stage:
        low = newest_id(stage.connection)
        fill(stage.connection, make_events(events, AGGREGATES), topic)
        scene.wait_until_calm()
        before, used = counters(stage.connection), cpu(pids)
        began = time.monotonic()
        with stage.delivering() as process:
            own = process.cpu_seconds
            wait_until_drained(process, stage.connection, scene.kafka, topic, events, low)
            while (passed := time.monotonic() - began) < seconds:
                time.sleep(min(0.1, seconds - passed))
                process.check()
            spent = {"daemon": process.cpu_seconds - own, "broker": cpu(pids)["broker"] - used["broker"]}
            peak_rss = process.peak_rss
        scene.wait_until_calm()  # what was changed is purged behind the drain, and that is part of the price
        after = difference(counters(stage.connection), before)
        spent["database"] = cpu(pids)["database"] - used["database"]
    scene.kafka.delete_topic(topic)
    return Observation(passed, after, spent, peak_rss)


def rows(figures: Costs) -> Sequence[Sequence[str]]:
    """For a table."""
    return [
        (
            one.program,
            _listed(one.statements),
            f"{one.redo_bytes:.0f} bytes",
            f"{one.binlog_bytes:.0f} bytes",
            *(cpu_per_event(one.cpu_us[name], one.events) for name in ("daemon", "database", "broker")),
            mebibytes(one.peak_rss),
        )
        for one in figures.costs
    ]


def _listed(statements: Mapping[str, float]) -> str:
    total = f"{statements['statements']:.4f}"
    kinds = [f"{name} {value:.4f}" for name, value in statements.items() if name != "statements" and value > 0.00005]
    return f"{total} ({', '.join(kinds)})" if kinds else total


MEASUREMENT: Final = Measurement(
    "cost",
    "Cost of an event",
    lambda scale, _: 40 + 110 * scale,
    Costs,
    measure,
    (
        "program",
        "statements, each a round trip",
        "redo log",
        "binary log",
        "its CPU",
        "of the database",
        "of the broker",
        "peak memory (not per event)",
    ),
    rows,
)
