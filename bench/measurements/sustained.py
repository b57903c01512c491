"""The highest rate at which writers may write while nothing piles up."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from statistics import median
from typing import Final, NamedTuple

from bench.contenders import bare_loop, outboxd, peers
from bench.drain import newest_id, wait_until_drained
from bench.measurements.measurement import Measurement, milliseconds, thousands
from bench.program import Process
from bench.scene import Scene
from bench.stage import Contender, Stage
from bench.topic import Message, compare, create_topic, read_topic
from bench.writer import Ledger, Writer, steady

SECONDS: Final = 6.0
"""Of each step, at any scale: in less, what piles up slowly does not show."""
START: Final = 4000
"""Events per second of the first step."""
STEPS: Final = 7
STEPS_BESIDE: Final = 6
"""Of the others, which begin at what outboxd has kept up with."""
WHOLE_SEARCH: Final = 0.5
"""The scale from which on so many rates are tried; below that STEPS_IN_A_TRIAL."""
STEPS_IN_A_TRIAL: Final = 3
PRECISION: Final = 0.1
"""The search ends when the rates that held and broke are as near to each other as this."""
KEPT_RATE: Final = 0.95
"""Share of the rate that the writers have to reach; else they, or the database, are the limit."""
FLAT: Final = 0.1
"""Seconds of the oldest age, late in the step, up to which it counts as flat: two polls."""
GROWTH: Final = 1.5
"""Late in the step the oldest age may be so many times what it was early, if that is more."""
OLDEST: Final = 1.0
"""Seconds of the oldest age that are too many, however flat."""
INTERVAL: Final = 0.2
"""Seconds between two looks at the oldest age."""

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
        return self.late_age <= max(FLAT, GROWTH * self.early_age) and self.late_age < OLDEST

    @property
    def holds(self) -> bool:
        """Whether everybody kept up, the writers too."""
        return self.kept_up and self.written >= KEPT_RATE * self.wanted


@dataclass(frozen=True)
class Search:
    """The search of one program. `limit`: who could do no more at the next higher rate."""

    program: str
    rate: int
    limit: str
    steps: list[Step]
    flaws: list[str]


@dataclass(frozen=True)
class Sustained:
    """All programs."""

    searches: list[Search]

    def of(self, program: str) -> Search | None:
        """One of them."""
        return next((one for one in self.searches if one.program == program), None)


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
    """outboxd first: the others begin where it ends."""
    own = search_outboxd(scene)
    start = own.rate or first_rate(scene)
    with peers(scene) as others:
        contenders: list[Contender] = [bare_loop(scene), *others]
        return Sustained([own, *(search_of(scene, one, start, STEPS_BESIDE) for one in contenders)])


def first_rate(scene: Scene) -> int:
    """Of the first step."""
    return max(200, round(START * min(1.0, scene.scale * 4)))


def search_outboxd(scene: Scene) -> Search:
    """Its rate is the scene's from then on."""
    found = search_of(scene, outboxd(scene), first_rate(scene), STEPS)
    scene.sustained = found.rate
    return found


def half(scene: Scene) -> int | None:
    """Half of the sustained maximum, which is searched for if it is not known yet; None when no rate holds."""
    if scene.sustained is None:
        scene.tell("half of the sustained maximum is needed, so that is measured first")
        search_outboxd(scene)
    return scene.sustained // 2 if scene.sustained else None


def search_of(scene: Scene, contender: Contender, start: int, steps: int) -> Search:
    """One process and one table for all steps; between two of them it drains what is left."""
    done: list[Step] = []
    flaws: list[str] = []
    with contender.stage() as stage, stage.ready() as process:

        def step_holds(rate: int) -> bool:
            step, flaw = _step(scene, stage, process, rate)
            done.append(step)
            flaws.extend(flaw)
            scene.tell(
                f"{contender.name}, {rate:,} events/s: {step.written:,.0f} written, oldest age {step.late_age:.2f} s: "
                + ("holds" if step.holds else "does not hold")
            )
            return step.holds

        # A machine stumbles now and then: what breaks is asked once more.
        rate = search(
            lambda rate: step_holds(rate) or step_holds(rate),
            start=start,
            steps=steps if scene.scale >= WHOLE_SEARCH else min(steps, STEPS_IN_A_TRIAL),
        )
    return Search(contender.name, rate, limit_of(contender.name, rate, done), done, flaws)


