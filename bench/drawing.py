"""A result as drawings, by matplotlib."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.measurements.contest import Contest
from bench.result import Result

STYLE: Final = {
    "svg.hashsalt": "outboxd",  # the same figures give the same file
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
    figure = Figure(figsize=(4.5 * len(databases), 3), layout="constrained")
    for number, database in enumerate(databases):
        axes = figure.add_subplot(1, len(databases), number + 1)
        axes.set_title(database)
        panel(axes, result.get(name, database))
    return figure


def bars(axes: Axes, contest: Contest) -> None:
    """The median rate of each program, with its rounds."""
    for number, one in enumerate(contest.drained):
        axes.barh(number, one.rate, color=f"C{number}")
        axes.plot(one.rates, [number] * len(one.rates), "k|", markersize=8)
    axes.set_yticks(range(len(contest.drained)), [f"{one.program} {one.variant}".strip() for one in contest.drained])
    axes.invert_yaxis()
    axes.set_xlabel("events/s")


PANELS: Final[dict[str, Callable[[Axes, Any], None]]] = {
    "drain": bars,
}
