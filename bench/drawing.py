"""A result as drawings, by matplotlib."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from bench.measurements.contest import Contest
from bench.measurements.latency import Latencies
from bench.measurements.sustained import Sustained
from bench.result import Result

STYLE: Final[dict[Any, Any]] = {
    "svg.hashsalt": "outboxd",  # the same figures give the same file
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw(result: Result, folder: Path) -> Iterator[Path]:
    """One SVG for each measurement that can be drawn and was made, a panel for each database."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, panel in PANELS.items():
        databases = [database for database in result.databases if result.get(name, database)]
        if databases:
            path = folder / f"{name}.svg"
            with mpl.rc_context(STYLE):
                _figure(result, name, databases, panel).savefig(path, metadata={"Date": None})
            yield path


def _figure(result: Result, name: str, databases: list[str], panel: Callable[[Axes, Any], None]) -> Figure:
    contests = [content for content in (result.get(name, one) for one in databases) if isinstance(content, Contest)]
    height = max([3.0, *(1 + 0.3 * len(contest.drained) for contest in contests)])
    figure = Figure(figsize=(4.5 * len(databases), height), layout="constrained")
    for number, database in enumerate(databases):
        axes = figure.add_subplot(1, len(databases), number + 1)
        axes.set_title(database)
        panel(axes, result.get(name, database))
    return figure


def bars(axes: Axes, contest: Contest) -> None:
    """The median rate of each program and variant, with its rounds."""
    programs = list(dict.fromkeys(one.program for one in contest.drained))
    for number, one in enumerate(contest.drained):
        axes.barh(number, one.rate, color=f"C{programs.index(one.program)}")
        axes.plot(one.rates, [number] * len(one.rates), "k|", markersize=8)
    labels = [f"{one.program}, {one.variant}" if one.variant else one.program for one in contest.drained]
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("events/s; | each round")


def latencies(axes: Axes, figures: Latencies) -> None:
    """p50 and p99 over the rate, for each program and way."""
    ways = list(dict.fromkeys((line.program, line.way) for line in figures.lines))
    for number, way in enumerate(ways):
        lines = [line.latency for line in figures.lines if (line.program, line.way) == way]
        rates = [latency.per_second for latency in lines]
        for label, style, values in (
            ("p50", "o-", [latency.p50 * 1000 for latency in lines]),
            ("p99", "^:", [latency.p99 * 1000 for latency in lines]),
        ):
            axes.plot(rates, values, style, color=f"C{number}", label=f"{' '.join(filter(None, way))} {label}")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("events/s")
    axes.set_ylabel("ms")
    axes.legend(fontsize=7)


def steps(axes: Axes, figures: Sustained) -> None:
    """What was written at each rate that was wanted, and whether it held."""
    for number, one in enumerate(figures.searches):
        for label, marker, holds in (("holds", "o", True), ("does not hold", "x", False)):
            chosen = [step for step in one.steps if step.holds == holds]
            axes.plot(
                [step.wanted for step in chosen],
                [step.written for step in chosen],
                marker,
                color=f"C{number}",
                label=f"{one.program} {label}",
            )
    most = max(step.wanted for one in figures.searches for step in one.steps)
    axes.plot([0, most], [0, most], "k:", linewidth=0.8)
    axes.set_xlabel("events/s wanted")
    axes.set_ylabel("events/s written")
    axes.legend(fontsize=7)


PANELS: Final[dict[str, Callable[[Axes, Any], None]]] = {
    "drain": bars,
    "payloads": bars,
    "aggregates": bars,
    "sent-rows": bars,
    "replicas": bars,
    "sustained": steps,
    "latency": latencies,
}
