"""The targets, and whether a result reaches them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from bench.measurements.contest import Contest
from bench.program import Outboxd
from bench.result import Result

OUTBOXD: Final = Outboxd().name


@dataclass(frozen=True)
class Verdict:
    """One target on one database. `reached` is None when it was not measured."""

    database: str
    target: str
    wanted: str
    measured: str
    reached: bool | None


def verdicts(result: Result) -> Iterator[Verdict]:
    """All targets on all databases."""
    for database in result.databases:
        for target, wanted, judge in (("drain", "at least 0.85 of the bare loop", _drain),):
            measured, reached = judge(result, database) or ("", None)
            yield Verdict(database, target, wanted, measured, reached)


def _drain(result: Result, database: str) -> tuple[str, bool] | None:
    contest: Contest | None = result.get("drain", database)
    ratio = contest.ratio(OUTBOXD) if contest else None
    return (f"{ratio:.2f}", ratio >= 0.85) if ratio else None
