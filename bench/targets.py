"""The targets, and whether a result reaches them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from bench.measurements import aggregates, replicas, sent_rows
from bench.measurements.latency import DOORBELL, POLLING
from bench.measurements.measurement import LEAST_EVENTS
from bench.program import Outboxd
from bench.result import Result

OUTBOXD: Final = Outboxd().name
TUNED: Final = "Debezium, tuned"

LEAST_RATIO: Final = 0.85
AHEAD: Final = {"MySQL": 1.0, "MariaDB": 1.3}
MOST_CPU_US: Final = 18.0
MOST_MEMORY: Final = 90 * 10**6
LATENCIES: Final = {DOORBELL: (0.004, 0.010), POLLING: (0.030, 0.060)}
"""p50 and p99 by the way of waking."""
LATENCY_RATES: Final = (50, 500)
IDLE: Final = {DOORBELL: (2.0, 0.005), POLLING: (25.0, 0.02)}
"""Statements a second and share of a core by the way of waking."""
LONGEST_START: Final = 1.0
MOST_DUPLICATES: Final = 6000
FLAT: Final = 0.9
"""Of the rate in the small case."""
MOST_LOSS: Final = 0.05

Found = tuple[str, bool] | None
"""What was measured, and whether it reaches the target; None: it was not measured."""


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
        for target, wanted, judge in TARGETS:
            measured, reached = judge(result, database) or ("", None)
            yield Verdict(database, target, wanted, measured, reached)


def _drain(result: Result, database: str) -> Found:
    contest = result.get("drain", database)
    ratio = contest and contest.ratio(OUTBOXD)
    return (f"{ratio:.2f}", ratio >= LEAST_RATIO) if ratio else None


def _peer(result: Result, database: str) -> Found:
    contest = result.get("drain", database)
    ratio = contest and contest.ratio(OUTBOXD, to=TUNED)
    return (f"{ratio:.2f}", ratio > 1 and ratio >= AHEAD[database]) if ratio else None


def _cpu(result: Result, database: str) -> Found:
    contest = result.get("drain", database)
    own = contest and contest.of(OUTBOXD)
    if not own or own.events < LEAST_EVENTS:
        return None
    return f"{own.cpu_us_per_event:.1f} µs", own.cpu_us_per_event <= MOST_CPU_US


def _memory(result: Result, database: str) -> Found:
    contest = result.get("drain", database)
    own = contest and contest.of(OUTBOXD)
    return (f"{own.peak_rss / 1e6:.0f} MB", own.peak_rss <= MOST_MEMORY) if own else None


def _latency(way: str, rate: int) -> Callable[[Result, str], Found]:
    def judge(result: Result, database: str) -> Found:
        figures = result.get("latency", database)
        own = figures and figures.of(OUTBOXD, way, rate)
        if not own:
            return None
        p50, p99 = LATENCIES[way]
        return f"{own.p50 * 1000:.1f} and {own.p99 * 1000:.1f} ms", own.p50 <= p50 and own.p99 <= p99

    return judge


def _idle(way: str) -> Callable[[Result, str], Found]:
    def judge(result: Result, database: str) -> Found:
        figures = result.get("idle", database)
        own = figures and figures.of(OUTBOXD, way)
        if not own:
            return None
        statements, cpu = IDLE[way]
        reached = own.statements_per_second <= statements and own.cpu["daemon"] <= cpu
        return f"{own.statements_per_second:.1f} and {own.cpu['daemon']:.1%}", reached

    return judge


def _start(result: Result, database: str) -> Found:
    figures = result.get("start", database)
    own = figures and figures.of(OUTBOXD)
    return (f"{own.median:.2f} s", own.median <= LONGEST_START) if own else None


def _crash(result: Result, database: str) -> Found:
    figures = result.get("crash", database)
    own = figures and figures.of(OUTBOXD)
    if not own:
        return None
    delivery = own.delivery
    reached = delivery.duplicates <= MOST_DUPLICATES and not delivery.missing and not delivery.out_of_order
    return f"{delivery.duplicates:,} of {own.events:,}", reached


def _sent_rows(result: Result, database: str) -> Found:
    contest = result.get("sent-rows", database)
    ratio = contest and contest.ratio(OUTBOXD, sent_rows.FULL, to=OUTBOXD, to_variant=sent_rows.EMPTY)
    return (f"{ratio:.2f} ({result.sent_rows:,} rows)", ratio >= FLAT) if ratio else None


def _aggregates(result: Result, database: str) -> Found:
    contest = result.get("aggregates", database)
    if not contest:
        return None
    most = aggregates.most(contest)
    ratio = contest.ratio(OUTBOXD, most, to=OUTBOXD, to_variant=aggregates.ONE)
    return (f"{ratio:.2f} ({most})", ratio >= FLAT) if ratio else None


def _writers(result: Result, database: str) -> Found:
    figures = result.get("writers", database)
    loss = figures and figures.loss()
    return (f"{-loss:+.1%}", loss <= MOST_LOSS) if loss is not None else None


def _replicas(result: Result, database: str) -> Found:
    contest = result.get("replicas", database)
    one, two = replicas.variant(1), replicas.variant(2)
    ratio = contest and contest.ratio(OUTBOXD, two, to=OUTBOXD, to_variant=one)
    return (f"{ratio:.2f}", ratio >= 1) if ratio else None


TARGETS: Final[tuple[tuple[str, str, Callable[[Result, str], Found]], ...]] = (
    ("drain", "at least 0.85 of the bare loop", _drain),
    ("drain", "ahead of Debezium warm and tuned; on MariaDB 1.3 times", _peer),
    ("CPU of the daemon per event", "at most 18 µs", _cpu),
    ("resident memory while draining", "at most 90 MB", _memory),
    *(
        (
            f"commit to consumer, {rate}/s, {way}",
            f"p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms",
            _latency(way, rate),
        )
        for way, (p50, p99) in LATENCIES.items()
        for rate in LATENCY_RATES
    ),
    *(
        (f"idle, {way}", f"at most {statements:g} statements/s and {cpu:.1%} of a core", _idle(way))
        for way, (statements, cpu) in IDLE.items()
    ),
    ("start to first delivery", "1 s", _start),
    ("duplicates after kill -9 amid 100,000", "at most 6,000", _crash),
    ("rate with 10,000,000 sent rows", "within 10 % of that without", _sent_rows),
    ("rate with 100,000 aggregates", "within 10 % of that with 1", _aggregates),
    ("rate of the writers beside the daemon", "at most 5 % less than without", _writers),
    ("2 replicas on one machine", "no slower than one", _replicas),
)
