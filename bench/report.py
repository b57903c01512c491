"""The figures of a run: as tables, as JSON, and against their targets."""

import json
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from bench.drain import Drain
from bench.latency import Latency
from bench.program import Usage

RESULTS: Final = Path(__file__).parent / "results"
LEAST_RATIO: Final = 0.6
MOST_LATENCY: Final = 0.040
"""Seconds, for the median, with polling at 50 ms."""

PACKAGES: Final = ("outboxd", "aiokafka", "PyMySQL", "SQLAlchemy", "confluent-kafka")


@dataclass(frozen=True)
class Comparison:
    """The drains of one program against those of the ruler, round by round, on one database."""

    database: str
    ruler: Sequence[Drain]
    program: Sequence[Drain]

    @property
    def ratio(self) -> float:
        """Of the median rates."""
        return median(drain.rate for drain in self.program) / median(drain.rate for drain in self.ruler)

    @property
    def ratios(self) -> list[float]:
        """Of each round."""
        return [own.rate / bare.rate for own, bare in zip(self.program, self.ruler, strict=True)]


@dataclass(frozen=True)
class Figures:
    """Everything that a run has measured. `servers`: their versions by name; `starts`: by database and program."""

    servers: dict[str, str]
    comparisons: Sequence[Comparison]
    starts: dict[tuple[str, str], Usage]
    latencies: Sequence[Latency]

    def machine(self) -> dict[str, Any]:
        """On what it was measured."""
        return {
            "cpus": os.cpu_count(),
            "cpu": _cpu(),
            "system": f"{platform.system()} {platform.release()}",
            "python": platform.python_version(),
            **{package: version(package) for package in PACKAGES},
            **self.servers,
        }

    def shortfalls(self) -> list[str]:
        """What was not reached, a line each."""
        flaws = [
            f"{drain.database}: {drain.program} delivered {drain.delivery}"
            for comparison in self.comparisons
            for drain in (*comparison.ruler, *comparison.program)
            if not drain.delivery.flawless
        ]
        slow = [
            f"{comparison.database}: throughput is {comparison.ratio:.2f} of the bare loop, less than {LEAST_RATIO}"
            for comparison in self.comparisons
            if comparison.ratio < LEAST_RATIO
        ]
        late = [
            f"{latency.database}: p50 is {latency.p50 * 1000:.1f} ms, not under {MOST_LATENCY * 1000:.0f} ms"
            for latency in self.latencies
            if latency.p50 >= MOST_LATENCY
        ]
        return flaws + slow + late


def save(figures: Figures, settings: Sequence[str]) -> Path:
    """Writes the figures as JSON to `bench/results/`."""
    now = datetime.now(UTC)
    content = {
        "at": now.isoformat(timespec="seconds"),
        "machine": figures.machine(),
        "settings": list(settings),
        "drains": [
            _drain_as_dict(drain, figures.starts[drain.database, drain.program])
            for comparison in figures.comparisons
            for drain in (*comparison.ruler, *comparison.program)
        ],
        "ratios": {
            comparison.database: {"median": comparison.ratio, "rounds": comparison.ratios}
            for comparison in figures.comparisons
        },
        "latencies": [asdict(latency) for latency in figures.latencies],
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"quick-{now:%Y%m%dT%H%M%S}.json"
    path.write_text(json.dumps(content, indent=2) + "\n")
    return path


def _drain_as_dict(drain: Drain, start: Usage) -> dict[str, Any]:
    return {
        "database": drain.database,
        "program": drain.program,
        "events": drain.events,
        "seconds": drain.seconds,
        "events_per_second": drain.rate,
        "first_delivery_seconds": drain.first_delivery_seconds,
        "cpu_us_per_event": drain.cpu_us_per_event(start),
        "peak_rss_bytes": drain.usage.peak_rss,
        "delivery": drain.delivery._asdict(),
    }


def show(figures: Figures, console: Console) -> None:
    """Prints the tables."""
    console.print(", ".join(f"{name} {value}" for name, value in figures.machine().items()), style="dim")
    console.print(_throughput(figures))
    if figures.latencies:
        console.print(_latency(figures.latencies))


def _throughput(figures: Figures) -> Table:
    table = Table(title="Drain of a backlog", title_justify="left")
    for heading in ("database", "program"):
        table.add_column(heading)
    for heading in ("events/s (median)", "rounds", "of the bare loop", "CPU/event", "peak RSS", "first delivery"):
        table.add_column(heading, justify="right")
    for comparison in figures.comparisons:
        ratios = comparison.ratios
        bounds = f"{comparison.ratio:.2f} ({min(ratios):.2f}..{max(ratios):.2f})"
        for drains, ratio in ((comparison.ruler, ""), (comparison.program, bounds)):
            start = figures.starts[drains[0].database, drains[0].program]
            table.add_row(
                comparison.database,
                drains[0].program,
                f"{median(drain.rate for drain in drains):,.0f}",
                " ".join(f"{drain.rate:,.0f}" for drain in drains),
                ratio,
                f"{median(drain.cpu_us_per_event(start) for drain in drains):.1f} us",
                f"{max(drain.usage.peak_rss for drain in drains) / 2**20:.0f} MiB",
                f"{median(drain.first_delivery_seconds for drain in drains):.2f} s",
            )
    return table


def _latency(latencies: Iterable[Latency]) -> Table:
    table = Table(title="From COMMIT to the consumer", title_justify="left")
    table.add_column("database")
    for heading in ("events", "events/s", "p50", "p95", "p99", "max"):
        table.add_column(heading, justify="right")
    for latency in latencies:
        times = (latency.p50, latency.p95, latency.p99, latency.max)
        table.add_row(
            latency.database,
            str(latency.events),
            str(latency.per_second),
            *(f"{seconds * 1000:.1f} ms" for seconds in times),
        )
    return table


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
