"""What a daemon costs that has nothing to do."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bench.contenders import bare_loop, outboxd, peers
from bench.counters import counters, cpu, difference
from bench.measurements.latency import DOORBELL, POLLING
from bench.measurements.measurement import Measurement, mebibytes
from bench.program import BELL, Outboxd
from bench.scene import Scene
from bench.stage import Contender

SECONDS: Final = 15.0
"""A multiple of what the workers rest: heartbeats each 3 s, gauges each 5 s."""
SETTLED: Final = 3.0
"""Seconds after the start that are not counted."""
OWN_STATEMENTS: Final = 2
"""Of `counters`."""


@dataclass(frozen=True)
class Idle:
    """One way to wait. `cpu`: share of a core by process: daemon (whoever it is), database, broker."""

    program: str
    way: str
    seconds: float
    statements_per_second: float
    cpu: dict[str, float]
    peak_rss: int


@dataclass(frozen=True)
class Idles:
    """All ways. `bell`: why the doorbell was left out, or empty."""

    ways: list[Idle]
    bell: str

    def of(self, program: str, way: str) -> Idle | None:
        """One of them."""
        return next((one for one in self.ways if (one.program, one.way) == (program, way)), None)


def measure(scene: Scene) -> Idles:
    """An empty table."""
    ways = [_idle(scene, POLLING, bare_loop(scene)), _idle(scene, POLLING, outboxd(scene))]
    if scene.bell:
        scene.tell(f"NOT MEASURED with the doorbell: {scene.bell}")
    else:
        ways.append(_idle(scene, DOORBELL, outboxd(scene, BELL)))
    with peers(scene) as others:
        return Idles([*ways, *(_idle(scene, "", peer) for peer in others)], scene.bell)


def _idle(scene: Scene, way: str, contender: Contender) -> Idle:
    with contender.stage() as stage, stage.ready() as process:
        pids = {"daemon": process.pid, "database": scene.server.pid, "broker": scene.kafka.pid}
        time.sleep(scene.seconds(SETTLED))
        counted, used, began = counters(stage.connection), cpu(pids), time.monotonic()
        time.sleep(scene.seconds(SECONDS, least=2.0))
        seconds = time.monotonic() - began
        spent = difference(cpu(pids), used)
        counted = difference(counters(stage.connection), counted)
        peak_rss = process.peak_rss
    return Idle(
        contender.name,
        way,
        seconds,
        (counted["statements"] - OWN_STATEMENTS) / seconds,
        {name: value / seconds for name, value in spent.items()},
        peak_rss,
    )


def rows(figures: Idles) -> Sequence[Sequence[str]]:
    """For a table."""
    lines = [
        (
            one.program,
            one.way,
            f"{one.statements_per_second:.1f}",
            *(f"{one.cpu[name]:.1%}" if name in one.cpu else "" for name in ("daemon", "database", "broker")),
            mebibytes(one.peak_rss),
        )
        for one in figures.ways
    ]
    if figures.bell:
        lines.append((Outboxd().name, DOORBELL, f"not measured: {figures.bell}", "", "", "", ""))
    return lines


MEASUREMENT: Final = Measurement(
    "idle",
    "Nothing to do",
    lambda scale, _: 40 + 72 * scale,
    Idles,
    measure,
    ("program", "", "statements/s", "its CPU", "of the database", "of the broker", "memory"),
    rows,
)
