"""What the doorbell costs while others fill the binary log, and whether it is heard meanwhile."""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Final

from bench.backlog import migrated_database
from bench.counters import counters, cpu, difference
from bench.latency import Latency, latency_of
from bench.measurements.measurement import Measurement, mebibytes, milliseconds
from bench.program import BELL
from bench.scene import Scene
from bench.traffic import Traffic
from tests.servers.sql import SqlServer

QUIET: Final = "none"
TRAFFIC: Final = {QUIET: None, "rows of 500 KB": 500_000, "rows of 5 KB": 5_000}
"""Bytes of the others' rows. The smaller they are, the more events of the log have to be looked at."""
SECONDS: Final = 8.0
SETTLED: Final = 2.0
"""Seconds from the start of the traffic that are not counted."""
RATE: Final = 20
"""Events of our own per second, behind that."""


@dataclass(frozen=True)
class Beside:
    """One kind of traffic. `cpu`: the share of a core by process: daemon, database; while nobody writes events."""

    traffic: str
    log_bytes_per_second: float
    cpu: dict[str, float]
    peak_rss: int
    latency: Latency
    """Of a few events, which the traffic goes on beside."""


@dataclass(frozen=True)
class Doorbells:
    """All kinds. `bell`: why the doorbell was left out, or empty."""

    lines: list[Beside]
    bell: str

    def of(self, traffic: str) -> Beside | None:
        """One of them."""
        return next((one for one in self.lines if one.traffic == traffic), None)


def measure(scene: Scene) -> Doorbells:
    """One daemon for each kind of traffic, and one without."""
    if scene.bell:
        scene.tell(f"NOT MEASURED: {scene.bell}")
        return Doorbells([], scene.bell)
    lines = []
    for traffic, row_bytes in TRAFFIC.items():
        one = _beside(scene, traffic, row_bytes)
        lines.append(one)
        scene.tell(f"{traffic}: {one.log_bytes_per_second / 1e6:.0f} MB/s, {one.cpu['daemon']:.1%} of a core")
        purge(scene.server)
    return Doorbells(lines, "")


def _beside(scene: Scene, traffic: str, row_bytes: int | None) -> Beside:
    server, kafka, log = scene.server, scene.kafka, scene.log("bell")
    with (
        migrated_database(server) as database,
        server.connect(database) as connection,
        scene.outboxd(BELL).start_ready(server.url(database), kafka.bootstrap, log) as process,
    ):
        pids = {"daemon": process.pid, "database": server.pid}
        with Traffic(server, row_bytes) if row_bytes else nullcontext():
            time.sleep(scene.seconds(SETTLED))
            counted, used, began = counters(connection), cpu(pids), time.monotonic()
            time.sleep(scene.seconds(SECONDS, least=2.0))
            seconds = time.monotonic() - began
            spent, counted = difference(cpu(pids), used), difference(counters(connection), counted)
            ledger = log.with_suffix(".json")
            latency = latency_of(
                process, server, database, kafka, ledger, per_second=RATE, seconds=scene.seconds(SECONDS)
            )
        peak_rss = process.stop().peak_rss
    return Beside(
        traffic,
        counted["binlog_bytes"] / seconds,
        {name: value / seconds for name, value in spent.items()},
        peak_rss,
        latency,
    )


def purge(server: SqlServer) -> None:
    """Deletes the log so far, which the traffic has made large."""
    server.query("FLUSH BINARY LOGS")
    server.query("PURGE BINARY LOGS TO %s", server.query("SHOW BINARY LOGS")[-1][0])


def rows(figures: Doorbells) -> Sequence[Sequence[str]]:
    """For a table."""
    lines = [
        (
            one.traffic,
            f"{one.log_bytes_per_second / 1e6:.1f} MB/s",
            *(f"{one.cpu[process]:.1%}" for process in ("daemon", "database")),
            mebibytes(one.peak_rss),
            *map(milliseconds, (one.latency.p50, one.latency.p99, one.latency.max)),
        )
        for one in figures.lines
    ]
    return lines or [(f"not measured: {figures.bell}", "", "", "", "", "", "", "")]


MEASUREMENT: Final = Measurement(
    "doorbell",
    "Others' traffic in the log",
    lambda scale, _: 25 + 60 * scale,
    Doorbells,
    measure,
    ("others write", "log grows by", "CPU of the daemon", "of the database", "memory", "p50", "p99", "max"),
    rows,
)
