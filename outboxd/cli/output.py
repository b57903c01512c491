"""What commands print: tables on a terminal; elsewhere a line for each row, with tabs between its fields."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

SHORT: Final = 80
"""Characters of a sentence in a table."""


def printable(value: Any) -> str:
    """On one line, and without what could steer a terminal: the values come from applications."""
    if value is None:
        return "-"
    text = str(value)
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def shortened(text: str | None) -> str | None:
    """The beginning of a long sentence."""
    return text if text is None or len(text) <= SHORT else f"{text[: SHORT - 1].rstrip()}…"


def on_terminal() -> bool:
    """Whether a person reads the output."""
    return sys.stdout.isatty()


def fields(*values: Any) -> None:
    """A line, with tabs between the values."""
    click.echo("\t".join(printable(value) for value in values))


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> None:
    """A table with a head, as the terminal's or in lines. The title is the terminal's alone."""
    if not on_terminal():
        fields(*columns)
        for row in rows:
            fields(*row)
        return
    drawn = Table(box=box.ROUNDED, title=title, title_justify="left", title_style="bold")
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(printable(value)) for value in row))
    Console().print(drawn)
