"""What every measurement has in common."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter

from bench.scene import Scene

FiguresT = TypeVar("FiguresT")


@dataclass(frozen=True)
class Measurement(Generic[FiguresT]):
    """One entry of the table of measurements."""

    name: str
    """As `--only` and the JSON call it."""
    title: str
    seconds: float
    """On one database at scale 1 with three rounds, about."""
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


def mebibytes(size: float) -> str:
    """`80 MiB`."""
    return f"{size / 2**20:.0f} MiB"
