"""What the user sees meanwhile: a line a step, and bars while events flow. Plain lines where it is no terminal."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class Stage:
    """Writes to a console."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._mark = "✓" if console.encoding.lower().startswith("utf") else "-"

    def say(self, text: str) -> None:
        """A line."""
        self._console.print(escape(text), highlight=False, soft_wrap=True)

    def tail(self, lines: Sequence[str]) -> None:
        """The end of a log."""
        for line in lines:
            self._console.print(f"[dim]  | {escape(line)}[/]", highlight=False, soft_wrap=True)

    @contextmanager
    def step(self, doing: str) -> Iterator[Callable[[str], None]]:
        """Shows what is being done; the block calls what it is given with what came of it."""
        began = time.monotonic()
        outcome = [doing]
        with self._console.status(f"{escape(doing)} ..."):
            yield outcome.append
        self._done(outcome[-1], time.monotonic() - began)

    @contextmanager
    def bars(self, doing: str, totals: Mapping[str, int]) -> Iterator[Callable[[Sequence[int]], None]]:
        """As `step`, with a bar for each total; the block calls what it is given with how far each is."""
        began = time.monotonic()
        progress = Progress(
            TextColumn("  {task.description}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TextColumn("[dim]{task.fields[pace]}"),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )
        with progress:
            tasks = [progress.add_task(name, total=total, pace="") for name, total in totals.items()]

            def update(numbers: Sequence[int]) -> None:
                seconds = max(0.1, time.monotonic() - began)
                for task, number in zip(tasks, numbers, strict=True):
                    progress.update(task, completed=number, pace=f"{number / seconds:,.0f}/s")

            yield update
        self._done(doing, time.monotonic() - began)

    def _done(self, what: str, seconds: float) -> None:
        line = f"[green]{self._mark}[/] {escape(what)} [dim]({seconds:.1f} s)[/]"
        self._console.print(line, highlight=False, soft_wrap=True)
