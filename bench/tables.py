"""A result as tables: for the terminal, and as Markdown."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.measurements.measurement import Measurement
from bench.registry import MEASUREMENTS
from bench.result import Result
from bench.targets import verdicts


@dataclass(frozen=True)
class Sheet:
    """A table, wherever it is shown."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """Without its title."""
        lines = [self.headings, ["---"] * len(self.headings), *self.rows]
        return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)

    def rich(self) -> Table:
        """For the terminal."""
        table = Table(title=self.title, title_justify="left")
        for number, heading in enumerate(self.headings):
            table.add_column(heading, justify="left" if number < 2 else "right")
        for row in self.rows:
            table.add_row(*row)
        return table


def sheet(result: Result, measurement: Measurement[Any]) -> Sheet:
    """One measurement on all databases. What none of its lines has is left out."""
    rows = []
    for database in result.databases:
        figures = result.get(measurement.name, database)
        if figures is not None:
            rows += [(database, *row) for row in measurement.rows(figures)]
        elif database in result.failures.get(measurement.name, {}):
            reason = result.failures[measurement.name][database].splitlines()[0]
            rows.append((database, f"FAILED: {reason}", *[""] * (len(measurement.headings) - 1)))
    headings = ("database", *measurement.headings)
    used = [number for number in range(len(headings)) if any(row[number] for row in rows)]
    return Sheet(
        measurement.title,
        [headings[number] for number in used],
        [[row[number] for number in used] for row in rows],
    )


def sheets(result: Result) -> Iterator[tuple[str, Sheet]]:
    """By the name of the measurement: those that were made, and the targets."""
    for name, measurement in MEASUREMENTS.items():
        table = sheet(result, measurement)
        if table.rows:
            yield name, table
    yield "targets", targets(result)


def targets(result: Result) -> Sheet:
    """Each target, what was measured, and whether it was reached."""
    words = {True: "yes", False: "**no**", None: "not measured"}
    return Sheet(
        "Targets",
        ("database", "target", "wanted", "measured", "reached"),
        [(one.database, one.target, one.wanted, one.measured, words[one.reached]) for one in verdicts(result)],
    )


def show(result: Result, console: Console) -> None:
    """Prints all tables."""
    console.print(", ".join(f"{name} {value}" for name, value in result.machine.items()), style="dim", highlight=False)
    for _, table in sheets(result):
        console.print(table.rich())
