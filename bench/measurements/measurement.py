"""What every measurement has in common."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from pydantic import TypeAdapter

from bench.scene import Scene

FiguresT = TypeVar("FiguresT")

LEAST_EVENTS: Final = 50_000
"""Of a backlog for which CPU per event is shown: in less, what a start uses more or less than another is most of it."""


@dataclass(frozen=True)
class Measurement(Generic[FiguresT]):
    """One entry of the table of measurements."""

    name: str
    """As `--only` and the JSON call it."""
    title: str
    seconds: Callable[[float, int], float]
    """On one database at this scale with so many rounds, about; beside Debezium."""
    figures: type[FiguresT]
    """The dataclass that `measure` returns."""
    measure: Callable[[Scene], FiguresT]
    headings: Sequence[str]
    """Of the table, without the first one: the database."""
    rows: Callable[[FiguresT], Sequence[Sequence[str]]]
    """The lines of the table."""

    def to_json(self, figures: FiguresT) -> Any:
        """The figures of one database as plain values."""
        return TypeAdapter(self.figures).dump_python(figures, mode="json")

    def from_json(self, content: Any) -> FiguresT:
        """The reverse of `to_json`."""
        return TypeAdapter(self.figures).validate_python(content)


def thousands(number: float) -> str:
    """`12,345`."""
    return f"{number:,.0f}"


def milliseconds(seconds: float) -> str:
    """`1.2 ms`."""
    return f"{seconds * 1000:.1f} ms"


def cpu_per_event(microseconds: float, events: int) -> str:
    """`1.2 µs`; `-` where there were too few events."""
    return f"{microseconds:.1f} µs" if events >= LEAST_EVENTS else "-"


def mebibytes(size: float) -> str:
    """`80 MiB`."""
    return f"{size / 2**20:.0f} MiB"