def limit_of(program: str, rate: int, steps: Sequence[Step]) -> str:
    """Who could do no more above `rate`."""
    broken = [step for step in steps if step.wanted > rate and not step.holds]
    if not broken:
        return "not found"
    nearest = min(broken, key=lambda step: step.wanted)
    return "writers or database" if nearest.kept_up else program


def _step(scene: Scene, stage: Stage, process: Process, rate: int) -> tuple[Step, list[str]]:
    topic = create_topic(scene.kafka)
    low = newest_id(stage.connection)
    load = steady(rate, scene.seconds(SECONDS, least=SECONDS), seed=next(_seeds))
    with Writer(scene.server.url(stage.database), topic, load, scene.folder / f"{topic}.json") as writer:
        writer.start()
        ledger = writer.finish()
    wait_until_drained(process, stage.connection, scene.kafka, topic, len(ledger.committed), low)
    messages = list(read_topic(scene.kafka, topic))
    scene.kafka.delete_topic(topic)
    oldest = list(ages(waits(ledger, messages), looks(ledger)))
    third = max(1, len(oldest) // 3)
    step = Step(rate, ledger.rate, median(oldest[:third]), median(oldest[-third:]))
    delivery = compare(messages, ledger.written)
    return step, [] if delivery.flawless else [f"at {rate}/s: {delivery}"]


class Wait(NamedTuple):
    """From when to when an event waited, by `time.monotonic`: COMMIT was answered, the broker had it."""

    committed: float
    appended: float


def waits(ledger: Ledger, messages: Iterable[Message]) -> list[Wait]:
    """Of all events; what did not arrive waits for ever."""
    behind = time.time() - time.monotonic()
    appended: dict[str, float] = {}
    for message in messages:
        appended.setdefault(message.event_id, message.appended_ms / 1000 - behind)
    return [Wait(committed, appended.get(event, float("inf"))) for event, committed in ledger.committed.items()]


def looks(ledger: Ledger) -> list[float]:
    """The times at which the oldest age is looked at: as long as there was writing."""
    return [ledger.began + number * INTERVAL for number in range(1, 1 + int((ledger.ended - ledger.began) / INTERVAL))]


def ages(waited: Iterable[Wait], times: Iterable[float]) -> Iterator[float]:
    """The age of the oldest event that waited at each of the times, which rise; 0 when none did."""
    by_commit = sorted(waited)
    place = 0
    for now in times:
        while place < len(by_commit) and by_commit[place].appended <= now:
            place += 1
        yield max(0.0, now - by_commit[place].committed) if place < len(by_commit) else 0.0


def rows(figures: Sustained) -> Sequence[Sequence[str]]:
    """For a table: of each program the maximum, then each step in the order of the search."""
    lines = []
    for one in figures.searches:
        maximum = ("sustained maximum", thousands(one.rate), "", "", f"limit: {one.limit}")
        lines.append((one.program, *maximum, "; ".join(one.flaws) or "none"))
        lines += [
            (
                one.program,
                "step",
                thousands(step.wanted),
                thousands(step.written),
                milliseconds(step.late_age),
                "holds" if step.holds else "does not hold",
                "",
            )
            for step in one.steps
        ]
    return lines


MEASUREMENT: Final = Measurement(
    "sustained",
    "Sustained rate",
    lambda scale, _: 25 + (330 if scale >= WHOLE_SEARCH else 150),
    Sustained,
    measure,
    ("program", "", "events/s", "written/s", "oldest age at the end", "", "flaws"),
    rows,
)
