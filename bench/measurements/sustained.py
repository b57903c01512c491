"""The highest rate at which writers may write while nothing piles up."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from statistics import median
from typing import Any, Final

from bench.backlog import migrated_database, scalar
from bench.drain import newest_id, wait_until_drained
from bench.measurements.measurement import Measurement, milliseconds, thousands
from bench.program import Process
from bench.scene import Scene
from bench.topic import compare, create_topic, read_topic
from bench.writer import Writer, steady

SECONDS: Final = 6.0
"""Of each step."""
START: Final = 4000
"""Events per second of the first step."""
STEPS: Final = 7
PRECISION: Final = 0.1
"""The search ends when the rates that held and broke are as near to each other as this."""
KEPT_RATE: Final = 0.95
"""Share of the rate that the writers have to reach; else they, or the database, are the limit."""
FLAT: Final = 0.5
"""Seconds of the oldest age, late in the step, up to which it counts as flat."""
WATCH_INTERVAL: Final = 0.2

OLDEST: Final = (
    "SELECT COALESCE(TIMESTAMPDIFF(MICROSECOND, MIN(created_at), NOW(6)), 0) / 1e6 FROM outbox_events "
    "FORCE INDEX (idx_relay) WHERE status = 0"
)

_seeds = count(100_000)


@dataclass(frozen=True)
class Step:
    """One rate. `late_age`: the median of the oldest age in the last third; `early_age`: in the first."""

    wanted: int
    written: float
    early_age: float
    late_age: float

    @property
    def kept_up(self) -> bool:
        """Whether nothing piled up."""
        return self.late_age <= max(FLAT, 2 * self.early_age) and self.late_age < 2 * FLAT

    @property
    def holds(self) -> bool:
        """Whether everybody kept up, the writers too."""
        return self.kept_up and self.written >= KEPT_RATE * self.wanted


@dataclass(frozen=True)
class Sustained:
    """The search. `limit`: who could do no more at the next higher rate."""

    rate: int
    limit: str
    steps: list[Step]
    flaws: list[str]


def search(holds: Callable[[int], bool], *, start: int, steps: int, precision: float = PRECISION) -> int:
    """The highest rate that was seen to hold, after at most `steps` rates; 0 when none did.

    It doubles until a rate breaks, then halves the difference.
    """
    low, high, rate = 0, 0, start
    for _ in range(steps):
        if holds(rate):
            low = rate
        else:
            high = rate
        if high and high - low <= precision * high:
            break
        rate = (low + high) // 2 if high else 2 * low
    return low


def measure(scene: Scene) -> Sustained:
    """One daemon and one table for all steps; between two of them it drains what is left."""
    steps: list[Step] = []
    flaws: list[str] = []
    with (
        migrated_database(scene.server) as database,
        scene.server.connect(database) as connection,
        scene.outboxd().start_ready(
            scene.server.url(database), scene.kafka.bootstrap, scene.log("sustained")
        ) as process,
    ):

        def step_holds(rate: int) -> bool:
            step, flaw = _step(scene, database, connection, process, rate)
            steps.append(step)
            flaws.extend(flaw)
            scene.tell(
                f"{rate:,} events/s: {step.written:,.0f} written, oldest age {step.late_age:.2f} s: "
                + ("holds" if step.holds else "does not hold")
            )
            return step.holds

        start = max(200, round(START * min(1.0, scene.scale * 4)))
        # A machine stumbles now and then: what breaks is asked once more.
        rate = search(
            lambda rate: step_holds(rate) or step_holds(rate), start=start, steps=STEPS if scene.scale >= 0.5 else 3
        )
        process.stop()
    scene.sustained = rate
    return Sustained(rate, limit_of(rate, steps), steps, flaws)


def limit_of(rate: int, steps: Sequence[Step]) -> str:
    """Who could do no more above `rate`."""
    broken = [step for step in steps if step.wanted > rate and not step.holds]
    if not broken:
        return "not found"
    nearest = min(broken, key=lambda step: step.wanted)
    return "writers or database" if nearest.kept_up else "outboxd"


def half(scene: Scene) -> int | None:
    """Half of the sustained maximum, which is searched for if it is not known yet; None when no rate holds."""
    if scene.sustained is None:
        scene.tell("half of the sustained maximum is needed, so that is measured first")
        measure(scene)
    return scene.sustained // 2 if scene.sustained else None


def _step(scene: Scene, database: str, connection: Any, process: Process, rate: int) -> tuple[Step, list[str]]:
    topic = create_topic(scene.kafka)
    low = newest_id(connection)
    load = steady(rate, scene.seconds(SECONDS, least=2.0), seed=next(_seeds))
    with Writer(scene.server.url(database), topic, load, scene.folder / f"{topic}.json") as writer:
        writer.start()
        ages = []
        while writer.running:
            ages.append(float(scalar(connection, OLDEST)))
            time.sleep(WATCH_INTERVAL)
        ledger = writer.finish()
    wait_until_drained(process, connection, scene.kafka, topic, len(ledger.committed), low)
    delivery = compare(read_topic(scene.kafka, topic), ledger.written)
    scene.kafka.delete_topic(topic)
    third = max(1, len(ages) // 3)
    step = Step(rate, ledger.rate, median(ages[:third]), median(ages[-third:]))
    return step, [] if delivery.flawless else [f"at {rate}/s: {delivery}"]


def rows(figures: Sustained) -> Sequence[Sequence[str]]:
    """For a table: the maximum, then each step in the order of the search."""
    lines = [("sustained maximum", thousands(figures.rate), "", "", f"limit: {figures.limit}", _flaws(figures))]
    lines += [
        (
            "step",
            thousands(step.wanted),
            thousands(step.written),
            milliseconds(step.late_age),
            "holds" if step.holds else "does not hold",
            "",
        )
        for step in figures.steps
    ]
    return lines


def _flaws(figures: Sustained) -> str:
    return "; ".join(figures.flaws) or "none"


MEASUREMENT: Final = Measurement(
    "sustained",
    "Sustained rate",
    100,
    Sustained,
    measure,
    ("", "events/s", "written/s", "oldest age at the end", "", "flaws"),
    rows,
)
