"""The table at the end, and what a failed scenario leaves to look at."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tests.chaos.result import Result
from tests.chaos.scenario import MEGABYTE

COLUMNS = ("scenario", "on", "times", "committed", "delivered", "missing", "reordered", "twice", "explained", "dead")
MORE = ("attempts", "recovery", "memory", "took", "")

SUMS = (
    *("committed", "delivered", "missing", "reordered", "changed", "strangers"),
    *("duplicates", "explained", "dead_letters", "rounds"),
)
WORST = ("attempts", "recovery", "memory", "seconds")


def line(result: Result) -> str:
    """One scenario, as soon as it is over."""
    mark = "ok    " if result.passed else "FAILED"
    return (
        f"{mark} {result.scenario} ({result.database}): {result.committed:,} committed, {result.duplicates} twice, "
        f"recovered in {result.recovery:.1f} s, took {result.seconds:.1f} s"
    )


def failure(result: Result, again: str) -> str:
    """All that helps to find out why."""
    parts = [f"{result.scenario} on {result.database} FAILED", *(f"  - {problem}" for problem in result.problems)]
    if result.differences:
        parts += ["  events:", *(f"    {difference}" for difference in result.differences)]
    parts += ["  the daemons said last:", *(f"    {said}" for said in result.log), f"  again: {again}"]
    return "\n".join(parts)


def total(results: Sequence[Result]) -> list[Result]:
    """A long run plays a scenario many times: its sums, and the worst of what is not a sum."""
    totals: dict[tuple[str, str], Result] = {}
    for result in results:
        whole = totals.setdefault(
            (result.scenario, result.database), Result(result.scenario, result.database, rounds=0)
        )
        for name in SUMS:
            setattr(whole, name, getattr(whole, name) + getattr(result, name))
        for name in WORST:
            setattr(whole, name, max(getattr(whole, name), getattr(result, name)))
        whole.problems += result.problems
    return list(totals.values())


def table(results: Sequence[Result], console: Console) -> None:
    """All figures."""
    results, runs = total(results), len(results)
    shown = Table(*COLUMNS, *MORE)
    for column in shown.columns[2:]:
        column.justify = "right"
    for result in results:
        shown.add_row(
            result.scenario,
            result.database,
            str(result.rounds),
            f"{result.committed:,}",
            f"{result.delivered:,}",
            *map(str, (result.missing, result.reordered, result.duplicates, result.explained, result.dead_letters)),
            str(result.attempts),
            f"{result.recovery:.1f} s",
            f"{result.memory / MEGABYTE:.0f} MB",
            f"{result.seconds:.1f} s",
            "ok" if result.passed else "FAILED",
            style=None if result.passed else "bold red",
        )
    console.print(shown)
    failed = sum(not result.passed for result in results)
    committed = sum(result.committed for result in results)
    console.print(f"{len(results)} scenarios played {runs} times, {failed} failed; {committed:,} events")
