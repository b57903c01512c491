"""A backlog of one aggregate, of some, and of very many."""

from collections.abc import Sequence
from functools import partial
from typing import Final

from bench.contenders import contenders
from bench.measurements import contest
from bench.measurements.contest import Contest
from bench.measurements.measurement import Measurement
from bench.scene import Scene, fewer

EVENTS: Final = 200_000
"""Of each backlog, so that each of MOST aggregates has some."""
FEW: Final = (1, 100)
MOST: Final = 100_000
ONE: Final = "1 aggregate"


def measure(scene: Scene) -> Contest:
    """All contenders with each number."""
    events = scene.events(EVENTS)
    with contenders(scene) as found:
        turns = {
            (variant(number), one.name): partial(one.drain, events=events, aggregates=number)
            for number in numbers(events)
            for one in found
        }
        return contest.hold(scene, turns, scene.fewer_rounds)


def numbers(events: int) -> Sequence[int]:
    """Of aggregates. In a trial there are as many as two events of each allow, at most."""
    return *FEW, min(MOST, events // 2)


def variant(number: int) -> str:
    """As the table calls it."""
    return f"{number:,} aggregate{'s' if number > 1 else ''}"


def most(figures: Contest) -> str:
    """The variant with the most aggregates."""
    return max((one.variant for one in figures.drained), key=lambda name: int(name.split()[0].replace(",", "")))


MEASUREMENT: Final = Measurement(
    "aggregates",
    "Number of aggregates",
    lambda scale, rounds: 25 + fewer(rounds) * (32 + 205 * scale),
    Contest,
    measure,
    contest.HEADINGS,
    contest.rows,
)
